"""Forked children for tests: what they say is read through a pipe, and none may hang."""

from __future__ import annotations

import os
import select
import signal
import warnings
from collections.abc import Callable

PATIENCE = 30.0


class Child:
    """A forked child that runs an action, says what came of it, and ends at once."""

    def __init__(self, action: Callable[[], str]) -> None:
        self._pipe, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # forking beside threads is the point
            self.pid = os.fork()
        if self.pid == 0:
            try:
                said = action()
            except BaseException as error:  # noqa: BLE001 - told to the parent
                said = f"{type(error).__name__}: {error}"
            os.write(writing, said.encode()[:60_000])
            os._exit(0)
        os.close(writing)

    def said(self) -> str:
        """Wait for its end, and give what it said; one that hangs is killed and says so."""
        words = b""
        while True:
            if not select.select([self._pipe], [], [], PATIENCE)[0]:
                os.kill(self.pid, signal.SIGKILL)
                words = b"hung after " + words
                break
            piece = os.read(self._pipe, 65_536)
            if not piece:
                break
            words += piece
        os.close(self._pipe)
        os.waitpid(self.pid, 0)
        return words.decode()


def in_child(action: Callable[[], str]) -> str:
    """Run an action in a forked child, and give what it said."""
    return Child(action).said()
