"""`ScanClaim`: a scan held by this task, reported on, and let go. The async face.

It decides nothing: `oppscan.holding` says what is written. This file sees to it that one commit
is under way at a time, that reports made meanwhile share the next one, and that the lease is
renewed while the block runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Self, cast

from msgspec import Struct

from oppscan import reports
from oppscan.clock import Clock, IdSource, delay
from oppscan.drafting import Heartbeat, Report
from oppscan.driver import Stores, drive, logger
from oppscan.errors import ClaimLost, OppscanError, StorageUnavailable
from oppscan.flow import Flow
from oppscan.held import HeldScan
from oppscan.holding import Holding
from oppscan.inputs import Limits
from oppscan.leaving import BEATS_PER_LEASE, INTERRUPTED, farewell


class _Queued(Struct, frozen=True, eq=False):
    """Reports that leave together, until when, and who waits for their verdicts."""

    reports: Sequence[Report]
    deadline: float
    judged: asyncio.Future[list[Exception | None]]


class ScanClaim(HeldScan):
    """A claim on one scan; an async context manager, made by ``ScanRegistry.claim``.

    Entering takes the scan (`ScanAlreadyClaimed`, `ScanFinished`, or what a read raises), and
    renews its lease every quarter of it until the block is left. Leaving it normally finishes
    the scan; by an exception, fails it; by cancellation, exit or a store that is down, releases
    it, so that another worker can resume it at once.

    Every write is in the store when its call returns: one round trip, shared by all that were
    made while the one before was under way. Writing with a claim that ended raises `ClaimLost`.
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
        self._pump: asyncio.Task[None] | None = None
        self._beats: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    @property
    def is_interrupted(self) -> bool:
        """Whether cancellation was asked for, or the claim has ended."""
        return self._stop.is_set()

    async def interrupted(self) -> None:
        """Wait until cancellation is asked for, or the claim has ended."""
        await self._stop.wait()

    # --- Reporting ------------------------------------------------------------------------------

    async def strategy_started(self, name: str) -> None:
        """Note that a strategy runs. `InvalidInput` for an unknown name or one with an outcome."""
        await self.submit(reports.started(self._writable(), name))

    async def strategy_finished(self, name: str, opportunities: Sequence[object]) -> None:
        """Give a strategy its outcome: ``found`` with opportunities, ``empty`` without.

        ``opportunities``: a list or tuple of JSON objects. `InvalidInput`, and nothing changes,
        for what JSON cannot carry, what is over a limit, and a second outcome.
        """
        report = reports.finished(self._writable(), name, opportunities, self.limits)
        await self.submit(report)

    async def strategy_failed(
        self,
        name: str,
        error: BaseException | str,
        *,
        opportunities: Sequence[object] = (),
        timed_out: bool = False,
    ) -> None:
        """Give a strategy the outcome ``failed`` or ``timed_out``, with what it found before."""
        report = reports.failed(
            self._writable(), name, error, opportunities, self.limits, timed_out=timed_out
        )
        await self.submit(report)

    async def strategy_skipped(self, name: str, reason: str) -> None:
        """Give a strategy the outcome ``skipped``."""
        await self.submit(reports.skipped(self._writable(), name, reason))

    async def update(self, payload: Mapping[str, object], *, partial: bool = True) -> None:
        """Post a whole result dictionary; ``partial=False`` also completes the scan."""
        self._writable()
        await self.submit(reports.posted(payload, self.limits, partial=partial))

    async def heartbeat(self) -> None:
        """Renew the lease now; this also happens by itself."""
        self._writable()
        await self.submit(Heartbeat())

    async def complete(self, summary: Mapping[str, object] | None = None) -> None:
        """Finish the scan by the rule of finishing, with an optional summary."""
        self._writable()
        await self.submit(reports.completed(summary, self.limits))

    async def fail(self, error: BaseException | str) -> None:
        """Finish the scan as failed."""
        self._writable()
        await self.submit(reports.gave_up(error))

    async def release(self) -> None:
        """Let the scan go: it can be resumed at once, and this attempt does not count."""
        self._writable()
        await self.submit(reports.LETTING)

    # --- Entering and leaving -------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Take the scan; cancelled meanwhile, let go what was taken all the same."""
        entering = asyncio.create_task(drive(self._enter(), self._stores))
        try:
            self._held = await asyncio.shield(entering)
        except asyncio.CancelledError:
            await asyncio.wait({entering})
            if not entering.cancelled() and entering.exception() is None:
                letting = entering.result().commit([reports.LETTING], self._ids.operation())
                with suppress(OppscanError):  # then it stalls, which is all the same to others
                    await drive(letting, self._stores)
            raise
        self._note()
        self._beats = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish, fail or release the scan, as the block was left."""
        holding, beats = self.holding, cast("asyncio.Task[None]", self._beats)
        beats.cancel()  # first: a heartbeat after the last write would outlive the block
        try:
            if holding.ended is None and not self._forked:
                await self.submit(farewell(error))
        except OppscanError as failed:
            if error is None and not holding.closed:  # else it ended as it was told, unheard
                raise
            logger.warning("leaving scan %s: %s", holding.scan.scan_id, failed)
        finally:
            await asyncio.wait({beats})

    # --- Committing -----------------------------------------------------------------------------

    async def submit(self, report: Report) -> None:
        """Queue a report and wait for its verdict; for runners."""
        (verdict,) = await self.submit_all([report])
        if verdict is not None:
            raise verdict

    async def submit_all(self, reported: Sequence[Report]) -> list[Exception | None]:
        """Queue reports that leave together, and give the verdict on each; for runners."""
        loop = asyncio.get_running_loop()
        judged: asyncio.Future[list[Exception | None]] = loop.create_future()
        self._queue.append(_Queued(reported, self._write_until(), judged))
        self._start_pump()
        return await judged

    def _start_pump(self) -> None:
        if self._pump is None:
            self._pump = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        """Commit what is queued, batch by batch, until nothing is."""
        try:
            while self._queue:
                await delay(0)  # whoever reports in the same turn of the loop joins in
                batch, self._queue = self._queue, []
                await self._commit(batch)
        finally:
            self._pump = None
            if self._queue:  # cancelled in mid-write, with others waiting
                self._start_pump()

    async def _commit(self, batch: list[_Queued]) -> None:
        written = [report for queued in batch for report in queued.reports]
        try:
            flow = self.holding.commit(written, self._ids.operation())
            deadline = min(queued.deadline for queued in batch)
            verdicts: list[Exception | None] = await drive(flow, self._stores, deadline)
        except asyncio.CancelledError:
            _give([StorageUnavailable(INTERRUPTED)] * len(written), batch)
            raise
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait for the verdict
            verdicts = [error] * len(written)
        self._note()
        _give(verdicts, batch)

    def _note(self) -> None:
        """Wake those who wait for a reason to stop."""
        if self._stopping:
            self._stop.set()

    async def _beat(self) -> None:
        """Renew the lease while the block runs; a store that is down is tried again."""
        pause = self.holding.scan.head.durations.lease / 1000 / BEATS_PER_LEASE
        while True:
            await self._clock.sleep(pause)
            try:
                await self.submit(Heartbeat())
            except ClaimLost:
                return
            except Exception as error:  # noqa: BLE001 - whatever it was, the next beat is due
                logger.warning("heartbeat of scan %s: %r", self.scan_id, error)


def _give(verdicts: Sequence[Exception | None], batch: list[_Queued]) -> None:
    """Hand out the verdicts of a commit to those who wait for theirs."""
    left = iter(verdicts)
    for queued in batch:
        theirs = list(islice(left, len(queued.reports)))
        if not queued.judged.done():
            queued.judged.set_result(theirs)
