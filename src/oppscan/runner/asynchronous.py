"""`StrategyRunner`: run the strategies of scans on an event loop. The async face."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from types import TracebackType
from typing import Self, cast

from oppscan.clock import delay, elapsed
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
from oppscan.runner.plan import LEAVE_WITHIN, left_to_others, make_plan
from oppscan.runner.run import Run
from oppscan.runner.strategies import Rank, Strategies
from oppscan.runner.threads import BlockingThreads


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
        self._active: set[asyncio.Task[object]] = set()
        self._leave: Callable[[], None] | None = None
        self._forget_signals: Callable[[], None] = _nothing
        self._closed = False
        watch_forks(self, StrategyRunner._begin_in_child)

    def _begin_in_child(self) -> None:
        """Leave the parent's scans and signals to the parent."""
        self._background, self._active = set(), set()
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
        """Give running scans ``drain`` seconds to end, then release them for other workers."""
        self._closed = True
        running = {*self._background, *self._active} - {asyncio.current_task()}
        if running:
            await asyncio.wait(running, timeout=drain)
        left = [task for task in running if not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
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
            for task in self._active:
                task.cancel()
            if not self._active:
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
            task = asyncio.create_task(self._see_through(ticket.scan_id, must_run=True))
            self._background.add(task)
            task.add_done_callback(self._end_background)
        return ticket

    async def resume(self, scan_id: str, *, owner: str | None = None) -> ScanStatus:
        """Claim a pending or stalled scan, run what has no outcome, and give its final status.

        Strategies that this runner does not have are ``skipped``.
        """
        self._plan.check_open(closed=self._closed)
        return await self._attempt(scan_id, owner)

    async def recover(self, limit: int = 100) -> list[ScanStatus]:
        """Finish up to ``limit`` stalled scans, one after the other; others may do the same.

        Scans with an open strategy that this runner does not have are left to those that do.
        """
        self._plan.check_open(closed=self._closed)
        finished = []
        for stalled in await self._registry.stalled(limit):
            try:
                status = await self._registry.status(stalled.scan_id)
                if self._plan.covers(status):
                    finished.append(await self._attempt(stalled.scan_id, None))
            except OppscanError as error:
                logger.info("scan %s: %s", stalled.scan_id, left_to_others(error))
        return finished

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

    async def _see_through(self, scan_id: str, *, must_run: bool) -> ScanStatus:
        """Run the scan, or wait for whoever runs it and step in when they die."""
        deadline = elapsed() + self._plan.budget
        while True:
            if must_run:
                try:
                    return await self._attempt(scan_id, None)
                except (ScanAlreadyClaimed, ClaimLost):
                    pass
                except ScanFinished as finished:
                    return finished.status
            status = await self._registry.status(scan_id)
            if status.done:
                return status
            must_run = status.stalled
            if not must_run:
                await delay(self._plan.patience(scan_id, time_left(deadline)))

    async def _attempt(self, scan_id: str, owner: str | None) -> ScanStatus:
        deadline = elapsed() + self._plan.working_time
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._active.add(task)
        try:
            return await self._hold(scan_id, owner, deadline)
        finally:
            self._active.discard(task)
            if self._leave is not None and not self._active:
                self._leave()

    async def _hold(self, scan_id: str, owner: str | None, deadline: float) -> ScanStatus:
        async with self._registry.claim(scan_id, owner=owner) as claim:
            estimate = Estimate(claim.remaining, self._durations, self._plan.max_concurrency)
            await Run(claim, self._plan, self._place, estimate, deadline).run()
        return claim.status

    def _end_background(self, task: asyncio.Task[ScanStatus]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a background scan ended with %r", error, exc_info=error)


def _nothing() -> None:
    """Forget no signal: none was asked for."""
