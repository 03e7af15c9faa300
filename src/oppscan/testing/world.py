"""`World`: several workers, one store, and time; all that a contract case is given.

A case never names a store, a face or a real duration. It asks the world for workers, and counts
time in ``world.ttl`` (or ``world.unit``, which that is made of), so that the same case runs on a
manual clock and on a server that has only real time.
"""

# ruff: noqa: ANN401 - settings are passed on as they come

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, Final, Literal, Protocol, TypeVar

from attrs import frozen

import oppscan.sync
from oppscan.backends.base import StorageBackend
from oppscan.claim import ScanClaim
from oppscan.clock import RandomIds
from oppscan.model import ScanStatus, Ticket
from oppscan.ops import Request
from oppscan.registry import ScanRegistry
from oppscan.testing.clock import ManualClock
from oppscan.testing.faces import awaitable, in_thread, run_at_once
from oppscan.testing.faults import Fault, FaultyStore
from oppscan.testing.loss import Kind
from oppscan.ttl import TTLPolicy

T = TypeVar("T")

Face = Literal["async", "blocking"]
FACES: Final[tuple[Face, ...]] = ("async", "blocking")

OpenStore = Callable[[ManualClock, str], StorageBackend]
"""Opens another view of the store of that name: "first", or the one that a fallback uses."""

LoseKey = Callable[[StorageBackend, str, Kind, str], None]
"""Takes one stored key away: of which store, in which namespace, of what kind, of which scan."""

NAMES: Final[tuple[str, ...]] = ("alpha", "beta", "gamma")
"""The strategies of the scans in most cases."""

_PATIENCE: Final = 10.0
"""Real seconds that a store is waited for, whatever its clock."""


class Passing(Protocol):
    """How a case lets time pass."""

    async def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""


class RealTime:
    """Time that passes by itself, for stores with a clock of their own."""

    async def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        await asyncio.sleep(seconds)


@frozen
class Worker:
    """One process of the host: a registry, and its way to the store, where faults are planned."""

    registry: ScanRegistry
    store: FaultyStore


class World:
    """Several workers on one store.

    Attributes:
        face: which face the workers use.
        clock: how time passes. ``manual`` is the same, where it is a `ManualClock`.
        unit: the seconds that durations are made of.
        ttl: the policy of workers that are not given one of their own.

    """

    def __init__(
        self,
        face: Face,
        open_store: OpenStore,
        *,
        lose_key: LoseKey,
        real_time: bool = False,
        unit: float = 1.0,
    ) -> None:
        self.face: Final = face
        self.unit: Final = unit
        self.exact: Final = not real_time
        self.manual: Final = ManualClock()
        self.clock: Final[Passing] = RealTime() if real_time else self.manual
        self.namespace: Final = f"test-{RandomIds().operation()}"
        self.ttl: Final = self.policy()
        self._open_store = open_store
        self._lose_key = lose_key
        self._stores: list[FaultyStore] = []
        self._workers: list[Worker] = []
        self._held: list[tuple[ScanClaim, FaultyStore]] = []
        self._tasks: list[asyncio.Task[Any]] = []

    def policy(self, **changes: float | None) -> TTLPolicy:
        """Give a policy in this world's units: lease 4, claim_within 8, result 20, margin 10."""
        units: dict[str, float | None] = {
            "pending_ttl": 40,
            "running_ttl": 30,
            "result_ttl": 20,
            "lookup_margin": 10,
            "lease": 4,
            "claim_within": 8,
            **changes,
        }
        seconds = {name: None if n is None else n * self.unit for name, n in units.items()}
        return TTLPolicy(**seconds)  # type: ignore[arg-type]

    # --- Workers --------------------------------------------------------------------------------

    def store(self, name: str = "first") -> FaultyStore:
        """Open another view of a store."""
        store = FaultyStore(self._open_store(self.manual, name))
        self._stores.append(store)
        return store

    def worker(self, name: str = "first", **settings: Any) -> Worker:
        """Give another worker, on a view of the store of its own."""
        store = self.store(name)
        worker = Worker(self.registry_on(store, **settings), store)
        self._workers.append(worker)
        return worker

    def registry(self, **settings: Any) -> ScanRegistry:
        """Give another worker's registry."""
        return self.worker(**settings).registry

    def registry_on(self, store: StorageBackend, **settings: Any) -> ScanRegistry:
        """Give a registry on a store that was opened already."""
        chosen = {"ttl": self.ttl, "namespace": self.namespace, **settings}
        if self.face == "async":
            return ScanRegistry(store, **chosen)
        return awaitable(oppscan.sync.ScanRegistry(store, **chosen), self.clock)

    def beside(self, store: StorageBackend, **settings: Any) -> oppscan.sync.ScanRegistry:
        """Give a blocking registry, for what happens in the middle of another's operation."""
        chosen = {"ttl": self.ttl, "namespace": self.namespace, **settings}
        inner = store.inner if isinstance(store, FaultyStore) else store
        return oppscan.sync.ScanRegistry(inner, **chosen)

    # --- Things that happen ---------------------------------------------------------------------

    async def start(self, worker: Worker, owner: str = "ann", **options: Any) -> Ticket:
        """Start a scan of three strategies."""
        strategies = options.pop("strategies", NAMES)
        return await worker.registry.start(owner, strategies, **options)

    async def hold(self, worker: Worker, scan_id: str) -> ScanClaim:
        """Claim a scan for as long as the case lasts."""
        claim = worker.registry.claim(scan_id)
        await claim.__aenter__()
        self._held.append((claim, worker.store))
        return claim

    async def take_over(self, scan_id: str) -> ScanClaim:
        """Have another worker claim a scan; it sends no heartbeats, so nothing changes unasked."""
        worker = self.worker()
        claim = await self.hold(worker, scan_id)
        worker.store.freeze()
        return claim

    async def dead_claim(self, scan_id: str) -> ScanClaim:
        """Have a worker claim a scan and stop dead; its lease is over when this returns."""
        claim = await self.take_over(scan_id)
        await self.clock.advance(self.ttl.lease * 1.01)
        return claim

    async def finished(self, worker: Worker, owner: str = "ann", **options: Any) -> ScanStatus:
        """Run a scan to its end: alpha found two, beta nothing, gamma one."""
        ticket = await self.start(worker, owner, **options)
        async with worker.registry.claim(ticket.scan_id) as scan:
            await scan.strategy_finished("alpha", [{"n": 1}, {"n": 2}])
            await scan.strategy_finished("beta", [])
            await scan.strategy_finished("gamma", [{"n": 3}])
        return await worker.registry.status(ticket.scan_id)

    async def together(self, *calls: Callable[[], Coroutine[Any, Any, T]]) -> list[T]:
        """Make calls at the same time: tasks in the async face, threads in the blocking one."""
        if self.face == "async":
            return list(await asyncio.gather(*(call() for call in calls)))
        all_there = threading.Barrier(len(calls))  # starting threads takes a busy machine long
        threads = [in_thread(_nobody, _at_once(call, all_there)) for call in calls]
        return list(await asyncio.gather(*threads))

    async def follow(self, following: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin to watch or wait, so that the case can go on meanwhile."""
        task = asyncio.create_task(following)
        self._tasks.append(task)
        if self.face == "async" and self.exact:
            self.manual.expect(task)
        if self.exact:
            await self.manual.settled()
        else:
            await asyncio.sleep(0.01)
        return task

    async def until(self, happened: Callable[[], bool]) -> None:
        """Let time pass, a unit at a time, until something has happened; at most ten seconds."""
        async with asyncio.timeout(_PATIENCE):
            while not happened():
                await self.clock.advance(self.unit)

    async def request(self, store: StorageBackend, request: Request[T]) -> T:
        """Send a store one request of the case's own, by the way that the workers' face goes."""
        if self.face == "async":
            return await store.execute(request, self.namespace, _PATIENCE)
        return store.execute_blocking(request, self.namespace, _PATIENCE)

    def lose(self, store: FaultyStore, kind: Kind, scan_id: str) -> None:
        """Take one stored key away, behind oppscan's back."""
        self._lose_key(store.inner, self.namespace, kind, scan_id)

    async def aclose(self) -> None:
        """End what the case left behind."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for claim, store in self._held:
            store.clear()
            store.always(Fault.DIE_BEFORE)
            await claim.__aexit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        for opened in self._stores:
            await opened.aclose()  # also what was awaited on stores of the blocking face
        for worker in self._workers:
            await worker.registry.aclose()


def _nobody(thread: object) -> None:
    """Nobody waits for these on the clock."""


def _at_once(
    call: Callable[[], Coroutine[Any, Any, T]], all_there: threading.Barrier
) -> Callable[[], T]:
    def run() -> T:
        all_there.wait(_PATIENCE)
        return run_at_once(call())

    return run


def milliseconds(span: timedelta) -> int:
    """Give a span in whole milliseconds."""
    return round(span / timedelta(milliseconds=1))


async def outcome_of(awaited: Awaitable[object]) -> object:
    """Give what a call returned, or the type of what it raised."""
    try:
        return await awaited
    except Exception as error:  # noqa: BLE001 - the case judges it
        return type(error)
