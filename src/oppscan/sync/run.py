"""One attempt at one scan, seen to by one thread: strategies in threads, outcomes in batches.

Laws
- The thread starts strategies where places are free, waits a moment for answers, and writes what
  came of both in one commit.
- Stopped for whatever reason, nothing more is started, and what still runs gets no outcome here:
  the rule of finishing, or the next worker, gives it one.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Sequence
from copy import deepcopy
from typing import Final

from attrs import define

from oppscan import reports
from oppscan.clock import elapsed
from oppscan.drafting import Report, Reported
from oppscan.inputs import describe_error
from oppscan.runner.answers import (
    RETRY_PAUSE,
    TIMED_OUT,
    End,
    Ended,
    ended_with,
    finisher,
    outcome_of,
    unreached,
    unwritten,
)
from oppscan.runner.attempt import run_alone
from oppscan.runner.collected import Collected
from oppscan.runner.estimate import Estimate
from oppscan.runner.places import Place, Running, Task, run_blocking
from oppscan.runner.plan import Plan, Released, take
from oppscan.runner.strategies import Flag, ScanContext, StrategyLate, StrategyRaised
from oppscan.sync.claim import ScanClaim

_MOMENT: Final = 0.05


@define(eq=False)
class _Attempt:
    """A strategy under way."""

    name: str
    seconds: float
    deadline: float
    collected: Collected
    token: Flag
    task: Running | None = None


_End = tuple[_Attempt, Ended, float]


class Run:
    """One attempt at one scan, seen to by one thread."""

    def __init__(
        self, claim: ScanClaim, plan: Plan, place: Place, threads: Place, estimate: Estimate
    ) -> None:
        self.claim = claim
        self.plan = plan
        self.place = place
        self.threads = threads  # for coroutines, which have no business in other processes
        self.estimate = estimate
        self.deadline: float = 0.0
        self.stop: threading.Event = threading.Event()
        self.todo: deque[str] = deque()
        self.running: set[_Attempt] = set()
        self.ends: queue.SimpleQueue[_End] = queue.SimpleQueue()

    def run(self, deadline: float, stop: threading.Event) -> None:
        """Run what has no outcome, until all is done, time is up, or there is reason to stop."""
        self.deadline, self.stop = deadline, stop
        known = [name for name in self.claim.remaining if name in self.plan.strategies]
        self.todo.extend(self.plan.order(known))
        try:
            while (self.todo or self.running) and not self.claim.is_interrupted:
                if self.stop.is_set():
                    raise Released
                if elapsed() >= self.deadline:
                    self.todo.clear()
                self._record([*self._fill(), *self._gather()])
        finally:
            for attempt in list(self.running):
                self._let_go(attempt)
        if self.claim.cancel_requested:
            return
        self._record(unreached(self.claim, self.plan.strategies))

    def _fill(self) -> list[Report]:
        """Start strategies in the places that are free."""
        begun: list[Report] = []
        while len(self.running) < self.plan.max_concurrency:
            name = take(self.todo, self._has_room)
            if name is None:
                break
            begun.append(reports.started(self.claim.holding, name))
            refused = self._begin(name)
            if refused is not None:
                begun.append(refused)
        return begun

    def _place_of(self, name: str) -> Place:
        return self.place if self.plan.strategies[name].kind.blocking else self.threads

    def _has_room(self, name: str) -> bool:
        return self._place_of(name).has_room

    def _begin(self, name: str) -> Reported | None:
        strategy = self.plan.strategies[name]
        now = elapsed()
        seconds = min(self.plan.timeout_of(strategy), max(0.0, self.deadline - now))
        claim = self.claim
        collected = Collected(claim.limits.max_strategy_bytes)
        attempt = _Attempt(name, seconds, now + seconds, collected, Flag())
        params, metadata = deepcopy((claim.params, claim.metadata))  # each may change its own
        context = ScanContext(
            claim.owner, claim.scan_id, name, params, metadata, attempt.deadline, attempt.token
        )
        finish = finisher(claim, name, self.plan.rank)
        task = Task(strategy, context, collected, attempt.token, seconds, finish)
        ends = self.ends

        def done(answer: object, error: BaseException | None) -> None:
            ends.put((attempt, ended_with(answer, error), elapsed()))

        self.running.add(attempt)
        try:
            attempt.task = self._place_of(name).start(task, done)
        except Exception as error:  # noqa: BLE001 - no place to run it: that is its failure
            return self._outcome(attempt, Ended(End.RAISED, None, error))
        return None

    def _gather(self) -> list[Report]:
        """Wait a moment for answers, and give the outcomes that are due."""
        found: list[Report] = []
        wait = min((a.deadline for a in self.running), default=self.deadline) - elapsed()
        try:
            end = self.ends.get(timeout=min(_MOMENT, max(0.0, wait)))
            while True:
                attempt, ended, at = end
                if attempt in self.running and at < attempt.deadline:
                    found.append(self._outcome(attempt, ended))
                end = self.ends.get_nowait()
        except queue.Empty:
            pass
        now = elapsed()
        late = [attempt for attempt in self.running if attempt.deadline <= now]
        return found + [self._outcome(attempt, TIMED_OUT) for attempt in late]

    def _outcome(self, attempt: _Attempt, ended: Ended) -> Reported:
        """Give the outcome of a strategy that ended."""
        self._let_go(attempt)
        self.estimate.finish(attempt.name, elapsed() - attempt.deadline + attempt.seconds)
        self.claim.holding.seconds_left = self.estimate.left
        return outcome_of(
            self.claim, attempt.name, self.plan.rank, ended, attempt.collected, attempt.seconds
        )

    def _let_go(self, attempt: _Attempt) -> None:
        attempt.token.set()
        self.running.discard(attempt)
        if attempt.task is not None:
            attempt.task.abandon()

    @property
    def _goes_on(self) -> bool:
        """Whether there is still time, and no reason to stop."""
        return elapsed() < self.deadline and not self.stop.is_set()

    def _record(self, reported: Sequence[Report]) -> None:
        """Write reports; while the store is down and there is time, try again."""
        batch, replaced = list(reported), set[int]()
        while batch:
            verdicts = self.claim.submit_all(batch)
            batch = unwritten(self.claim, batch, verdicts, replaced, goes_on=self._goes_on)
            if batch:
                self.stop.wait(RETRY_PAUSE)


def run_any(task: Task) -> object:
    """Run a strategy in its thread; a coroutine in an event loop of its own there."""
    if task.strategy.kind.blocking:
        return run_blocking(task)
    ended = asyncio.run(run_alone(task.strategy, task.context, task.collected, task.token))
    if ended.error is not None:
        raise StrategyRaised(describe_error(ended.error, "error"))
    if ended.why is not End.ANSWERED:
        raise StrategyLate
    return task.finish(ended.answer)
