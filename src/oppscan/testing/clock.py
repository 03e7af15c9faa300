"""`ManualClock`: time that passes when a test says so, for tasks and threads alike.

Laws
- Time stands still but for `advance` and `jump`; it never goes back.
- Whoever sleeps on the clock is *parked*. Moving the clock wakes, in order of their deadlines,
  all whose time has come; until each of them is parked again or has ended, the clock is *busy*.
- `advance` goes from deadline to deadline, and waits at each until nobody is busy: so heartbeats
  and polls happen at their own instants, exactly as they would in real time, in any number of
  event loops and threads. `jump` is what a frozen machine sees: one leap.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from math import ceil
from typing import Any, Final

from attrs import frozen

from oppscan.clock import elapsed

START: Final = 1_700_000_000_000
"""Milliseconds since the Unix epoch at which a manual clock begins: 2023-11-14 22:13:20 UTC."""

PATIENCE: Final = 5.0
"""Real seconds that a busy clock is waited for, before a test is told who hangs."""

_LOOK: Final = 0.01  # real seconds after which a parked thread looks at its event
_TURNS: Final = 8  # of the event loop, so that what a woken task set off has happened too

Party = asyncio.Task[Any] | threading.Thread


@frozen
class _Parked:
    until: int
    wake: Callable[[], object]


class ManualClock:
    """A clock that a test moves. Thread-safe; serves any number of event loops."""

    def __init__(self, start: int = START) -> None:
        self._start = self._now = start
        self._moved = threading.Condition()
        self._parked: dict[Party, _Parked] = {}
        self._awake: set[Party] = set()

    def now(self) -> int:
        """Milliseconds since the Unix epoch."""
        return self._now

    def elapsed(self) -> float:
        """Seconds since the clock began."""
        return (self._now - self._start) / 1000

    # --- What sleepers call ---------------------------------------------------------------------

    async def sleep(self, seconds: float) -> None:
        """Park the running task until the clock has moved by ``seconds``."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        woken: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            loop.call_soon_threadsafe(_resolve, woken)

        with self._moved:
            self._park(task, seconds, wake)
        try:
            await woken
        finally:
            with self._moved:
                self._parked.pop(task, None)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Park the running thread until ``event`` is set (True) or the clock has moved."""
        me = threading.current_thread()
        with self._moved:
            until = self._park(me, seconds, self._moved.notify_all)
            try:
                while self._now < until and not event.is_set():
                    self._moved.wait(_LOOK)
            finally:
                self._parked.pop(me, None)
        return event.is_set()

    def _park(self, party: Party, seconds: float, wake: Callable[[], object]) -> int:
        until = self._now + max(0, ceil(seconds * 1000 - 1e-6))
        self._awake.discard(party)
        self._parked[party] = _Parked(until, wake)
        return until

    # --- What tests call ------------------------------------------------------------------------

    def expect(self, party: Party) -> None:
        """Count a task or thread that was just made as busy, until it is parked or ends."""
        with self._moved:
            if party not in self._parked:
                self._awake.add(party)

    def jump(self, seconds: float) -> None:
        """Move the clock in one leap; whoever is woken runs only after it."""
        with self._moved:
            self._move_to(self._now + round(seconds * 1000))

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass: everybody who sleeps meanwhile wakes at the right instant."""
        end = self._now + round(seconds * 1000)
        await self.settled()
        while (until := self._next(end)) is not None:
            with self._moved:
                self._move_to(until)
            await self.settled()

    def advance_blocking(self, seconds: float) -> None:
        """Let ``seconds`` pass, from a thread without an event loop."""
        end = self._now + round(seconds * 1000)
        self.settled_blocking()
        while (until := self._next(end)) is not None:
            with self._moved:
                self._move_to(until)
            self.settled_blocking()

    async def settled(self) -> None:
        """Wait until everybody who was woken is parked again or has ended.

        Raises `TimeoutError` after five real seconds, naming who is not.
        """
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        deadline = elapsed() + PATIENCE
        turns = 0
        while busy := self._busy(asyncio.current_task()):
            self._check(busy, deadline)
            turns += 1
            await asyncio.sleep(0 if turns < 4 * _TURNS else 0.0005)
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def settled_blocking(self) -> None:
        """Wait until everybody who was woken is parked again or has ended; without a loop."""
        deadline = elapsed() + PATIENCE
        while busy := self._busy(threading.current_thread()):
            self._check(busy, deadline)
            with self._moved:
                self._moved.wait(0.0005)

    def _move_to(self, instant: int) -> None:
        self._now = max(self._now, instant)
        due = [(parked.until, party) for party, parked in self._parked.items()]
        for until, party in sorted(due, key=lambda pair: pair[0]):
            if until > self._now:
                break
            parked = self._parked.pop(party)
            self._awake.add(party)
            try:
                parked.wake()
            except RuntimeError:  # its event loop was closed
                self._awake.discard(party)

    def _next(self, end: int) -> int | None:
        """Give the next instant to stop at, up to ``end``; None when that is behind."""
        with self._moved:
            if self._now >= end:
                return None
            return min([end, *(max(p.until, self._now) for p in self._parked.values())])

    def _busy(self, me: Party | None) -> list[Party]:
        with self._moved:
            self._awake = {party for party in self._awake if not _ended(party)}
            return [
                party
                for party in self._awake
                if party is not me and party is not threading.current_thread()
            ]

    def _check(self, busy: list[Party], deadline: float) -> None:
        if elapsed() > deadline:
            msg = f"woken, but neither parked again nor ended: {busy}"
            raise TimeoutError(msg)


def _ended(party: Party) -> bool:
    return party.done() if isinstance(party, asyncio.Task) else not party.is_alive()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
