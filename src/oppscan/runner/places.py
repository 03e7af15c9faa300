"""Where blocking strategies run, as the runners see it; threads are the place by default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from oppscan.inputs import describe_error
from oppscan.runner.collected import Collected
from oppscan.runner.strategies import (
    ContextToken,
    Flag,
    ScanContext,
    Strategy,
    StrategyRaised,
    call_blocking,
)
from oppscan.runner.threads import BlockingThreads, Done


class Task(Struct, frozen=True):
    """One blocking strategy to be run once.

    ``finish`` turns its answer into what is recorded. It is called where the strategy ran, or at
    least off the event loop, because checking a large answer takes time.
    """

    strategy: Strategy
    context: ScanContext
    collected: Collected
    token: Flag
    seconds: float
    finish: Callable[[object], object]


class Running(Protocol):
    """A task under way."""

    def abandon(self) -> None:
        """Care no more for its answer: tell it to stop, and free its place."""
        ...


class Place(Protocol):
    """Runs blocking strategies."""

    def start(self, task: Task, done: Done) -> Running:
        """Run a task; ``done(answer, error)`` is called once, in any thread."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether a task would begin at once; also where it would be refused at once."""
        ...

    def close(self) -> None:
        """Stop what can be stopped."""
        ...


def run_blocking(task: Task) -> object:
    """Run a function or generator where this is called; what it raises is told as text.

    The text is found here, because foreign code finds it, and may take its time.
    """
    bound, kind = task.strategy.bound(task.context), task.strategy.kind
    late = ContextToken(task.context)
    try:
        answer = call_blocking(bound, kind, task.collected, task.token, late)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer
        raise StrategyRaised(describe_error(error, "error")) from None
    return task.finish(answer)


class ThreadPlace:
    """Daemon threads of this process; ``run`` runs one task in its thread."""

    def __init__(
        self, threads: BlockingThreads, run: Callable[[Task], object] = run_blocking
    ) -> None:
        self._threads = threads
        self._run = run

    def start(self, task: Task, done: Done) -> Running:
        """Run a task in a thread; raises `TooManyHungThreads`."""
        return _InThread(self._threads, lambda: self._run(task), done, task.token)

    @property
    def has_room(self) -> bool:
        """Whether there is a thread for one more, or none ever again."""
        return self._threads.has_room

    def close(self) -> None:
        """Let idle threads end."""
        self._threads.close()


class _InThread:
    def __init__(
        self, threads: BlockingThreads, call: Callable[[], object], done: Done, token: Flag
    ) -> None:
        self._threads = threads
        self._token = token
        self._job = threads.start(call, done)

    def abandon(self) -> None:
        self._token.set()
        self._threads.abandon(self._job)
