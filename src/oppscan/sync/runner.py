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
from weakref import finalize

from attrs import define

from oppscan.clock import delay_blocking, elapsed
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
from oppscan.runner.plan import (
    LEAVE_WITHIN,
    LOOK_EVERY,
    Recovery,
    Released,
    closing_of,
    left_to_others,
    make_plan,
)
from oppscan.runner.strategies import Rank, Strategies
from oppscan.runner.threads import BlockingThreads
from oppscan.sync.loops import refuse_in_loop
from oppscan.sync.registry import ScanRegistry
from oppscan.sync.run import Run, run_any
from oppscan.ttl import duration

SignalHandler = Callable[[int, FrameType | None], object] | int | None


@define(eq=False)
class _Errand:
    """A scan that a runner sees through, in a thread; ``stop`` tells it to let go."""

    thread: threading.Thread
    stop: threading.Event


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
        self._errands: set[_Errand] = set()
        self._have_none()
        finalize(self, self._place.close).atexit = False
        finalize(self, self._threads.close).atexit = False
        finalize(self, _release_all, self._errands)  # also where Python ends without a `close`
        watch_forks(self, StrategyRunner._have_none)

    def _have_none(self) -> None:
        """Start with no scans under way: those of the parent are the parent's."""
        self._changed = threading.Condition()
        self._errands.clear()

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
        """Give running scans ``drain`` seconds to end, then release them for other workers.

        Whoever waits for one that is released gets `ClaimLost`.
        """
        seconds = duration(drain, "drain", least=0.0)
        self._closed = True
        with self._changed:
            try:
                self._changed.wait_for(self._is_idle, seconds)
            finally:
                for errand in self._errands:
                    errand.stop.set()
            self._changed.wait_for(self._is_idle, LEAVE_WITHIN)
        self._place.close()
        self._threads.close()

    aclose = close

    def _is_idle(self) -> bool:
        here = threading.current_thread()
        return all(errand.thread is here for errand in self._errands)

    def release_on_sigterm(self) -> None:
        """On SIGTERM, release all scans for other workers, then let the signal take its course.

        For hosts that do not handle the signal themselves; those that do call `close`. Must be
        called in the main thread.
        """
        before = signal.getsignal(signal.SIGTERM)

        def release(number: int, frame: FrameType | None) -> None:
            del number, frame
            self._closed = True
            for errand in list(self._errands):
                errand.stop.set()
            self._leaving = partial(self._leave, before)
            if self._is_idle_here():
                self._leaving()  # else once this thread's own scan is released

        signal.signal(signal.SIGTERM, release)

    def _is_idle_here(self) -> bool:
        here = threading.current_thread()
        return all(errand.thread is not here for errand in list(self._errands))

    def _leave(self, before: SignalHandler) -> None:
        """Wait until the other threads released their scans, and repeat the signal."""
        _release_all(self._errands)
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
        with self._errand(ticket.scan_id) as stop:
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
            begun = threading.Event()
            thread = threading.Thread(
                target=copy_context().run,
                args=(self._in_background, ticket.scan_id, begun),
                name=f"oppscan run of {ticket.scan_id}",
                daemon=True,
            )
            thread.start()
            begun.wait()  # then whoever closes this runner knows of it
        return ticket

    def resume(self, scan_id: str, *, owner: str | None = None) -> ScanStatus:
        """Claim a pending or stalled scan, run what has no outcome, and give its final status.

        Strategies that this runner does not have are ``skipped``.
        """
        refuse_in_loop("resume")
        self._plan.check_open(closed=self._closed)
        with self._errand(scan_id) as stop:
            return self._attempt(scan_id, owner, stop)

    def recover(self, limit: int = 100) -> list[ScanStatus]:
        """Finish up to ``limit`` stalled scans, one after the other; others may do the same.

        Scans with an open strategy that this runner does not have are left to those that do.
        """
        refuse_in_loop("recover")
        self._plan.check_open(closed=self._closed)
        recovery = Recovery(limit)
        while recovery.goes_on:
            for scan_id in recovery.news(self._registry.stalled(recovery.wanted)):
                if self._closed or not recovery.left:
                    return recovery.finished
                try:
                    status = self._registry.status(scan_id)
                    if self._plan.covers(status):
                        recovery.left -= 1
                        recovery.finished.append(self.resume(scan_id))
                except OppscanError as error:
                    logger.info("scan %s: %s", scan_id, left_to_others(error))
        return recovery.finished

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

    @contextmanager
    def _errand(self, scan_id: str) -> Generator[threading.Event]:
        """See a scan through in this thread; gives what is set when it is to be released."""
        errand = _Errand(threading.current_thread(), threading.Event())
        with self._changed:
            self._errands.add(errand)
        if self._closed:  # since its scan was started
            errand.stop.set()
        try:
            yield errand.stop
        except Released:
            raise closing_of(scan_id) from None
        finally:
            with self._changed:
                self._errands.discard(errand)
                self._changed.notify_all()
            if self._leaving is not None and errand.thread is threading.main_thread():
                self._leaving()

    def _in_background(self, scan_id: str, begun: threading.Event) -> None:
        try:
            with self._errand(scan_id) as stop:
                begun.set()
                self._see_through(scan_id, stop, must_run=True)
        except (OppscanError, TimeoutError) as error:
            if not (self._closed and isinstance(error, ClaimLost)):
                logger.exception("a background scan ended early")

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
        began = elapsed()
        if stop.is_set():
            raise Released
        with self._registry.claim(scan_id, owner=owner) as claim:
            claim.ends_at = began + self._plan.budget
            estimate = Estimate(claim.remaining, self._durations, self._plan.max_concurrency)
            run = Run(claim, self._plan, self._place, self._threads, estimate)
            run.run(began + self._plan.working_time, stop)
        return claim.status


def _release_all(errands: set[_Errand]) -> None:
    """Have all scans released, and wait a moment for those of other threads."""
    deadline = elapsed() + LEAVE_WITHIN
    here = threading.current_thread()
    while (left := [one for one in list(errands) if one.thread is not here]) and (
        elapsed() < deadline
    ):
        for errand in left:
            errand.stop.set()
        delay_blocking(LOOK_EVERY / 10)
