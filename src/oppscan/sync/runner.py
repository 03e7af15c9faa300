"""`StrategyRunner`: run the strategies of scans in threads. The blocking face."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from attrs import define

from oppscan import reports
from oppscan.clock import elapsed
from oppscan.driver import logger
from oppscan.errors import (
    ClaimLost,
    InvalidInput,
    OppscanError,
    ScanAlreadyClaimed,
    ScanFinished,
    StorageUnavailable,
)
from oppscan.holding import Report, Reported
from oppscan.model import Reuse, ScanStatus, Ticket
from oppscan.runner.answers import failure, finisher, over_limit, unreached
from oppscan.runner.attempt import run_alone
from oppscan.runner.executors import ExecutorPlace, ExecutorSource
from oppscan.runner.places import Place, Running, Task, ThreadPlace, run_blocking
from oppscan.runner.plan import Plan, make_plan
from oppscan.runner.strategies import (
    Collected,
    Flag,
    Rank,
    ScanContext,
    Strategies,
)
from oppscan.runner.threads import BlockingThreads
from oppscan.sync.claim import ScanClaim
from oppscan.sync.registry import ScanRegistry

_RETRY_PAUSE: Final = 0.2
_MOMENT: Final = 0.05


class StrategyRunner:
    """Runs strategies for scans of one registry; usable as it is, or as a context manager.

    ``strategies``: a mapping of names to callables, or a sequence of functions, `Strategy` or
    functions marked with `strategy`. ``max_concurrency``: how many of one scan run at once.
    ``strategy_timeout`` and ``budget``: seconds for one strategy, and for one attempt at a whole
    scan. ``executor``: where blocking strategies run, a `concurrent.futures.Executor` or a factory
    of one (then it is replaced when it breaks), by default daemon threads. ``rank``: a number for
    an opportunity; results then come best first.

    Every strategy runs in a daemon thread; coroutine functions and async generators in an event
    loop of their own there. Whatever a strategy does, the others are unaffected and its outcome
    says what happened.
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
                "registry must be an oppscan.sync.ScanRegistry, not "
                f"{type(registry).__module__}.{type(registry).__name__}; "
                "hosts with an event loop use oppscan.StrategyRunner"
            )
            raise InvalidInput(msg)
        self._registry = registry
        self._plan = make_plan(strategies, max_concurrency, strategy_timeout, budget, rank)
        threads = BlockingThreads("oppscan strategy")
        self._threads = ThreadPlace(threads, _run_any)
        self._place: Place = self._threads
        if executor is not None:
            self._place = ExecutorPlace(executor, threads)
        self._lock = threading.Lock()
        self._background: dict[threading.Thread, threading.Event] = {}
        self._closed = False

    def __enter__(self) -> Self:
        """Give the runner itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def close(self, drain: float = 10.0) -> None:
        """Give background scans ``drain`` seconds to end, then release them for other workers."""
        self._closed = True
        with self._lock:
            background = dict(self._background)
        deadline = elapsed() + drain
        for thread in background:
            thread.join(max(0.0, deadline - elapsed()))
        for stop in background.values():
            stop.set()
        for thread in background:
            thread.join()
        self._place.close()
        self._threads.close()

    # --- Running scans --------------------------------------------------------------------------

    def run(
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

        A live equal scan is joined and waited for; a stalled one is resumed. Ctrl-C stops the
        strategies and releases the scan. `TimeoutError` when another worker's scan is not done
        within the budget.
        """
        ticket = self._begin(owner, params, metadata, key, reuse, only)
        return self._see_through(ticket.scan_id, threading.Event(), must_run=ticket.must_run)

    def start(
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
        ticket = self._begin(owner, params, metadata, key, reuse, only)
        if ticket.must_run:
            stop = threading.Event()
            thread = threading.Thread(
                target=self._in_background,
                args=(ticket.scan_id, stop),
                name=f"oppscan run of {ticket.scan_id}",
                daemon=True,
            )
            with self._lock:
                self._background[thread] = stop
            thread.start()
        return ticket

    def resume(self, scan_id: str, *, owner: str | None = None) -> ScanStatus:
        """Claim a pending or stalled scan, run what has no outcome, and give its final status."""
        return self._attempt(scan_id, owner, threading.Event())

    def recover(self, limit: int = 100) -> list[ScanStatus]:
        """Finish up to ``limit`` stalled scans, one after the other; others may do the same."""
        finished = []
        for stalled in self._registry.stalled(limit):
            try:
                finished.append(self._attempt(stalled.scan_id, None, threading.Event()))
            except (ScanAlreadyClaimed, ScanFinished, ClaimLost):
                continue  # another worker was quicker
        return finished

    def _begin(  # noqa: PLR0917 - the arguments of ``run``
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
        return self._registry.start(
            owner, names, params=params, metadata=metadata, key=key, reuse=reuse
        )

    def _in_background(self, scan_id: str, stop: threading.Event) -> None:
        try:
            self._see_through(scan_id, stop, must_run=True)
        except (OppscanError, TimeoutError, _Released) as error:
            if not isinstance(error, _Released):
                logger.error("a background scan ended with %r", error, exc_info=error)
        finally:
            with self._lock:
                self._background.pop(threading.current_thread(), None)

    def _see_through(self, scan_id: str, stop: threading.Event, *, must_run: bool) -> ScanStatus:
        """Run the scan, or wait for whoever runs it and step in when they die."""
        deadline = elapsed() + self._plan.budget
        while True:
            if must_run:
                try:
                    return self._attempt(scan_id, None, stop)
                except (ScanAlreadyClaimed, ClaimLost):
                    pass
                except ScanFinished as finished:
                    return finished.status
            for status in self._registry.watch(scan_id):
                if status.done:
                    return status
                must_run = status.stalled
                if must_run or elapsed() >= deadline:
                    break
            if not must_run and elapsed() >= deadline:
                msg = f"scan {scan_id} is still run by another worker after the whole budget"
                raise TimeoutError(msg)

    def _attempt(self, scan_id: str, owner: str | None, stop: threading.Event) -> ScanStatus:
        deadline = elapsed() + self._plan.working_time
        with self._registry.claim(scan_id, owner=owner) as claim:
            _Run(claim, self._plan, self._place, self._threads, deadline, stop).run()
        return claim.status


class _Released(BaseException):
    """Leaves the block of a claim like an exit does: the scan is released."""


@define(eq=False)
class _Attempt:
    """A strategy under way."""

    name: str
    seconds: float
    deadline: float
    collected: Collected
    token: Flag
    task: Running | None = None


_End = tuple[_Attempt, object, BaseException | None]


class _Run:
    """One attempt at one scan, seen to by one thread."""

    def __init__(  # noqa: PLR0917 - what an attempt is made of
        self,
        claim: ScanClaim,
        plan: Plan,
        place: Place,
        threads: Place,
        deadline: float,
        stop: threading.Event,
    ) -> None:
        self.claim = claim
        self.plan = plan
        self.place = place
        self.threads = threads  # for coroutines, which have no business in other processes
        self.deadline = deadline
        self.stop = stop
        self.todo: deque[str] = deque()
        self.running: set[_Attempt] = set()
        self.ends: queue.SimpleQueue[_End] = queue.SimpleQueue()

    def run(self) -> None:
        """Run what has no outcome, until all is done, time is up, or there is reason to stop."""
        known = [name for name in self.claim.remaining if name in self.plan.strategies]
        self.todo.extend(self.plan.order(known))
        try:
            while (self.todo or self.running) and not self.claim.is_interrupted:
                if self.stop.is_set():
                    raise _Released
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
        while self.todo and len(self.running) < self.plan.max_concurrency:
            name = self.todo.popleft()
            begun.append(reports.started(self.claim.holding, name))
            refused = self._begin(name)
            if refused is not None:
                begun.append(refused)
        return begun

    def _begin(self, name: str) -> Reported | None:
        strategy = self.plan.strategies[name]
        now = elapsed()
        seconds = min(self.plan.timeout_of(strategy), max(0.0, self.deadline - now))
        attempt = _Attempt(name, seconds, now + seconds, Collected(), Flag())
        claim = self.claim
        context = ScanContext(
            claim.owner, claim.scan_id, name, claim.params, claim.metadata,
            attempt.deadline, attempt.token,
        )  # fmt: skip
        finish = finisher(claim, name, self.plan.rank)
        task = Task(strategy, context, attempt.collected, attempt.token, seconds, finish)
        ends = self.ends

        def done(answer: object, error: BaseException | None) -> None:
            ends.put((attempt, answer, error))

        self.running.add(attempt)
        place = self.place if strategy.kind.blocking else self.threads
        try:
            attempt.task = place.start(task, done)
        except Exception as error:  # noqa: BLE001 - no place to run it: that is its failure
            return self._outcome(attempt, None, error)
        return None

    def _gather(self) -> list[Report]:
        """Wait a moment for answers, and give the outcomes that are due."""
        found: list[Report] = []
        wait = min((a.deadline for a in self.running), default=0.0) - elapsed()
        try:
            end = self.ends.get(timeout=min(_MOMENT, max(0.0, wait)))
            while True:
                attempt, answer, error = end
                if attempt in self.running:
                    found.append(self._outcome(attempt, answer, error))
                end = self.ends.get_nowait()
        except queue.Empty:
            pass
        now = elapsed()
        late = [attempt for attempt in self.running if attempt.deadline <= now]
        return found + [self._outcome(attempt, None, None) for attempt in late]

    def _outcome(self, attempt: _Attempt, answer: object, error: BaseException | None) -> Reported:
        """Give the outcome of a strategy; with neither answer nor error, its time is over."""
        self._let_go(attempt)
        if isinstance(answer, Reported):
            return answer
        ended = error or f"timed out after {attempt.seconds:.3g} s"
        found = attempt.collected.snapshot()
        return failure(self.claim, attempt.name, self.plan.rank, ended, found)

    def _let_go(self, attempt: _Attempt) -> None:
        attempt.token.set()
        self.running.discard(attempt)
        if attempt.task is not None:
            attempt.task.abandon()

    def _record(self, reported: Sequence[Report]) -> None:
        """Write reports; while the store is down and there is time, try again."""
        batch = list(reported)
        while batch:
            verdicts = self.claim.submit_all(batch)
            again: list[Report] = []
            for report, verdict in zip(batch, verdicts, strict=True):
                if isinstance(verdict, StorageUnavailable) and elapsed() < self.deadline:
                    again.append(report)
                elif isinstance(verdict, InvalidInput) and isinstance(report, Reported):
                    again.append(over_limit(self.claim, report, verdict))
                elif verdict is not None:
                    raise verdict
            batch = again
            if batch:
                self.stop.wait(_RETRY_PAUSE)


def _run_any(task: Task) -> object:
    """Run a strategy in its thread; a coroutine in an event loop of its own there."""
    if task.strategy.kind.blocking:
        return run_blocking(task)
    ended = asyncio.run(run_alone(task.strategy, task.context, task.collected, task.token))
    if ended.error is not None:
        raise ended.error
    return task.finish(ended.answer)
