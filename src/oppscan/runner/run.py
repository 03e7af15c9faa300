"""One attempt at one scan, on an event loop: strategies in free places, outcomes in batches.

Laws
- A strategy keeps its place until its outcome is in the store: whoever cannot record starts
  nothing more. Only a quick one, over within `QUICK` seconds, gives its place on at once, so that
  many of them share a commit; at most `UNRECORDED` wait for it, so little work can be lost.
- No task waits for a place, and one timer serves all strategies.
- A coroutine that is put down keeps its place until it is gone.
- Stopped for whatever reason, nothing more is started, and what still runs gets no outcome here:
  the rule of finishing, or the next worker, gives it one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from typing import Final

from oppscan import reports
from oppscan.claim import ScanClaim
from oppscan.clock import delay, elapsed
from oppscan.drafting import Report, Reported
from oppscan.model import JSON
from oppscan.runner.answers import RETRY_PAUSE, failure, finisher, unreached, unwritten
from oppscan.runner.attempt import STOPPED, TIMED_OUT, End, Ended, ended_of, guarded, put_down
from oppscan.runner.estimate import Estimate
from oppscan.runner.places import Place, Running, Task
from oppscan.runner.plan import Plan
from oppscan.runner.strategies import Collected, Flag, ScanContext, Strategy

QUICK: Final = 0.005
UNRECORDED: Final = 64


class _Attempt:
    """A strategy under way: in a task of this loop, or elsewhere."""

    __slots__ = (
        "began",
        "collected",
        "ends_at",
        "name",
        "over",
        "running",
        "seconds",
        "task",
        "token",
    )

    def __init__(self, name: str, began: float, seconds: float) -> None:
        self.name = name
        self.began = began
        self.seconds = seconds
        self.ends_at: float = began + seconds
        self.collected = Collected()
        self.token = Flag()
        self.task: asyncio.Task[Ended] | None = None
        self.running: Running | None = None
        self.over = False


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
        self.running: set[_Attempt] = set()
        self._loop = asyncio.get_running_loop()
        self._reports: list[Report] = []
        self._unrecorded = 0
        self._kept = 0  # places of strategies that are over, and not yet recorded
        self._due = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = float("inf")
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Run what has no outcome, until all is done, time is up, or there is reason to stop."""
        known = [name for name in self.claim.remaining if name in self.plan.strategies]
        self.todo.extend(self.plan.order(known))
        writing = asyncio.create_task(self._write())
        watcher = asyncio.create_task(self.claim.interrupted())
        try:
            await asyncio.wait({writing, watcher}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                self._stop()
            await writing
        finally:
            self._stop()
            self._quiet()  # at once: a second cancellation may end this wait
            watcher.cancel()
            writing.cancel()
            everything = asyncio.gather(watcher, writing, *self._ending, return_exceptions=True)
            await asyncio.shield(everything)
        if self.claim.cancel_requested:
            return
        for refused in await self.claim.submit_all(unreached(self.claim, self.plan.strategies)):
            if refused is not None:
                raise refused

    def _stop(self) -> None:
        """Start nothing more, and end what runs without an outcome."""
        self.todo.clear()
        for attempt in list(self.running):
            self._end(attempt, STOPPED)
        self._due.set()

    def _quiet(self) -> None:
        """Leave no timer behind."""
        for timer in (self._soon, self._timer):
            if timer is not None:
                timer.cancel()

    # --- Starting -------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Start strategies in the places that are free."""
        while (
            self.todo
            and len(self.running) + self._kept < self.plan.max_concurrency
            and self._unrecorded < UNRECORDED
            and not self.claim.is_interrupted
        ):
            now = elapsed()
            if now >= self.deadline:
                self.todo.clear()
                break
            self._begin(self.todo.popleft(), now)

    def _begin(self, name: str, now: float) -> None:
        strategy = self.plan.strategies[name]
        seconds = min(self.plan.timeout_of(strategy), self.deadline - now)
        attempt = _Attempt(name, now, seconds)
        self._report(reports.started(self.claim.holding, name))
        self.running.add(attempt)
        try:
            self._launch(strategy, attempt)
        except Exception as error:  # noqa: BLE001 - no place to run it: that is its failure
            self._loop.call_soon(self._answered, attempt, Ended(End.RAISED, None, error))
        if attempt.ends_at < self._rings_at:
            self._ring_at(attempt.ends_at)

    def _launch(self, strategy: Strategy, attempt: _Attempt) -> None:
        context = self._context(strategy, attempt)
        if strategy.kind.blocking:
            self._launch_elsewhere(strategy, context, attempt)
            return
        made = guarded(strategy, context, attempt.collected, attempt.token)
        attempt.task = self._loop.create_task(made)
        attempt.task.add_done_callback(lambda task: self._answered(attempt, ended_of(task)))

    def _launch_elsewhere(
        self, strategy: Strategy, context: ScanContext, attempt: _Attempt
    ) -> None:
        loop, answered = self._loop, self._answered

        def done(answer: object, error: BaseException | None) -> None:
            ended = Ended(End.ANSWERED, answer) if error is None else Ended(End.RAISED, None, error)
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(answered, attempt, ended, elapsed())

        finish = finisher(self.claim, attempt.name, self.plan.rank)
        task = Task(strategy, context, attempt.collected, attempt.token, attempt.seconds, finish)
        attempt.running = self.place.start(task, done)

    def _context(self, strategy: Strategy, attempt: _Attempt) -> ScanContext:
        claim = self.claim
        params: JSON = {}
        metadata: JSON = {}
        if strategy.takes_context:  # each may change its own
            params, metadata = deepcopy((claim.params, claim.metadata))
        return ScanContext(
            claim.owner, claim.scan_id, attempt.name, params, metadata, attempt.ends_at,
            attempt.token,
        )  # fmt: skip

    # --- Ending ---------------------------------------------------------------------------------

    def _answered(self, attempt: _Attempt, ended: Ended, at: float | None = None) -> None:
        """Take an answer that came ``at`` an instant; at the end of its time it is late."""
        if not attempt.over:
            late = (elapsed() if at is None else at) >= attempt.ends_at
            self._end(attempt, TIMED_OUT if late else ended)

    def _end(self, attempt: _Attempt, ended: Ended) -> None:
        """End a strategy, once: give it its outcome, and its place to the next."""
        if attempt.over:
            return
        attempt.over = True
        attempt.token.set()
        if attempt.running is not None:
            attempt.running.abandon()
        if ended.why is not End.STOPPED:
            took = elapsed() - attempt.began
            self.estimate.finish(attempt.name, took)
            self._kept += took >= QUICK
            self._report(self._outcome(attempt, ended), at_once=took >= QUICK)
        if attempt.task is None or attempt.task.done():
            self._free(attempt)
            return
        ending = self._loop.create_task(put_down(attempt.task))
        self._ending.add(ending)
        ending.add_done_callback(lambda _: self._free(attempt))

    def _free(self, attempt: _Attempt) -> None:
        self.running.discard(attempt)
        self._fill()
        if not self.running:
            self._due.set()

    def _outcome(self, attempt: _Attempt, ended: Ended) -> Reported:
        answer = ended.answer
        if isinstance(answer, Reported):
            return answer
        claim, name, rank = self.claim, attempt.name, self.plan.rank
        if ended.why is End.ANSWERED:
            return finisher(claim, name, rank)(answer)
        error = ended.error or f"timed out after {attempt.seconds:.3g} s"
        return failure(claim, name, rank, error, attempt.collected.snapshot())

    def _ring_at(self, instant: float) -> None:
        """Set the one timer of this run: to the earliest end of a strategy's time."""
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = instant
        self._timer = self._loop.call_later(max(0.0, instant - elapsed()), self._ring)

    def _ring(self) -> None:
        now = elapsed()
        self._rings_at = float("inf")
        for attempt in list(self.running):
            if attempt.ends_at <= now:
                self._end(attempt, TIMED_OUT)
        times = [attempt.ends_at for attempt in self.running if not attempt.over]
        if times and min(times) < self._rings_at:
            self._ring_at(min(times))

    # --- Recording ------------------------------------------------------------------------------

    def _report(self, report: Report, *, at_once: bool = False) -> None:
        self._reports.append(report)
        self._unrecorded += isinstance(report, Reported)
        if at_once or self._unrecorded >= UNRECORDED:
            self._due.set()
        elif self._soon is None:
            self._soon = self._loop.call_later(QUICK, self._due.set)

    async def _write(self) -> None:
        """Write what is reported, batch by batch, until nothing runs and all is written."""
        try:
            self._fill()
            while self.running or self._reports:
                await self._due.wait()
                await self._write_batch()
        finally:
            self.todo.clear()  # at once: what cannot be recorded must not be started

    async def _write_batch(self) -> None:
        """Write what was reported so far, and give the places on."""
        self._due.clear()
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        batch, self._reports = self._reports, []
        outcomes, kept = self._unrecorded, self._kept
        if batch:
            self.claim.holding.seconds_left = self.estimate.left
            await self._record(batch)
            self._unrecorded -= outcomes
            self._kept -= kept
            self._fill()

    async def _record(self, batch: Sequence[Report]) -> None:
        """Write reports; while the store is down and there is time, try again."""
        replaced = set[int]()
        while batch:
            verdicts = await self.claim.submit_all(batch)
            goes_on = elapsed() < self.deadline
            batch = unwritten(self.claim, batch, verdicts, replaced, goes_on=goes_on)
            if batch:
                await delay(RETRY_PAUSE)
