"""Stores driven side by side: every call is made on each, and all must answer alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from attrs import frozen

from oppscan import Limits, OppscanError, ScanStatus, TTLPolicy
from oppscan.backends.base import TransactionalBackend
from oppscan.drafting import Report
from oppscan.driver import Stores, drive_blocking
from oppscan.holding import Holding
from oppscan.opening import BaseRegistry
from oppscan.operations import Operations
from oppscan.ops import Apply
from oppscan.sync import ScanRegistry
from oppscan.testing import SequentialIds
from oppscan.testing.clock import START
from oppscan.testing.faults import Fault, FaultyStore
from tests.machine import model

T = TypeVar("T")

POLICY = TTLPolicy(
    pending_ttl=model.PENDING_TTL,
    running_ttl=model.RUNNING_TTL,
    result_ttl=model.RESULT_TTL,
    lookup_margin=model.MARGIN,
    lease=model.LEASE,
    claim_within=model.CLAIM_WITHIN,
)
LIMITS = Limits(max_attempts=model.MAX_ATTEMPTS)
WORKERS = 2


@frozen
class Failed:
    """An answer that is an error."""

    name: str
    status: dict[str, object] | None = None


class Side:
    """One store, with the workers that use it. Their ids are the same on every side."""

    def __init__(self, backend: TransactionalBackend, namespace: str) -> None:
        self.backend = backend
        self.namespace = namespace
        self.store = FaultyStore(backend)
        self.ids = [SequentialIds(number) for number in range(WORKERS)]
        made = [
            BaseRegistry(self.store, ttl=POLICY, limits=LIMITS, namespace=namespace, ids=ids)
            for ids in self.ids
        ]
        self.workers: list[tuple[Stores, Operations]] = [
            (base._stores, base._operations)  # noqa: SLF001
            for base in made
        ]
        self.registries = [
            ScanRegistry(self.store, ttl=POLICY, limits=LIMITS, namespace=namespace, ids=ids)
            for ids in self.ids
        ]

    def run(self, worker: int, call: Callable[[ScanRegistry], T]) -> T | Failed:
        """Call a registry of one worker; an error is an answer."""
        try:
            return call(self.registries[worker])
        except OppscanError as error:
            return failure(error)

    def claim(self, worker: int, scan_id: str) -> Holding | Failed:
        """Claim a scan, without heartbeats of its own."""
        stores, operations = self.workers[worker]
        try:
            return drive_blocking(operations.claim(scan_id, None), stores)
        except OppscanError as error:
            return failure(error)

    def commit(
        self,
        worker: int,
        holding: Holding,
        say: Sequence[Callable[[Holding], Report]],
    ) -> list[str]:
        """Make reports that share one commit; give what became of each, errors by name."""
        if holding.ended is not None:
            return ["ClaimLost"] * len(say)
        try:
            reports = [make(holding) for make in say]
            flow = holding.commit(reports, self.ids[worker].operation())
            verdicts = drive_blocking(flow, self.workers[worker][0])
        except OppscanError as error:
            return [type(error).__name__] * len(say)
        return ["" if verdict is None else type(verdict).__name__ for verdict in verdicts]

    def lose_next_reply(self) -> None:
        """Have the next write applied, its reply lost, so that it is made again."""
        self.store.clear()
        self.store.plan(Fault.DROP, on=Apply)


def failure(error: OppscanError) -> Failed:
    """Give an error as an answer."""
    status = getattr(error, "status", None)
    return Failed(
        type(error).__name__, status.to_dict() if isinstance(status, ScanStatus) else None
    )


def units(time: datetime | None) -> int | None:
    """Give an instant in whole units since the beginning."""
    if time is None:
        return None
    milliseconds = round(time.timestamp() * 1000) - START
    assert milliseconds % 1000 == 0, "all times lie on the grid"
    return milliseconds // 1000


def told(status: ScanStatus) -> dict[str, object]:
    """Give what a status says, in the model's terms."""
    progress = status.progress
    return {
        "scan_id": status.scan_id,
        "owner": status.owner,
        "state": status.state.value,
        "done": status.done,
        "stalled": status.stalled,
        "cancel_requested": status.cancel_requested,
        "attempts": status.attempts,
        "error": status.error,
        "progress": (
            progress.strategies_completed,
            progress.total_strategies,
            progress.opportunities_found,
            round(progress.percentage, 9),
        ),
        "created": units(status.created_at),
        "started": units(status.started_at),
        "finished": units(status.finished_at),
        "heartbeat": units(status.heartbeat_at),
        "progressed": units(status.progressed_at),
        "expires": units(status.expires_at),
    }


def told_outcomes(status: ScanStatus) -> list[tuple[object, ...]]:
    """Give the outcomes of a status, in the model's terms."""
    return [
        (o.name, o.state.value, o.found, units(o.started_at), units(o.finished_at), o.error)
        for o in status.outcomes
    ]


def expected(scan: model.Scan, world: model.Model) -> dict[str, object]:
    """Give what the model says of a scan."""
    done, total, found, percentage = scan.progress
    return {
        "scan_id": scan.scan_id,
        "owner": scan.owner,
        "state": scan.state,
        "done": not scan.live,
        "stalled": world.stalled(scan),
        "cancel_requested": scan.cancel_requested,
        "attempts": scan.attempts,
        "error": scan.error,
        "progress": (done, total, found, round(percentage, 9)),
        "created": scan.created,
        "started": scan.started,
        "finished": scan.finished,
        "heartbeat": scan.heartbeat,
        "progressed": scan.progressed,
        "expires": scan.expires,
    }


def expected_outcomes(scan: model.Scan) -> list[tuple[object, ...]]:
    """Give what the model says of the strategies of a scan."""
    return [
        (name, o.state, o.found, o.started, o.finished, o.error)
        for name, o in scan.outcomes.items()
    ]
