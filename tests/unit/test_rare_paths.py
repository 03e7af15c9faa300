"""What seldom happens: both stores down, everything lost at once, an interrupt in mid-write."""

from __future__ import annotations

import asyncio

import pytest

from oppscan import (
    ClaimLost,
    MemoryBackend,
    ScanLost,
    ScanRegistry,
    StorageUnavailable,
    TTLPolicy,
)
from oppscan import sync as blocking
from oppscan.ops import Apply, Resolve
from oppscan.testing import Fault, FaultyStore, ManualClock, lose

NAMES = ["alpha", "beta"]


def _down(store: FaultyStore) -> None:
    store.always(Fault.FAIL)


def test_g5_two_stores_that_are_down_are_an_outage() -> None:
    stores = [FaultyStore(MemoryBackend()) for _ in range(2)]
    registry = blocking.ScanRegistry(stores[0], fallbacks=[stores[1]], op_timeout=0.2)
    ticket = registry.start("ann", NAMES)
    for store in stores:
        _down(store)
    with pytest.raises(StorageUnavailable):
        registry.status(ticket.scan_id)


def test_g9_a_start_that_cannot_look_at_its_rival_is_an_outage() -> None:
    store = FaultyStore(MemoryBackend())
    registry = blocking.ScanRegistry(store, op_timeout=0.2)
    registry.start("ann", NAMES)
    store.always(Fault.FAIL, on=Resolve)
    with pytest.raises(StorageUnavailable):
        registry.start("ann", NAMES)


def test_g4_results_alone_rebuild_a_finished_scan() -> None:
    store = MemoryBackend(ManualClock())
    registry = blocking.ScanRegistry(store)
    ticket = registry.start("ann", NAMES)
    with registry.claim(ticket.scan_id) as scan:
        scan.strategy_finished("alpha", [{"n": 1}])
    before = registry.status(ticket.scan_id)
    lose(store, "oppscan", "head", ticket.scan_id)
    lose(store, "oppscan", "index", ticket.scan_id)
    assert registry.status(ticket.scan_id) == before


@pytest.mark.asyncio
async def test_a_claim_cancelled_while_it_fails_just_ends() -> None:
    store = FaultyStore(MemoryBackend())
    registry = ScanRegistry(store, op_timeout=0.3)
    ticket = await registry.start("ann", NAMES)
    store.always(Fault.HANG)
    entering = asyncio.create_task(registry.claim(ticket.scan_id).__aenter__())
    await asyncio.sleep(0.05)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering


def test_an_interrupt_in_mid_write_leaves_a_verdict_and_a_usable_claim() -> None:
    store = FaultyStore(MemoryBackend())
    registry = blocking.ScanRegistry(store, ttl=TTLPolicy(lease=60))
    ticket = registry.start("ann", NAMES)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with registry.claim(ticket.scan_id) as scan:
        store.before(interrupt, on=Apply)
        with pytest.raises(KeyboardInterrupt):
            scan.strategy_finished("alpha", [])
        scan.strategy_finished("alpha", [])
        scan.strategy_finished("beta", [])
    assert registry.status(ticket.scan_id).progress.percentage == 100.0


def test_losing_the_log_of_outcomes_is_named() -> None:
    store = MemoryBackend()
    registry = blocking.ScanRegistry(store)
    ticket = registry.start("ann", NAMES)
    with registry.claim(ticket.scan_id) as scan:
        scan.strategy_finished("alpha", [])
        lose(store, "oppscan", "events", ticket.scan_id)
        with pytest.raises(ScanLost):
            registry.status(ticket.scan_id)
        with pytest.raises(ClaimLost):
            scan.strategy_finished("beta", [])
