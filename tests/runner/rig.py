"""`Rig`: runners of either face on one store, used alike by a test that itself just blocks.

The async face runs on an event loop in a thread of its own, so that a test sees both faces from
outside: it calls, waits, and reads through a registry of its own meanwhile.
"""

# ruff: noqa: ANN401 - options pass through
from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, Literal, TypeVar, cast

import oppscan
import oppscan.sync as blocking
from oppscan import ScanStatus, Ticket, TTLPolicy
from oppscan.runner.strategies import Strategies

T = TypeVar("T")
Face = Literal["async", "blocking"]

PATIENCE = 30.0
"""Seconds after which a call that hangs is a failure."""

OWNER = "ann"


class Runner:
    """A `StrategyRunner` of either face; every call blocks, or gives a future."""

    def __init__(self, rig: Rig, inner: oppscan.StrategyRunner | blocking.StrategyRunner) -> None:
        self._rig = rig
        self.inner = inner

    def begin(self, owner: str = OWNER, **options: Any) -> Future[ScanStatus]:
        """Call ``run`` without waiting for it."""
        return self._begin(lambda: self.inner.run(owner, **options))

    def run(self, owner: str = OWNER, **options: Any) -> ScanStatus:
        return self.begin(owner, **options).result(PATIENCE)

    def start(self, owner: str = OWNER, **options: Any) -> Ticket:
        return self._call(lambda: self.inner.start(owner, **options))

    def resume(self, scan_id: str, **options: Any) -> ScanStatus:
        return self._call(lambda: self.inner.resume(scan_id, **options))

    def recover(self, *limit: int) -> list[ScanStatus]:
        return self._call(lambda: self.inner.recover(*limit))

    def close(self, drain: float = 0.0) -> None:
        if isinstance(self.inner, oppscan.StrategyRunner):
            inner = self.inner
            self._rig.call(lambda: inner.aclose(drain))
        else:
            self.inner.close(drain)

    def _begin(self, make: Callable[[], T | Coroutine[Any, Any, T]]) -> Future[T]:
        if self._rig.face == "async":
            return self._rig.submit(cast("Callable[[], Coroutine[Any, Any, T]]", make))
        return in_thread(cast("Callable[[], T]", make))

    def _call(self, make: Callable[[], T | Coroutine[Any, Any, T]]) -> T:
        return self._begin(make).result(PATIENCE)


class Rig:
    """A store, and runners on it.

    Attributes:
        registry: the test's own, blocking view of the store.
        gate: an event for strategies that hang; it is set when the test ends.

    """

    def __init__(self, face: Face) -> None:
        self.face = face
        self.ttl = TTLPolicy(lease=2.0)
        self.store: oppscan.StorageBackend = oppscan.MemoryBackend()
        self.registry = blocking.ScanRegistry(self.store, ttl=self.ttl)
        self.gate = threading.Event()
        self._runners: list[Runner] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the async face."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="event loop")
            self._thread.start()
        return self._loop

    def runner(
        self,
        strategies: Strategies,
        *,
        store: oppscan.StorageBackend | None = None,
        ttl: TTLPolicy | None = None,
        limits: oppscan.Limits | None = None,
        op_timeout: float = 3.0,
        **options: Any,
    ) -> Runner:
        """Make a runner of this rig's face, closed when the test ends."""
        settings: dict[str, Any] = {
            "ttl": ttl or self.ttl,
            "limits": limits,
            "op_timeout": op_timeout,
        }
        backend = store or self.store
        inner: oppscan.StrategyRunner | blocking.StrategyRunner
        if self.face == "async":
            registry = oppscan.ScanRegistry(backend, **settings)
            inner = oppscan.StrategyRunner(registry, strategies, **options)
        else:
            inner = blocking.StrategyRunner(
                blocking.ScanRegistry(backend, **settings), strategies, **options
            )
        runner = Runner(self, inner)
        self._runners.append(runner)
        return runner

    def submit(self, make: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Run a coroutine on the event loop."""
        return asyncio.run_coroutine_threadsafe(make(), self.loop)

    def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the event loop, to its end."""
        return self.submit(make).result(PATIENCE)

    def close(self) -> None:
        """End everything; `AssertionError` names tasks and timers that outlived their scans."""
        self.gate.set()
        runners, self._runners = self._runners, []
        for runner in runners:
            runner.close()
        if self._loop is None or self._thread is None:
            return
        left = until(lambda: not self._left_on_loop(), within=5.0) or self._left_on_loop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
        self._loop = None
        assert left is True, f"left on the event loop: {left}"

    def _left_on_loop(self) -> list[str]:
        """Name the tasks and timers of the loop."""
        answer: Future[list[str]] = Future()
        self.loop.call_soon_threadsafe(lambda: answer.set_result(census_of_loop(self.loop)))
        return answer.result(PATIENCE)


def census_of_loop(loop: asyncio.AbstractEventLoop) -> list[str]:
    """Name the tasks of a loop that are not done, and its timers that will still fire."""
    timers = [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]  # noqa: SLF001
    return [repr(item) for item in [*asyncio.all_tasks(loop), *timers]]


def in_thread(call: Callable[[], T]) -> Future[T]:
    """Call in a thread of its own; whatever it raises is in the future."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks
            future.set_exception(error)

    threading.Thread(target=work, name="a call of the test", daemon=True).start()
    return future


def until(condition: Callable[[], object], within: float = PATIENCE) -> bool:
    """Wait for a condition; tell whether it came true."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.005)
    return True


def states_of(status: ScanStatus) -> dict[str, str]:
    """Give the state of each strategy's outcome."""
    return {outcome.name: str(outcome.state) for outcome in status.outcomes}


def rigs(face: Face) -> Iterator[Rig]:
    """Give a rig, for a fixture."""
    rig = Rig(face)
    try:
        yield rig
    finally:
        rig.close()
