"""One strategy, run once on an event loop: until it answers, its time is over, or it is stopped.

Laws
- It ends for its runner when the first of these happens; what comes later changes nothing.
- A coroutine is cancelled and given a moment to end; one that swallows its cancellation is closed
  under its feet. A thread cannot be stopped: it is told by its token, and left behind.
- Only the host's own interrupt passes through: whatever else a strategy raises is its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Final, cast

from msgspec import Struct

from oppscan.clock import delay, elapsed
from oppscan.runner.places import Place, Task
from oppscan.runner.strategies import Collected, Flag, Kind, ScanContext, Strategy

GRACE: Final = 0.2
"""Seconds that a cancelled coroutine is given to end before it is closed."""


_HEED: Final = 0.05


class End(Enum):
    """Why an attempt is over."""

    ANSWERED = auto()
    RAISED = auto()
    TIMED_OUT = auto()
    STOPPED = auto()


class Ended(Struct, frozen=True):
    """How an attempt ended: with an answer, an error, or neither."""

    why: End
    answer: object = None
    error: BaseException | None = None


_STOPPED: Final = Ended(End.STOPPED)
_TIMED_OUT: Final = Ended(End.TIMED_OUT)


class Attempt:
    """A strategy under way."""

    def __init__(
        self, strategy: Strategy, context: ScanContext, collected: Collected, token: Flag
    ) -> None:
        self.strategy = strategy
        self.context = context
        self.collected = collected
        self.token = token
        self._loop = asyncio.get_running_loop()
        self._ends_at = elapsed() + context.remaining
        self._over: asyncio.Future[Ended] = self._loop.create_future()

    def stop(self) -> None:
        """End it now, without an outcome."""
        self._end(_STOPPED)

    async def run_on_loop(self, seconds: float) -> Ended:
        """Run a coroutine function or async generator for at most ``seconds``."""
        task = self._loop.create_task(self._guarded())
        task.add_done_callback(self._take)
        ended = await self._wait(seconds)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=GRACE)
            _close(task)
        return ended

    async def run_elsewhere(
        self, place: Place, seconds: float, finish: Callable[[object], object]
    ) -> Ended:
        """Run a function or generator off the event loop for at most ``seconds``."""

        def done(answer: object, error: BaseException | None) -> None:
            ended = Ended(End.ANSWERED, answer) if error is None else Ended(End.RAISED, None, error)
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._end, ended, elapsed())

        task = Task(self.strategy, self.context, self.collected, self.token, seconds, finish)
        running = place.start(task, done)
        try:
            return await self._wait(seconds)
        finally:
            running.abandon()

    async def _wait(self, seconds: float) -> Ended:
        timer = self._loop.call_later(max(0.0, seconds), self._end, _TIMED_OUT)
        try:
            return await self._over
        finally:
            timer.cancel()
            self.token.set()

    def _end(self, ended: Ended, at: float = 0.0) -> None:
        """End the attempt, for the first time; what comes ``at`` its end or later is late."""
        if not self._over.done():
            self._over.set_result(_TIMED_OUT if at >= self._ends_at else ended)

    def _take(self, task: asyncio.Task[object]) -> None:
        if task.cancelled():
            error: BaseException | None = asyncio.CancelledError("it cancelled itself")
        else:
            error = task.exception()
        if error is None:
            self._end(cast("Ended", task.result()), elapsed())
        else:
            self._end(Ended(End.RAISED, None, error), elapsed())

    async def _guarded(self) -> object:
        """Run the strategy; an exit that it raises must not reach the event loop."""
        try:
            made = self.strategy.bound(self.context)()
            if self.strategy.kind is Kind.COROUTINE:
                return Ended(End.ANSWERED, await cast("Awaitable[object]", made))
            generator = cast("AsyncGenerator[object]", made)
            async for item in generator:
                self.collected.items.append(item)
                if self.token.is_set():
                    await generator.aclose()
            return Ended(End.ANSWERED, self.collected.snapshot())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is the answer
            return Ended(End.RAISED, None, error)


def time_left(deadline: float) -> float:
    """Give the seconds until a deadline; never below 0."""
    return max(0.0, deadline - elapsed())


async def run_alone(
    strategy: Strategy, context: ScanContext, collected: Collected, token: Flag
) -> Ended:
    """Run a coroutine strategy in a loop of its own, until it ends or its token is set."""
    attempt = Attempt(strategy, context, collected, token)

    async def heed() -> None:
        while not token.is_set():
            await delay(_HEED)
        attempt.stop()

    heeding = asyncio.create_task(heed())
    try:
        return await attempt.run_on_loop(context.remaining)
    finally:
        heeding.cancel()


def _close(task: asyncio.Task[object]) -> None:
    """End a task that swallowed its cancellation: close its coroutine, which it cannot catch."""
    coroutine = task.get_coro()
    if task.done() or coroutine is None:
        return
    with suppress(RuntimeError):  # it ignored that too; nothing more can be done
        coroutine.close()  # raises GeneratorExit where it waits
    task.cancel()
