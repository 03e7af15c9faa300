"""The only room that reads clocks and draws randomness; everything else is handed one of these.

Laws
- A store's time is integer milliseconds since the Unix epoch (floats and microseconds lose
  digits in Lua, and tests want exact boundaries).
- Pauses go through the clock too, so that a test which steps a manual clock wakes its sleepers.
- Limits on one operation (``op_timeout``) are real time always: `elapsed` and `delay`.
- Ids carry 128 random bits: scan ids are capabilities, and must not be guessable.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Protocol


class Clock(Protocol):
    """A source of store time, and of pauses measured in it."""

    def now(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...

    def elapsed(self) -> float:
        """Seconds since some fixed point; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Pause the running task."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Pause the running thread until ``event`` is set (True) or ``seconds`` are over."""
        ...


class IdSource(Protocol):
    """A source of ids that no two callers are ever given twice."""

    def scan_suffix(self) -> str:
        """32 hex digits."""
        ...

    def operation(self) -> str:
        """16 hex digits, for one write."""
        ...


class SystemClock:
    """The host's wall clock: what several processes of one host share."""

    def now(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def elapsed(self) -> float:
        """Seconds since some fixed point; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Pause the running task."""
        await asyncio.sleep(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Pause the running thread until ``event`` is set (True) or ``seconds`` are over."""
        return event.wait(seconds)


class SteadyClock(SystemClock):
    """Wall time at its creation, then monotonic: one process, no steps backwards."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now(self) -> int:
        """Milliseconds since the Unix epoch; never goes back."""
        return (time.monotonic_ns() + self._offset_ns) // 1_000_000


class RandomIds:
    """Ids from the operating system's randomness."""

    def scan_suffix(self) -> str:
        """32 hex digits: 128 random bits."""
        return os.urandom(16).hex()

    def operation(self) -> str:
        """16 hex digits: 64 random bits, compared only with their neighbours in one chain."""
        return os.urandom(8).hex()


def elapsed() -> float:
    """Real seconds since some fixed point, for bounds on one operation."""
    return time.monotonic()


async def delay(seconds: float) -> None:
    """Pause the running task for real seconds, between two tries of one operation."""
    await asyncio.sleep(seconds)


def delay_blocking(seconds: float) -> None:
    """Pause the running thread for real seconds, between two tries of one operation."""
    threading.Event().wait(seconds)
