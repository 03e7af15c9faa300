"""One attempt at one scan, on an event loop: workers that pull strategies and record outcomes.

Laws
- A few workers pull from one queue, rather than a task for each strategy wait for its turn.
- A strategy's outcome is in the store before its worker goes on to the next.
- Stopped for whatever reason, nothing more is started, and what still runs gets no outcome here:
  the rule of finishing, or the next worker, gives it one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from copy import deepcopy
from typing import Final

from oppscan import reports
from oppscan.claim import ScanClaim
from oppscan.clock import delay, elapsed
from oppscan.errors import InvalidInput, StorageUnavailable
from oppscan.holding import Reported
from oppscan.runner.answers import failure, finisher, over_limit, unreached
from oppscan.runner.attempt import Attempt, End, Ended, time_left
from oppscan.runner.estimate import Estimate
from oppscan.runner.places import Place
from oppscan.runner.plan import Plan
from oppscan.runner.strategies import Collected, Flag, ScanContext

_RETRY_PAUSE: Final = 0.2


class Run:
    """One attempt at one scan; ``deadline`` is when its strategies must be through."""

    def __init__(
        self, claim: ScanClaim, plan: Plan, place: Place, estimate: Estimate, deadline: float
    ) -> None:
        self.claim = claim
        self.plan = plan
        self.place = place
        self.deadline = deadline
        self.estimate = estimate
        self.todo: deque[str] = deque()
        self.running: set[Attempt] = set()
        self.stopped: bool = False

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
        for refused in await self.claim.submit_all(unreached(self.claim, self.plan.strategies)):
            if refused is not None:
                raise refused

    def _stop(self) -> None:
        """Start nothing more, and end what runs without an outcome."""
        self.stopped = True
        self.todo.clear()
        for attempt in self.running:
            attempt.stop()

    async def _work(self) -> None:
        while self.todo and time_left(self.deadline) > 0:
            name, began = self.todo.popleft(), elapsed()
            report = await self._try(name)
            if report is None or self.stopped:
                return
            self.estimate.finish(name, elapsed() - began)
            self.claim.holding.seconds_left = self.estimate.left
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
        params, metadata = deepcopy((claim.params, claim.metadata))  # each may change its own
        return ScanContext(claim.owner, claim.scan_id, name, params, metadata, deadline, token)

    async def _record(self, report: Reported) -> None:
        """Write an outcome; while the store is down and there is time, try again."""
        refused: InvalidInput | None = None
        while True:
            try:
                return await self.claim.submit(report)
            except StorageUnavailable:
                if self.stopped or time_left(self.deadline) <= 0:
                    raise
                await delay(_RETRY_PAUSE)
            except InvalidInput as error:
                if refused is not None:
                    raise
                refused = error
                report = over_limit(self.claim, report, refused)


async def _all(workers: list[asyncio.Task[None]]) -> None:
    """Wait for all workers; the first failure is raised at once."""
    await asyncio.gather(*workers)
