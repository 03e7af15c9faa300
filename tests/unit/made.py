"""What unit tests are made of: heads, stores and registries with a clock that stands still."""

from __future__ import annotations

from typing import Any

from attrs import frozen

import oppscan.sync
from oppscan import Limits, MemoryBackend, OppscanError, ScanResults, TTLPolicy, reports
from oppscan.drafting import Report
from oppscan.driver import Stores, drive_blocking
from oppscan.holding import Holding
from oppscan.lifecycle import Scan
from oppscan.opening import BaseRegistry
from oppscan.operations import Operations
from oppscan.record import Durations, Head
from oppscan.testing import FaultyStore, ManualClock, SequentialIds

LIMITS = Limits()
NAMES = ("alpha", "beta", "gamma")
SCAN_ID = "0123456789abcdef-0123456789abcdef0123456789abcdef"
DURATIONS = Durations(
    pending=50, running=40, result=60, margin=20, lease=10, claim_within=30, read_cap=None
)
POLICY = TTLPolicy(
    pending_ttl=50, running_ttl=40, result_ttl=60, lookup_margin=20, lease=10, claim_within=30
)


def a_head(**changes: Any) -> Head:  # noqa: ANN401 - what attrs takes
    """Give a head of a pending scan of three strategies, started at 1000."""
    plain: dict[str, Any] = {
        "version": 1,
        "owner": "ann",
        "key": "k",
        "state": "pending",
        "revision": 1,
        "total": 3,
        "durations": DURATIONS,
        "created_at": 1000,
        "due_at": 1030,
    }
    return Head(**(plain | changes))


def a_scan(now: int = 1000, **changes: Any) -> Scan:  # noqa: ANN401 - what attrs takes
    """Give a scan as it was last seen."""
    return Scan(SCAN_ID, "w", a_head(**changes), now)


@frozen
class Shop:
    """One store and its clock, with a worker whose every request can be scripted."""

    clock: ManualClock
    backend: MemoryBackend
    store: FaultyStore
    stores: Stores
    operations: Operations
    registry: oppscan.sync.ScanRegistry

    def claim(self, scan_id: str) -> Holding:
        """Claim a scan, without heartbeats."""
        return drive_blocking(self.operations.claim(scan_id, None), self.stores)

    def commit(self, holding: Holding, *reports: Report, operation: str = "") -> list[str]:
        """Commit reports, and give the verdicts by name; what is raised counts for all."""
        name = operation or self.operations.scope.ids.operation()
        try:
            verdicts = drive_blocking(holding.commit(reports, name), self.stores)
        except OppscanError as error:
            return [type(error).__name__] * len(reports)
        return ["" if verdict is None else type(verdict).__name__ for verdict in verdicts]


def a_shop(
    ttl: TTLPolicy = POLICY,
    limits: Limits | None = None,
    op_timeout: float = 3.0,
    **more: Any,  # noqa: ANN401 - settings
) -> Shop:
    """Give a memory store with a manual clock."""
    clock = ManualClock()
    backend = MemoryBackend(clock)
    store = FaultyStore(backend)
    settings: dict[str, Any] = {
        "ttl": ttl,
        "limits": limits,
        "op_timeout": op_timeout,
        "ids": SequentialIds(),
        **more,
    }
    base = BaseRegistry(store, **settings)
    stores, operations = base._stores, base._operations  # noqa: SLF001
    settings["ids"] = SequentialIds(1)
    registry = oppscan.sync.ScanRegistry(store, **settings)
    return Shop(clock, backend, store, stores, operations, registry)


def finished(shop: Shop, owner: str = "ann", **options: Any) -> str:  # noqa: ANN401 - what attrs takes
    """Run a scan: alpha found 0 to 2, beta 3 to 4, gamma failed."""
    ticket = shop.registry.start(owner, NAMES, **options)
    holding = shop.claim(ticket.scan_id)
    shop.commit(holding, reports.finished(holding, "alpha", [{"n": n} for n in range(3)], LIMITS))
    shop.commit(holding, reports.finished(holding, "beta", [{"n": 3}, {"n": 4}], LIMITS))
    shop.commit(holding, reports.failed(holding, "gamma", "x", [], LIMITS, timed_out=False))
    assert shop.commit(holding, reports.completed({"s": 1}, LIMITS)) == [""]
    return ticket.scan_id


def numbers(found: ScanResults) -> list[object]:
    """Give what was found, in order."""
    return [item["n"] for item in found.opportunities]
