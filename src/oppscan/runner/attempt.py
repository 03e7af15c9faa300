"""One coroutine strategy on an event loop: run so that nothing it raises gets out, and put down.

Laws
- Only the host's own interrupt passes through: whatever else a strategy raises is its answer.
- A coroutine is cancelled and given a moment to end; one that swallows its cancellation is closed
  under its feet.
- What comes at the end of its time, or later, is late.
- A generator that yields without ever waiting lets the loop go on every few milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing, suppress
from typing import Final, cast

from oppscan.clock import delay, elapsed
from oppscan.runner.answers import STOPPED, TIMED_OUT, End, Ended
from oppscan.runner.collected import Collected
from oppscan.runner.strategies import Flag, Kind, ScanContext, Strategy

GRACE: Final = 0.2
"""Seconds that a cancelled coroutine is given to end before it is closed."""

BREATH: Final = 0.005
"""Seconds for which a generator that never waits may hold its loop."""

_HEED: Final = 0.05


async def guarded(strategy: Strategy, context: ScanContext, collected: Collected) -> Ended:
    """Run a coroutine function or async generator; an exit must not reach the event loop."""
    try:
        made = strategy.bound(context)()
        if strategy.kind is Kind.COROUTINE:
            return Ended(End.ANSWERED, await cast("Awaitable[object]", made))
        async with aclosing(cast("AsyncGenerator[object]", made)) as generator:
            await _collect(generator, context, collected)
        return Ended(End.ANSWERED, collected)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is the answer
        return Ended(End.RAISED, None, error)


async def _collect(
    generator: AsyncGenerator[object], context: ScanContext, collected: Collected
) -> None:
    """Keep what a generator yields, until it ends or should; also one that never waits."""
    rested = elapsed()
    async for item in generator:
        if context.cancelled:
            return
        collected.add(item)
        if elapsed() - rested >= BREATH:
            await delay(0)
            rested = elapsed()


def ended_of(task: asyncio.Task[Ended]) -> Ended:
    """Tell how the task of a strategy ended."""
    if task.cancelled():
        return Ended(End.RAISED, None, asyncio.CancelledError("it cancelled itself"))
    error = task.exception()
    return task.result() if error is None else Ended(End.RAISED, None, error)


async def put_down(task: asyncio.Task[Ended] | asyncio.Task[None]) -> None:
    """End a task: cancel it, wait a moment, then close its coroutine, which it cannot catch."""
    task.cancel()
    await asyncio.wait({task}, timeout=GRACE)
    coroutine = task.get_coro()
    if task.done() or coroutine is None:
        return
    with suppress(RuntimeError, asyncio.CancelledError):  # it ignored that too, or answers back
        coroutine.close()  # raises GeneratorExit where it waits
    task.cancel()
    await asyncio.wait({task}, timeout=GRACE)
    with suppress(asyncio.CancelledError, asyncio.InvalidStateError):
        task.exception()  # now it was asked for, and is nobody's business


async def run_alone(
    strategy: Strategy, context: ScanContext, collected: Collected, token: Flag
) -> Ended:
    """Run a coroutine strategy in a loop of its own, until it ends or its token is set."""
    task = asyncio.create_task(guarded(strategy, context, collected))
    while not (task.done() or context.cancelled):
        await asyncio.wait({task}, timeout=min(_HEED, context.remaining))
    if task.done() and not context.cancelled:
        return ended_of(task)
    ended = STOPPED if token.is_set() else TIMED_OUT
    token.set()
    await put_down(task)
    return ended


def time_left(deadline: float) -> float:
    """Give the seconds until a deadline; never below 0."""
    return max(0.0, deadline - elapsed())
