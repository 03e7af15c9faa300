"""The processes of the demonstration: started, listened to, killed, and never left behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import IO, Final, Self

from attrs import define, field

import oppscan
from oppscan.demo.wire import Go, Job, Message, message, packed

TICK: Final = 0.1  # seconds without a message after which the screen is drawn anyway
_LAST_WORDS: Final = 5.0  # seconds for a killed process to be gone

# Nothing in the working directory may stand in for a module, unless this very package is there.
_IN_PLACE: Final = Path(oppscan.__file__).parents[1] == Path.cwd()
_PATH_FLAGS: Final = () if _IN_PLACE else ("-P",)


class DemoFailed(Exception):
    """The demonstration cannot go on; the message says why, in one line."""


@define(eq=False)
class Member:
    """A child process; ``over`` once it says no more."""

    name: str
    process: subprocess.Popen[str]
    complaints: Path
    over: bool = False
    killed: bool = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def say(self, value: Job | Go) -> None:
        """Tell it something; a process that is gone hears nothing."""
        stdin = self.process.stdin
        if stdin is not None:
            with suppress(BrokenPipeError):  # why it ended is told by `fault`
                stdin.write(packed(value))
                stdin.flush()

    def fault(self) -> str | None:
        """Say what went wrong with a process that has ended, or None."""
        code = self.process.wait(_LAST_WORDS)
        if code == 0 or self.killed:
            return None
        told = self.complaints.read_text(errors="replace").strip().splitlines()
        return told[-1] if told else f"it ended with status {code}"


@define
class Crew:
    """All children; leaving the block ends them. ``folder`` takes what they complain about."""

    folder: Path
    members: list[Member] = field(factory=list)
    _heard: SimpleQueue[tuple[Member, Message | None]] = field(factory=SimpleQueue)
    _listeners: list[threading.Thread] = field(factory=list)

    def spawn(self, name: str, module: str, job: Job) -> Member:
        """Start a process that runs a module, and give it its job."""
        complaints = self.folder / f"{name.replace(' ', '-')}.err"
        with complaints.open("w") as stderr:
            process = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
                [sys.executable, *_PATH_FLAGS, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C in the terminal is for the parent alone
            )
        member = Member(name, process, complaints)
        self.members.append(member)
        listener = threading.Thread(target=self._listen, args=(member, process.stdout), daemon=True)
        self._listeners.append(listener)
        listener.start()
        member.say(job)
        return member

    def _listen(self, member: Member, stdout: IO[str]) -> None:
        for line in stdout:
            self._heard.put((member, message(line)))
        self._heard.put((member, None))

    def hear(self) -> Iterator[tuple[Member, Message]]:
        """Give what was said since, waiting a moment for the first word.

        Raises `DemoFailed` when a process has ended that should not have.
        """
        wait: float | None = TICK
        while True:
            try:
                member, said = self._heard.get(timeout=wait)
            except Empty:
                return
            wait = 0.0
            if said is not None:
                yield member, said
            else:
                member.over = True
                if fault := member.fault():
                    raise DemoFailed(f"{member.name} stopped: {fault}")

    def __enter__(self) -> Self:
        """Give the crew itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End what has not ended by itself, at once: nothing is left that is worth a wait."""
        for member in self.members:
            kill(member)
        for member, listener in zip(self.members, self._listeners, strict=False):
            member.process.wait(_LAST_WORDS)
            listener.join(_LAST_WORDS)
            for pipe in (member.process.stdin, member.process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # words that nobody heard any more
                        pipe.close()


def kill(member: Member) -> None:
    """End a process without a chance to say goodbye (SIGKILL)."""
    member.killed = True
    member.process.kill()
