"""`StrategyRunner`: run the strategies of scans in threads. The blocking face."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from types import FrameType, TracebackType
from typing import Self

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
from oppscan.runner.estimate import Durations, Estimate
from oppscan.runner.places import Place, ThreadPlace
from oppscan.runner.plan import LEAVE_WITHIN, left_to_others, make_plan
from oppscan.runner.strategies import (
    Rank,
    Strategies,
)
from oppscan.runner.threads import BlockingThreads
from oppscan.sync.loops import refuse_in_loop
from oppscan.sync.registry import ScanRegistry
from oppscan.sync.run import Released, Run, run_any

SignalHandler = Callable[[int, FrameType | None], object] | int | None


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
        executor: Executor | Callable[[], Executor] | None = None,
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
        self._threads = ThreadPlace(threads, run_any)
        self._place: Place = self._threads
        if executor is not None:
            from oppscan.runner.executors import ExecutorPlace

            self._place = ExecutorPlace(executor, threads)
        self._durations = Durations()
        self._leaving: Callable[[], None] | None = None
        self._closed = False
        self._have_none()
        watch_forks(self, StrategyRunner._have_none)

    def _have_none(self) -> None:
        """Start with no scans under way: those of the parent are the parent's."""
        self._changed = threading.Condition()
        self._background: dict[threading.Thread, threading.Event] = {}
        self._active: dict[threading.Thread, threading.Event] = {}

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
        """Give running scans ``drain`` seconds to end, then release them for other workers."""
        self._closed = True
        with self._changed:
            self._changed.wait_for(self._is_idle, drain)
            for stop in [*self._background.values(), *self._active.values()]:
                stop.set()
            self._changed.wait_for(self._is_idle, LEAVE_WITHIN)
        self._place.close()
        self._threads.close()

    def _is_idle(self) -> bool:
        return not {*self._background, *self._active} - {threading.current_thread()}

    def release_on_sigterm(self) -> None:
        """On SIGTERM, release all scans for other workers, then let the signal take its course.

        For hosts that do not handle the signal themselves; those that do call `close`. Must be
        called in the main thread.
        """
        before = signal.getsignal(signal.SIGTERM)

        def release(number: int, frame: FrameType | None) -> None:
            del number, frame
            self._closed = True
            for stop in [*self._active.values(), *self._background.values()]:
                stop.set()
            self._leaving = partial(self._leave, before)
            if threading.main_thread() not in self._active:
                self._leaving()  # else once this thread's own scan is released

        signal.signal(signal.SIGTERM, release)

    def _leave(self, before: SignalHandler) -> None:
        """Wait until the other threads released their scans, and repeat the signal."""
        deadline = elapsed() + LEAVE_WITHIN
        others = {*self._active, *self._background} - {threading.current_thread()}
        for thread in others:
            thread.join(max(0.0, deadline - elapsed()))
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

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
        refuse_in_loop("run")
        ticket = self._begin(owner, params, metadata, key, reuse, only)
        stop = threading.Event()
        with _released_is_lost(ticket.scan_id):
            return self._see_through(ticket.scan_id, stop, must_run=ticket.must_run)

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
                target=copy_context().run,
                args=(self._in_background, ticket.scan_id, stop),
                name=f"oppscan run of {ticket.scan_id}",
                daemon=True,
            )
            with self._changed:
                self._background[thread] = stop
            thread.start()
        return ticket

    def resume(self, scan_id: str, *, owner: str | None = None) -> ScanStatus:
        """Claim a pending or stalled scan, run what has no outcome, and give its final status.

        Strategies that this runner does not have are ``skipped``.
        """
        refuse_in_loop("resume")
        self._plan.check_open(closed=self._closed)
        with _released_is_lost(scan_id):
            return self._attempt(scan_id, owner, threading.Event())

    def recover(self, limit: int = 100) -> list[ScanStatus]:
        """Finish up to ``limit`` stalled scans, one after the other; others may do the same.

        Scans with an open strategy that this runner does not have are left to those that do.
        """
        refuse_in_loop("recover")
        self._plan.check_open(closed=self._closed)
        finished = []
        for stalled in self._registry.stalled(limit):
            try:
                status = self._registry.status(stalled.scan_id)
                if self._plan.covers(status):
                    finished.append(self.resume(stalled.scan_id))
            except OppscanError as error:
                logger.info("scan %s: %s", stalled.scan_id, left_to_others(error))
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
        self._plan.check_open(closed=self._closed)
        names = self._plan.chosen(only)
        return self._registry.start(
            owner, names, params=params, metadata=metadata, key=key, reuse=reuse
        )

    def _in_background(self, scan_id: str, stop: threading.Event) -> None:
        try:
            self._see_through(scan_id, stop, must_run=True)
        except Released:
            return
        except (OppscanError, TimeoutError):
            logger.exception("a background scan ended early")
        finally:
            with self._changed:
                self._background.pop(threading.current_thread(), None)
                self._changed.notify_all()

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
            status = self._registry.status(scan_id)
            if status.done:
                return status
            must_run = status.stalled
            if not must_run and stop.wait(self._plan.patience(scan_id, deadline - elapsed())):
                raise Released

    def _attempt(self, scan_id: str, owner: str | None, stop: threading.Event) -> ScanStatus:
        deadline = elapsed() + self._plan.working_time
        me = threading.current_thread()
        with self._changed:
            self._active[me] = stop
        try:
            with self._registry.claim(scan_id, owner=owner) as claim:
                estimate = Estimate(claim.remaining, self._durations, self._plan.max_concurrency)
                run = Run(claim, self._plan, self._place, self._threads, estimate)
                run.run(deadline, stop)
            return claim.status
        finally:
            with self._changed:
                self._active.pop(me, None)
                self._changed.notify_all()
            if self._leaving is not None and me is threading.main_thread():
                self._leaving()


@contextmanager
def _released_is_lost(scan_id: str) -> Generator[None]:
    """Tell the caller of a run that its scan was released because the runner was closed."""
    try:
        yield
    except Released:
        msg = f"the runner was closed, so scan {scan_id} was released; any worker can resume it"
        raise ClaimLost(msg, scan_id=scan_id) from None
