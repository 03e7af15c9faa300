"""`FaultyStore`: a store whose answers a test can count, delay, lose and refuse.

It wraps another store, and stands for one worker's way to it. What it does to a request is
scripted beforehand; what is not scripted passes through untouched.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, TypeVar

from attrs import define

from oppscan.backends.base import StorageBackend
from oppscan.clock import Clock
from oppscan.errors import StorageFull, StorageMisconfigured, StorageUnavailable
from oppscan.ops import Request

R = TypeVar("R")


class Fault(Enum):
    """What can happen to one request."""

    FAIL = auto()
    """Refused before anything was applied: `StorageUnavailable`."""
    DROP = auto()
    """Applied; the reply is lost: `StorageUnavailable`."""
    HANG = auto()
    """Not applied, and never answered: the caller's timeout ends it."""
    DROP_AND_HANG = auto()
    """Applied, and never answered."""
    FULL = auto()
    """Refused for want of room: `StorageFull`."""
    SLOW = auto()
    """Answered 50 real milliseconds late."""
    DIE_BEFORE = auto()
    """The worker is cut off for good, before the request was applied."""
    DIE_AFTER = auto()
    """The worker is cut off for good, after the request was applied."""
    PASS = auto()
    """Nothing: a place in a script that leaves a request alone."""


SLOW_SECONDS: Final = 0.05

_AFTER: Final = frozenset({Fault.DROP, Fault.DROP_AND_HANG, Fault.DIE_AFTER})


class WorkerClock:
    """The pauses of one worker: while it is frozen, none of them ends."""

    def __init__(self, inner: Clock) -> None:
        self.inner = inner
        self.frozen = False

    def now(self) -> int:
        """Milliseconds since the Unix epoch."""
        return self.inner.now()

    def elapsed(self) -> float:
        """Seconds since some fixed point."""
        return self.inner.elapsed()

    async def sleep(self, seconds: float) -> None:
        """Pause the running task; for longer while the worker is frozen."""
        await self.inner.sleep(seconds)
        while self.frozen:
            await self.inner.sleep(max(seconds, 0.02))

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Pause the running thread; for longer while the worker is frozen."""
        while not self.inner.wait(event, seconds):
            if not self.frozen:
                return False
            seconds = max(seconds, 0.02)
        return True


@define
class _Planned:
    fault: Fault
    on: tuple[type[Request[object]], ...]
    action: Callable[[], object] | None = None
    always: bool = False


class FaultyStore(StorageBackend):
    """One worker's way to a store.

    Attributes:
        inner: the store itself.
        counts: how many requests were sent, by the name of their type.
        requests: all that were sent, in order.

    """

    def __init__(self, inner: StorageBackend) -> None:
        self.inner = inner
        self._pauses = WorkerClock(inner.clock)
        self.clock: Clock = self._pauses
        self.durable: bool = inner.durable
        self.immediate: bool = inner.immediate
        self.counts: Counter[str] = Counter()
        self.requests: list[object] = []
        self._script: list[_Planned] = []
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Name the store behind it."""
        return f"FaultyStore({self.inner!r})"

    # --- Scripting ------------------------------------------------------------------------------

    def plan(self, *faults: Fault, on: type | tuple[type, ...] = Request) -> None:
        """Let the next requests of type ``on`` meet these faults, one each."""
        for fault in faults:
            self._add(_Planned(fault, _types(on)))

    def always(self, fault: Fault, on: type | tuple[type, ...] = Request) -> None:
        """Let every further request of type ``on`` meet this fault, until `clear`."""
        self._add(_Planned(fault, _types(on), always=True))

    def before(self, action: Callable[[], object], on: type | tuple[type, ...] = Request) -> None:
        """Call ``action`` once, just before the next request of type ``on`` is passed on."""
        self._add(_Planned(Fault.PASS, _types(on), action))

    def clear(self) -> None:
        """Drop the script: all requests pass."""
        with self._lock:
            self._script = []
            self.immediate = self.inner.immediate

    def freeze(self) -> None:
        """Stop this worker's heartbeats and polls, as a stopped process would."""
        self._pauses.frozen = True

    def thaw(self) -> None:
        """Let them go on."""
        self._pauses.frozen = False

    def reset(self) -> None:
        """Count from zero."""
        self.counts.clear()
        self.requests.clear()

    @property
    def total(self) -> int:
        """How many requests were sent: round trips, where each is one."""
        return self.counts.total()

    def _add(self, planned: _Planned) -> None:
        with self._lock:
            self._script.append(planned)
            self.immediate = False  # an answer may now have to be waited for

    def _next(self, request: object) -> Fault:
        with self._lock:
            self.counts[type(request).__name__] += 1
            self.requests.append(request)
            planned = next((p for p in self._script if isinstance(request, p.on)), None)
            if planned is None:
                return Fault.PASS
            if not planned.always:
                self._script.remove(planned)
        if planned.action is not None:
            planned.action()
        if planned.fault in {Fault.DIE_BEFORE, Fault.DIE_AFTER}:
            self._script = [_Planned(Fault.DIE_BEFORE, (Request,), always=True)]
            self.freeze()
        return planned.fault

    # --- Passing on -----------------------------------------------------------------------------

    async def execute(self, request: Request[R], namespace: str, timeout: float) -> R:
        """Pass a request on, as scripted."""
        fault = self._next(request)
        if fault is Fault.SLOW:
            await asyncio.sleep(SLOW_SECONDS)
        if fault is Fault.HANG:
            await asyncio.Event().wait()
        _refuse(fault)
        reply = await self.inner.execute(request, namespace, timeout)
        if fault is Fault.DROP_AND_HANG:
            await asyncio.Event().wait()
        _lose_reply(fault)
        return reply

    def execute_blocking(self, request: Request[R], namespace: str, timeout: float) -> R:
        """Pass a request on, as scripted."""
        fault = self._next(request)
        if fault is Fault.SLOW:
            threading.Event().wait(SLOW_SECONDS)
        if fault is Fault.HANG:
            threading.Event().wait(timeout)
            raise StorageUnavailable(f"no answer within {timeout:g} s")
        _refuse(fault)
        reply = self.inner.execute_blocking(request, namespace, timeout)
        if fault is Fault.DROP_AND_HANG:
            threading.Event().wait(timeout)
        _lose_reply(fault)
        return reply

    def close(self) -> None:
        """Close the store behind it."""
        self.inner.close()

    async def aclose(self) -> None:
        """Close the store behind it."""
        await self.inner.aclose()

    def require(self, durability: str) -> None:
        """Ask the store behind it."""
        self.inner.require(durability)


def _types(on: type | tuple[type, ...]) -> tuple[type[Request[object]], ...]:
    return on if isinstance(on, tuple) else (on,)


def _refuse(fault: Fault) -> None:
    if fault is Fault.FAIL:
        raise StorageUnavailable("scripted: no connection")
    if fault is Fault.FULL:
        raise StorageFull("scripted: no room")
    if fault is Fault.DIE_BEFORE:
        raise StorageMisconfigured("scripted: this worker is dead")


def _lose_reply(fault: Fault) -> None:
    if fault is Fault.DIE_AFTER:
        raise StorageMisconfigured("scripted: this worker is dead")
    if fault in _AFTER:
        raise StorageUnavailable("scripted: the reply was lost")
