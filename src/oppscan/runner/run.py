"""One attempt at one scan, on an event loop: strategies in free places, outcomes in batches.

Laws
- A strategy keeps its place until its outcome is in the store: whoever cannot record starts
  nothing more. Only a quick one, over within `QUICK` seconds, gives its place on at once, so that
  many of them share a commit; at most `UNRECORDED` wait for it, so little work can be lost.
- No task waits for a place, and one timer serves all strategies. One that would wait where it is
  to run, in a full pool, is not started: waiting is no part of its time.
- A coroutine that is put down keeps its place until it is gone.
- Stopped for whatever reason, nothing more is started, and what still runs gets no outcome here:
  the rule of finishing, or the next worker, gives it one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from contextvars import copy_context
from copy import deepcopy
from typing import Final

from oppscan import reports
from oppscan.claim import ScanClaim
from oppscan.clock import delay, elapsed
from oppscan.drafting import Report, Reported
from oppscan.model import JSON
from oppscan.runner.answers import (
    RETRY_PAUSE,
    STOPPED,
    TIMED_OUT,
    End,
    Ended,
    ended_with,
    finisher,
    outcome_of,
    unreached,
    unwritten,
)
from oppscan.runner.attempt import guarded, put_down
from oppscan.runner.collected import Collected
from oppscan.runner.estimate import Estimate
from oppscan.runner.places import Place, Running, Task
from oppscan.runner.plan import Plan, Released, take
from oppscan.runner.strategies import Flag, ScanContext, Strategy

QUICK: Final = 0.005
UNRECORDED: Final = 64

LOOK_EVERY: Final = 0.05
"""Seconds between looks for room in a pool that other scans use too."""


class _Attempt:
    """A strategy under way: in a task of this loop, or elsewhere."""

    __slots__ = (
        "began",
        "collected",
        "ends_at",
        "gone",
        "name",
        "over",
        "running",
        "seconds",
        "task",
        "token",
    )

    def __init__(self, name: str, began: float, seconds: float, limit: int) -> None:
        self.name = name
        self.began = began
        self.seconds = seconds
        self.ends_at: float = began + seconds
        self.collected = Collected(limit)
        self.token = Flag()
        self.task: asyncio.Task[None] | None = None
        self.running: Running | None = None
        self.over = False  # it has its outcome, or will get none here
        self.gone = False  # nothing of it runs any more, or can be ended


class Run:
    """One attempt at one scan; ``deadline`` is when its strategies must be through.

    ``stop`` is set when the scan is to be released.
    """

    def __init__(  # noqa: PLR0917 - all that there is to an attempt
        self,
        claim: ScanClaim,
        plan: Plan,
        place: Place,
        estimate: Estimate,
        deadline: float,
        stop: asyncio.Event | None = None,
    ) -> None:
        self.claim = claim
        self.plan = plan
        self.place = place
        self.deadline = deadline
        self.estimate = estimate
        self.stop: asyncio.Event = stop or asyncio.Event()
        self.todo: deque[str] = deque()
        self.running: set[_Attempt] = set()
        self._loop = asyncio.get_running_loop()
        self._variables = copy_context()  # the caller's, for each strategy
        self._filling = False
        self._reports: list[Report] = []
        self._unrecorded = 0
        self._kept = 0  # places of strategies that are over, and not yet recorded
        self._due = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._rings_at = float("inf")
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Run what has no outcome, until all is done, time is up, or there is reason to stop."""
        known = [name for name in self.claim.remaining if name in self.plan.strategies]
        self.todo.extend(self.plan.order(known))
        writing = asyncio.create_task(self._write())
        reasons = [asyncio.create_task(why()) for why in (self.claim.interrupted, self.stop.wait)]
        try:
            await asyncio.wait({writing, *reasons}, return_when=asyncio.FIRST_COMPLETED)
            released = not writing.done() and self.stop.is_set()
            if not writing.done():
                self._stop()
            await writing
        finally:
            self._stop()
            self._quiet()  # at once: a second cancellation may end this wait
            for task in (writing, *reasons):
                task.cancel()
            everything = asyncio.gather(writing, *reasons, *self._ending, return_exceptions=True)
            await asyncio.shield(everything)
        if released:
            raise Released
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
        for timer in (self._soon, self._timer, self._look):
            if timer is not None:
                timer.cancel()

    # --- Starting -------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Start strategies in the places that are free."""
        if self._filling:
            return  # one that ended while it was started: who started it goes on
        self._filling = True
        try:
            self._fill_places()
        finally:
            self._filling = False
        if not (self.todo or self.running):
            self._due.set()

    def _fill_places(self) -> None:
        while (
            self.todo
            and len(self.running) + self._kept < self.plan.max_concurrency
            and self._unrecorded < UNRECORDED
            and not self.claim.is_interrupted
        ):
            now = elapsed()
            if now >= self.deadline:
                self.todo.clear()
                return
            name = take(self.todo, self._has_room)
            if name is None:
                self._look_again()
                return
            self._begin(name, now)

    def _has_room(self, name: str) -> bool:
        return not self.plan.strategies[name].kind.blocking or self.place.has_room

    def _look_again(self) -> None:
        if self._look is not None:
            self._look.cancel()
        self._look = self._loop.call_later(LOOK_EVERY, self._fill)

    def _begin(self, name: str, now: float) -> None:
        strategy = self.plan.strategies[name]
        seconds = min(self.plan.timeout_of(strategy), self.deadline - now)
        attempt = _Attempt(name, now, seconds, self.claim.limits.max_strategy_bytes)
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
        else:
            attempt.task = self._loop.create_task(self._run_here(strategy, context, attempt))

    async def _run_here(self, strategy: Strategy, context: ScanContext, attempt: _Attempt) -> None:
        """Run a coroutine; to answer is the last that its task does, which saves a callback."""
        if attempt.over:
            return  # stopped before it began
        try:
            ended = await guarded(strategy, context, attempt.collected)
        except KeyboardInterrupt:
            raise  # the host's own
        except BaseException as error:
            if attempt.over:  # put down: the cancellation, or the close, was ours
                raise
            ended = Ended(End.RAISED, None, error)
        attempt.gone = True
        self._variables.copy().run(self._answered, attempt, ended)  # it starts others

    def _launch_elsewhere(
        self, strategy: Strategy, context: ScanContext, attempt: _Attempt
    ) -> None:
        loop, answered = self._loop, self._answered

        def done(answer: object, error: BaseException | None) -> None:
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(answered, attempt, ended_with(answer, error), elapsed())

        finish = finisher(self.claim, attempt.name, self.plan.rank)
        task = Task(strategy, context, attempt.collected, attempt.token, attempt.seconds, finish)
        attempt.gone = True  # there is nothing of it on this loop
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
            outcome = outcome_of(
                self.claim, attempt.name, self.plan.rank, ended, attempt.collected, attempt.seconds
            )
            self._report(outcome, at_once=took >= QUICK)
        if attempt.gone or attempt.task is None:
            self._free(attempt)
            return
        ending = self._loop.create_task(put_down(attempt.task))
        self._ending.add(ending)
        ending.add_done_callback(lambda _: self._free(attempt))

    def _free(self, attempt: _Attempt) -> None:
        self.running.discard(attempt)
        self._fill()

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
            while self.running or self._reports or self.todo:
                await self._due.wait()
                await self._write_batch()
        finally:
            self._stop()  # at once: what cannot be recorded must not be started

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
            goes_on = elapsed() < self.deadline and not self.stop.is_set()
            batch = unwritten(self.claim, batch, verdicts, replaced, goes_on=goes_on)
            if batch:
                await delay(RETRY_PAUSE)
