"""`StrategyRunner`: run the strategies of scans on an event loop. The async face."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Self
from weakref import finalize

from oppscan.clock import elapsed
from oppscan.driver import logger
from oppscan.errors import (
    ClaimLost,
    InvalidInput,
    OppscanError,
    ScanAlreadyClaimed,
    ScanFinished,
)
from oppscan.forks import watch_forks
from oppscan.model import Reuse, ScanStatus, Ticket
from oppscan.registry import ScanRegistry
from oppscan.runner.attempt import time_left
from oppscan.runner.estimate import Durations, Estimate
from oppscan.runner.places import Place, ThreadPlace
from oppscan.runner.plan import (
    LEAVE_WITHIN,
    Recovery,
    Released,
    closing_of,
    left_to_others,
    make_plan,
)
from oppscan.runner.run import Run
from oppscan.runner.strategies import Rank, Strategies
from oppscan.runner.threads import BlockingThreads
from oppscan.ttl import duration


class _Errand:
    """A scan that a runner sees through: ``stop`` tells it to let go, ``over`` that it has."""

    __slots__ = ("over", "stop")

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class StrategyRunner:
    """Runs strategies for scans of one registry; usable as it is, or as an async context manager.

    ``strategies``: a mapping of names to callables, or a sequence of functions, `Strategy` or
    functions marked with `strategy`. ``max_concurrency``: how many of one scan run at once.
    ``strategy_timeout`` and ``budget``: seconds for one strategy, and for one attempt at a whole
    scan. ``executor``: where blocking strategies run, a `concurrent.futures.Executor` or a factory
    of one (then it is replaced when it breaks), by default daemon threads. ``rank``: a number for
    an opportunity; results then come best first.

    Coroutine functions and async generators run on the event loop, all others off it.
    Whatever a strategy does, the others are unaffected and its outcome says what happened.
    """

    def __init__(
        self,
        registry: ScanRegistry,
        strategies: Strategies,
        *,
        max_concurrency: int = 8,
        strategy_timeout: float = 60.0,
        budget: float = 180.0,
        executor: Executor | Callable[[], Executor] | None = None,
        rank: Rank | None = None,
    ) -> None:
        if not isinstance(registry, ScanRegistry):
            msg = (
                f"registry must be an oppscan.ScanRegistry, not {type(registry).__module__}."
                f"{type(registry).__name__}; blocking hosts use oppscan.sync.StrategyRunner"
            )
            raise InvalidInput(msg)
        self._registry = registry
        self._plan = make_plan(strategies, max_concurrency, strategy_timeout, budget, rank)
        threads = BlockingThreads("oppscan strategy")
        self._place: Place = ThreadPlace(threads)
        if executor is not None:
            from oppscan.runner.executors import ExecutorPlace

            self._place = ExecutorPlace(executor, threads)
        self._durations = Durations()
        self._background: set[asyncio.Task[ScanStatus]] = set()
        self._errands: set[_Errand] = set()
        self._leave: Callable[[], None] | None = None
        self._forget_signals: Callable[[], None] = _nothing
        self._closed = False
        finalize(self, self._place.close).atexit = False
        watch_forks(self, StrategyRunner._begin_in_child)

    def _begin_in_child(self) -> None:
        """Leave the parent's scans and signals to the parent."""
        self._background, self._errands = set(), set()
        self._forget_signals()

    async def __aenter__(self) -> Self:
        """Give the runner itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self, drain: float = 10.0) -> None:
        """Give running scans ``drain`` seconds to end, then release them for other workers.

        Whoever awaits one that is released gets `ClaimLost`.
        """
        seconds = duration(drain, "drain", least=0.0)
        self._closed = True
        errands = list(self._errands)
        try:
            await _all_over(errands, seconds)
        finally:
            for errand in errands:
                errand.stop.set()
        await _all_over(errands, LEAVE_WITHIN)
        self._place.close()

    def release_on_sigterm(self) -> None:
        """On SIGTERM, release all scans for other workers, then let the signal take its course.

        For hosts that do not handle the signal themselves; those that do call `aclose`. Must be
        called in the main thread, inside the event loop.
        """
        loop = asyncio.get_running_loop()
        before = signal.getsignal(signal.SIGTERM)

        def leave() -> None:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

        def release() -> None:
            loop.remove_signal_handler(signal.SIGTERM)
            self._closed = True
            self._leave = leave
            for errand in self._errands:
                errand.stop.set()
            if not self._errands:
                leave()  # else once the last scan is released
            loop.call_later(LEAVE_WITHIN, leave)

        def forget() -> None:  # in a child, whose signals would wake the parent's event loop
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

        loop.add_signal_handler(signal.SIGTERM, release)
        self._forget_signals = forget

    # --- Running scans --------------------------------------------------------------------------

    async def run(
        self,
        owner: str,
        *,
        params: Mapping[str, object] | None = None,
        metadata: Mapping[str, object] | None = None,
        key: str | None = None,
        reuse: Reuse = Reuse.ACTIVE,
        only: Iterable[str] | None = None,
    ) -> ScanStatus:
        """Start a scan, run it, and give its final status.

        A live equal scan is joined and waited for; a stalled one is resumed. Cancelling the task
        that awaits this stops the strategies and releases the scan. `TimeoutError` when another
        worker's scan is not done within the budget.
        """
        ticket = await self._begin(owner, params, metadata, key, reuse, only)
        return await self._see_through(ticket.scan_id, must_run=ticket.must_run)

    async def start(
        self,
        owner: str,
        *,
        params: Mapping[str, object] | None = None,
        metadata: Mapping[str, object] | None = None,
        key: str | None = None,
        reuse: Reuse = Reuse.ACTIVE,
        only: Iterable[str] | None = None,
    ) -> Ticket:
        """Start a scan and run it in the background; it can be followed at once."""
        ticket = await self._begin(owner, params, metadata, key, reuse, only)
        if ticket.must_run:
            errand = self._begin_errand()  # now, so that whoever closes this runner knows of it
            seeing = self._see_through(ticket.scan_id, must_run=True, errand=errand)
            task = asyncio.create_task(seeing)
            self._background.add(task)
            task.add_done_callback(partial(self._end_background, errand))
        return ticket

    async def resume(self, scan_id: str, *, owner: str | None = None) -> ScanStatus:
        """Claim a pending or stalled scan, run what has no outcome, and give its final status.

        Strategies that this runner does not have are ``skipped``.
        """
        self._plan.check_open(closed=self._closed)
        with self._errand(scan_id) as stop:
            return await self._attempt(scan_id, owner, stop)

    async def recover(self, limit: int = 100) -> list[ScanStatus]:
        """Finish up to ``limit`` stalled scans, one after the other; others may do the same.

        Scans with an open strategy that this runner does not have are left to those that do.
        """
        self._plan.check_open(closed=self._closed)
        recovery = Recovery(limit)
        while recovery.goes_on:
            for scan_id in recovery.news(await self._registry.stalled(recovery.wanted)):
                if self._closed or not recovery.left:
                    return recovery.finished
                try:
                    status = await self._registry.status(scan_id)
                    if self._plan.covers(status):
                        recovery.left -= 1
                        recovery.finished.append(await self.resume(scan_id))
                except OppscanError as error:
                    logger.info("scan %s: %s", scan_id, left_to_others(error))
        return recovery.finished

    async def _begin(  # noqa: PLR0917 - the arguments of ``run``
        self,
        owner: str,
        params: Mapping[str, object] | None,
        metadata: Mapping[str, object] | None,
        key: str | None,
        reuse: Reuse,
        only: Iterable[str] | None,
    ) -> Ticket:
        self._plan.check_open(closed=self._closed)
        names = self._plan.chosen(only)
        return await self._registry.start(
            owner, names, params=params, metadata=metadata, key=key, reuse=reuse
        )

    def _begin_errand(self) -> _Errand:
        errand = _Errand()
        self._errands.add(errand)
        if self._closed:  # since its scan was started
            errand.stop.set()
        return errand

    def _end_errand(self, errand: _Errand) -> None:
        self._errands.discard(errand)
        if not errand.over.done():
            errand.over.set_result(None)
        if self._leave is not None and not self._errands:
            self._leave()

    @contextmanager
    def _errand(self, scan_id: str, errand: _Errand | None = None) -> Generator[asyncio.Event]:
        """See a scan through; gives what is set when it is to be released."""
        errand = errand or self._begin_errand()
        try:
            yield errand.stop
        except Released:
            raise closing_of(scan_id) from None
        finally:
            self._end_errand(errand)

    async def _see_through(
        self, scan_id: str, *, must_run: bool, errand: _Errand | None = None
    ) -> ScanStatus:
        """Run the scan, or wait for whoever runs it and step in when they die."""
        deadline = elapsed() + self._plan.budget
        with self._errand(scan_id, errand) as stop:
            while True:
                if must_run:
                    try:
                        return await self._attempt(scan_id, None, stop)
                    except (ScanAlreadyClaimed, ClaimLost):
                        pass
                    except ScanFinished as finished:
                        return finished.status
                status = await self._registry.status(scan_id)
                if status.done:
                    return status
                must_run = status.stalled
                if not must_run:
                    pause = self._plan.patience(scan_id, time_left(deadline))
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await stop.wait()
                            raise Released

    async def _attempt(self, scan_id: str, owner: str | None, stop: asyncio.Event) -> ScanStatus:
        began = elapsed()
        if stop.is_set():
            raise Released
        async with self._registry.claim(scan_id, owner=owner) as claim:
            claim.ends_at = began + self._plan.budget
            estimate = Estimate(claim.remaining, self._durations, self._plan.max_concurrency)
            deadline = began + self._plan.working_time
            await Run(claim, self._plan, self._place, estimate, deadline, stop).run()
        return claim.status

    def _end_background(self, errand: _Errand, task: asyncio.Task[ScanStatus]) -> None:
        self._background.discard(task)
        self._end_errand(errand)  # also where the task was cancelled before it began
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not (self._closed and isinstance(error, ClaimLost)):
            logger.error("a background scan ended with %r", error, exc_info=error)


async def _all_over(errands: Iterable[_Errand], within: float) -> None:
    """Wait until all are, or the time is."""
    left = {errand.over for errand in errands if not errand.over.done()}
    if left:
        await asyncio.wait(left, timeout=within)


def _nothing() -> None:
    """Forget no signal: none was asked for."""
