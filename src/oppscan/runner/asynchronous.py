"""`StrategyRunner`: run the strategies of scans on an event loop. The async face."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Final, Self

from oppscan import reports
from oppscan.claim import ScanClaim
from oppscan.clock import delay, elapsed
from oppscan.driver import logger
from oppscan.errors import (
    ClaimLost,
    InvalidInput,
    ScanAlreadyClaimed,
    ScanFinished,
    StorageUnavailable,
)
from oppscan.holding import Reported
from oppscan.model import Reuse, ScanStatus, Ticket
from oppscan.registry import ScanRegistry
from oppscan.runner.answers import failure, finisher, over_limit, unreached
from oppscan.runner.attempt import Attempt, End, Ended, time_left
from oppscan.runner.executors import ExecutorPlace, ExecutorSource
from oppscan.runner.places import Place, ThreadPlace
from oppscan.runner.plan import Plan, make_plan
from oppscan.runner.strategies import Collected, Flag, Rank, ScanContext, Strategies
from oppscan.runner.threads import BlockingThreads

_RETRY_PAUSE: Final = 0.2


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
        executor: ExecutorSource | None = None,
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
            self._place = ExecutorPlace(executor, threads)
        self._background: set[asyncio.Task[ScanStatus]] = set()
        self._closed = False

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
        """Give background scans ``drain`` seconds to end, then release them for other workers."""
        self._closed = True
        if self._background:
            await asyncio.wait(self._background, timeout=drain)
        left = [task for task in self._background if not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        self._place.close()

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
        """Claim a pending or stalled scan, run what has no outcome, and give its final status."""
        return await self._attempt(scan_id, owner)

    async def recover(self, limit: int = 100) -> list[ScanStatus]:
        """Finish up to ``limit`` stalled scans, one after the other; others may do the same."""
        finished = []
        for stalled in await self._registry.stalled(limit):
            try:
                finished.append(await self._attempt(stalled.scan_id, None))
            except (ScanAlreadyClaimed, ScanFinished, ClaimLost):
                continue  # another worker was quicker
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
        if self._closed:
            msg = "this runner was closed; make another one"
            raise InvalidInput(msg)
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
            async for status in self._registry.watch(scan_id):
                if status.done:
                    return status
                must_run = status.stalled
                if must_run or elapsed() >= deadline:
                    break
            if not must_run and elapsed() >= deadline:
                msg = f"scan {scan_id} is still run by another worker after the whole budget"
                raise TimeoutError(msg)

    async def _attempt(self, scan_id: str, owner: str | None) -> ScanStatus:
        deadline = elapsed() + self._plan.working_time
        async with self._registry.claim(scan_id, owner=owner) as claim:
            await _Run(claim, self._plan, self._place, deadline).run()
        return claim.status

    def _end_background(self, task: asyncio.Task[ScanStatus]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a background scan ended with %r", error, exc_info=error)


class _Run:
    """One attempt at one scan."""

    def __init__(self, claim: ScanClaim, plan: Plan, place: Place, deadline: float) -> None:
        self.claim = claim
        self.plan = plan
        self.place = place
        self.deadline = deadline
        self.todo: deque[str] = deque()
        self.running: set[Attempt] = set()
        self.stopped = False

    async def run(self) -> None:
        """Run what has no outcome, until all is done, time is up, or there is reason to stop."""
        known = [name for name in self.claim.remaining if name in self.plan.strategies]
        self.todo.extend(self.plan.order(known))
        workers = [
            asyncio.create_task(self._work())
            for _ in range(min(self.plan.max_concurrency, len(known)))
        ]
        watcher = asyncio.create_task(self.claim.interrupted())
        everything = asyncio.ensure_future(_all(workers))
        try:
            await asyncio.wait({everything, watcher}, return_when=asyncio.FIRST_COMPLETED)
            if not everything.done():
                self._stop()
            await everything
        finally:
            self._stop()
            watcher.cancel()
            for worker in workers:
                worker.cancel()
            await asyncio.gather(watcher, everything, *workers, return_exceptions=True)
        if self.claim.cancel_requested:
            return
        skipped = unreached(self.claim, self.plan.strategies)
        await asyncio.gather(*(self._record(report) for report in skipped))

    def _stop(self) -> None:
        """Start nothing more, and end what runs without an outcome."""
        self.stopped = True
        self.todo.clear()
        for attempt in self.running:
            attempt.stop()

    async def _work(self) -> None:
        while self.todo and time_left(self.deadline) > 0:
            report = await self._try(self.todo.popleft())
            if report is None or self.stopped:
                return
            await self._record(report)

    async def _try(self, name: str) -> Reported | None:
        """Run one strategy and give its outcome; None where it was stopped."""
        strategy = self.plan.strategies[name]
        seconds = min(self.plan.timeout_of(strategy), time_left(self.deadline))
        self.claim.post(reports.started(self.claim.holding, name))
        token = Flag()
        context = self._context(name, elapsed() + seconds, token)
        attempt = Attempt(strategy, context, Collected(), token)
        finish = finisher(self.claim, name, self.plan.rank)
        self.running.add(attempt)
        try:
            if strategy.kind.blocking:
                ended = await attempt.run_elsewhere(self.place, seconds, finish)
            else:
                ended = await attempt.run_on_loop(seconds)
                if ended.why is End.ANSWERED:
                    return finish(ended.answer)
        except Exception as refused:  # noqa: BLE001 - no place to run it: that is its failure
            ended = Ended(End.RAISED, None, refused)
        finally:
            self.running.discard(attempt)
        if ended.why is End.STOPPED:
            return None
        if isinstance(ended.answer, Reported):
            return ended.answer
        error = ended.error or f"timed out after {seconds:.3g} s"
        found = attempt.collected.snapshot()
        return failure(self.claim, name, self.plan.rank, error, found)

    def _context(self, name: str, deadline: float, token: Flag) -> ScanContext:
        claim = self.claim
        return ScanContext(
            claim.owner, claim.scan_id, name, claim.params, claim.metadata, deadline, token
        )

    async def _record(self, report: Reported) -> None:
        """Write an outcome; while the store is down and there is time, try again."""
        while True:
            try:
                return await self.claim.submit(report)
            except StorageUnavailable:
                if time_left(self.deadline) <= 0:
                    raise
            except InvalidInput as refused:
                report = over_limit(self.claim, report, refused)
            await delay(_RETRY_PAUSE)


async def _all(workers: list[asyncio.Task[None]]) -> None:
    """Wait for all workers; the first failure is raised at once."""
    await asyncio.gather(*workers)
