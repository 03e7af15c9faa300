"""`ScanClaim`: a scan held by this thread, reported on, and let go. The blocking face.

It decides nothing: `oppscan.holding` says what is written. Reports of several threads share a
commit: the first to get the pen writes for all who queued meanwhile. A daemon thread renews the
lease while the block runs; it ends with the block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from oppscan import reports
from oppscan.clock import Clock, IdSource
from oppscan.drafting import Heartbeat, Report
from oppscan.driver import Stores, drive_blocking, logger
from oppscan.errors import ClaimLost, OppscanError, StorageUnavailable
from oppscan.flow import Flow
from oppscan.held import HeldScan
from oppscan.holding import Holding
from oppscan.inputs import Limits
from oppscan.leaving import BEATS_PER_LEASE, INTERRUPTED, farewell
from oppscan.sync.loops import refuse_in_loop


class _Queued:
    """A report, until when it must be written, and its verdict once there is one."""

    __slots__ = ("deadline", "judged", "report", "verdict")

    def __init__(self, report: Report, deadline: float) -> None:
        self.report = report
        self.deadline = deadline
        self.judged = False
        self.verdict: Exception | None = None


class ScanClaim(HeldScan):
    """A claim on one scan; a context manager, made by ``ScanRegistry.claim``.

    Entering takes the scan (`ScanAlreadyClaimed`, `ScanFinished`, or what a read raises), and
    renews its lease every quarter of it until the block is left. Leaving it normally finishes
    the scan; by an exception, fails it; by Ctrl-C, exit or a store that is down, releases it, so
    that another worker can resume it at once.

    Every write is in the store when its call returns: one round trip, shared by all that were
    made while the one before was under way. Any thread may report. Writing with a claim that
    ended, or in a forked child, raises `ClaimLost`.
    """

    def __init__(
        self,
        entering: Callable[[], Flow[Holding]],
        stores: Stores,
        clock: Clock,
        ids: IdSource,
        limits: Limits,
    ) -> None:
        super().__init__(entering, stores, clock, ids, limits)
        self._queue: list[_Queued] = []
        self._queue_lock = threading.Lock()
        self._pen = threading.Lock()
        self._left = threading.Event()
        self._stop = threading.Event()
        self._beats: threading.Thread | None = None

    @property
    def is_interrupted(self) -> bool:
        """Whether cancellation was asked for, or the claim has ended."""
        return self._forked or self._stop.is_set()

    def interrupted(self) -> None:
        """Wait until cancellation is asked for, or the claim has ended."""
        refuse_in_loop("interrupted")
        if not self._forked:
            self._stop.wait()

    # --- Reporting ------------------------------------------------------------------------------

    def strategy_started(self, name: str) -> None:
        """Note that a strategy runs. `InvalidInput` for an unknown name or one with an outcome."""
        self.submit(reports.started(self._writable(), name))

    def strategy_finished(self, name: str, opportunities: Sequence[object]) -> None:
        """Give a strategy its outcome: ``found`` with opportunities, ``empty`` without.

        ``opportunities``: a list or tuple of JSON objects. `InvalidInput`, and nothing changes,
        for what JSON cannot carry, what is over a limit, and a second outcome.
        """
        self.submit(reports.finished(self._writable(), name, opportunities, self.limits))

    def strategy_failed(
        self,
        name: str,
        error: BaseException | str,
        *,
        opportunities: Sequence[object] = (),
        timed_out: bool = False,
    ) -> None:
        """Give a strategy the outcome ``failed`` or ``timed_out``, with what it found before."""
        self.submit(
            reports.failed(
                self._writable(), name, error, opportunities, self.limits, timed_out=timed_out
            )
        )

    def strategy_skipped(self, name: str, reason: str) -> None:
        """Give a strategy the outcome ``skipped``."""
        self.submit(reports.skipped(self._writable(), name, reason))

    def update(self, payload: Mapping[str, object], *, partial: bool = True) -> None:
        """Post a whole result dictionary; ``partial=False`` also completes the scan."""
        self._writable()
        self.submit(reports.posted(payload, self.limits, partial=partial))

    def heartbeat(self) -> None:
        """Renew the lease now; this also happens by itself."""
        self._writable()
        self.submit(Heartbeat())

    def complete(self, summary: Mapping[str, object] | None = None) -> None:
        """Finish the scan by the rule of finishing, with an optional summary."""
        self._writable()
        self.submit(reports.completed(summary, self.limits))

    def fail(self, error: BaseException | str) -> None:
        """Finish the scan as failed."""
        self._writable()
        self.submit(reports.gave_up(error))

    def release(self) -> None:
        """Let the scan go: it can be resumed at once, and this attempt does not count."""
        self._writable()
        self.submit(reports.LETTING)

    # --- Entering and leaving -------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Take the scan."""
        self._held = drive_blocking(self._enter(), self._stores)
        self._note()
        name = f"oppscan lease of {self.scan_id}"
        self._beats = threading.Thread(target=self._beat, name=name, daemon=True)
        self._beats.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish, fail or release the scan, as the block was left."""
        if self._forked:
            return  # before any lock: the parent's other threads may have held it
        self._left.set()
        holding = self.holding
        if holding.ended is not None:
            return
        try:
            self.submit(farewell(error))
        except OppscanError as failed:
            if error is None and not holding.closed:  # else it ended as it was told, unheard
                raise
            logger.warning("leaving scan %s: %s", holding.scan.scan_id, failed)

    # --- Committing -----------------------------------------------------------------------------

    def submit(self, report: Report) -> None:
        """Queue a report and wait for its verdict; for runners."""
        (verdict,) = self.submit_all([report])
        if verdict is not None:
            raise verdict

    def submit_all(self, reported: Sequence[Report]) -> list[Exception | None]:
        """Queue reports that leave together, and give the verdict on each; for runners."""
        self._refuse_in_child()
        deadline = self._write_until()
        queued = [_Queued(report, deadline) for report in reported]
        with self._queue_lock:
            self._queue += queued
        with self._pen:
            if not all(item.judged for item in queued):
                with self._queue_lock:
                    batch, self._queue = self._queue, []
                self._commit(batch)
        return [item.verdict for item in queued]

    def _commit(self, batch: list[_Queued]) -> None:
        reported = [queued.report for queued in batch]
        interrupted = StorageUnavailable(INTERRUPTED)
        verdicts: list[Exception | None] = [interrupted] * len(batch)
        try:
            flow = self.holding.commit(reported, self._ids.operation())
            deadline = min(queued.deadline for queued in batch)
            verdicts = drive_blocking(flow, self._stores, deadline)
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait for the verdict
            verdicts = [error] * len(batch)
        finally:  # Ctrl-C in one thread must not leave the others without a verdict
            for queued, verdict in zip(batch, verdicts, strict=True):
                queued.verdict = verdict
                queued.judged = True
        self._note()

    def _note(self) -> None:
        """Wake those who wait for a reason to stop."""
        if self._stopping:
            self._stop.set()

    def _beat(self) -> None:
        """Renew the lease while the block runs; a store that is down is tried again."""
        pause = self.holding.scan.head.durations.lease / 1000 / BEATS_PER_LEASE
        while not self._clock.wait(self._left, pause):
            try:
                self.submit(Heartbeat())
            except ClaimLost:
                return
            except Exception as error:  # noqa: BLE001 - whatever it was, the next beat is due
                logger.warning("heartbeat of scan %s: %r", self.scan_id, error)
