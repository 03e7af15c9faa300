"""The drivers of flows: bounded in time, repeated with the same ids, deaf to bad observers."""

from __future__ import annotations

import asyncio
import logging

import pytest

import oppscan.sync
from oppscan import (
    Event,
    InvalidInput,
    LookupStep,
    MemoryBackend,
    ScanNotFound,
    ScanRegistry,
    ScanStatus,
    StorageFull,
    StorageUnavailable,
)
from oppscan.clock import elapsed
from oppscan.flow import Call, next_pause, share_of
from oppscan.ops import Apply, Purge, Resolve
from oppscan.testing import Fault, FaultyStore, ManualClock
from tests.unit.made import SCAN_ID, a_shop

_READ = Call(0, Resolve(SCAN_ID, "t"))
_WRITE = Call(0, Apply((), ()))
_AFTERWARDS = Call(0, Resolve(SCAN_ID, "t"), follows_write=True)


def test_only_what_may_change_a_store_or_follows_that_is_seen_through() -> None:
    assert not _READ.seen_through
    assert _WRITE.seen_through
    assert Call(0, Purge()).seen_through
    assert _AFTERWARDS.seen_through
    assert not _AFTERWARDS.writes


def test_a_read_is_tried_twice_and_a_write_while_there_is_time() -> None:
    assert next_pause(_READ, 1, 1.0) == 0.0
    assert next_pause(_READ, 1, 0.0) is None
    assert next_pause(_READ, 2, 1.0) is None
    assert [next_pause(_WRITE, tries, 9.0) for tries in (2, 3, 7, 99)] == [0.02, 0.04, 0.5, 0.5]
    assert next_pause(_WRITE, 2, 0.02) is None
    assert next_pause(_AFTERWARDS, 9, 9.0) == 0.5


def test_a_silence_leaves_time_for_a_second_try_and_for_other_stores() -> None:
    last = Call(1, _READ.request)
    assert [share_of(4.0, _READ, 1, tries) for tries in (1, 2)] == [2.0, 4.0]
    assert [share_of(4.0, _READ, 2, tries) for tries in (1, 2)] == [1.0, 2.0]
    assert [share_of(4.0, last, 2, tries) for tries in (1, 2)] == [2.0, 4.0]
    assert [share_of(4.0, _WRITE, 2, tries) for tries in (1, 2)] == [2.0, 4.0]


def test_g11_a_start_whose_reply_was_lost_is_applied_once() -> None:
    shop = a_shop()
    shop.store.plan(Fault.DROP, on=Apply)
    ticket = shop.registry.start("ann", ["alpha"])
    assert ticket.must_run
    assert not ticket.joined
    assert shop.store.counts["Apply"] == 2
    assert [s.scan_id for s in shop.registry.history("ann")] == [ticket.scan_id]


def test_g11_a_write_that_was_applied_is_confirmed_however_often_the_look_at_it_fails() -> None:
    shop = a_shop()
    shop.store.plan(Fault.DROP, on=Apply)
    shop.store.plan(*[Fault.FAIL] * 4, on=Resolve)
    assert not shop.registry.start("ann", ["alpha"]).joined
    assert shop.store.counts["Resolve"] == 5


def test_g11_a_commit_that_was_applied_is_confirmed_however_often_the_look_at_it_fails() -> None:
    shop = a_shop()
    with shop.registry.claim(shop.registry.start("ann", ["alpha"]).scan_id) as claim:
        before = shop.store.counts["Resolve"]
        shop.store.plan(Fault.DROP, on=Apply)
        shop.store.plan(*[Fault.FAIL] * 4, on=Resolve)
        claim.strategy_finished("alpha", [])
        assert shop.store.counts["Resolve"] - before == 5


def test_a_write_that_fails_goes_on_trying_until_op_timeout() -> None:
    shop = a_shop(op_timeout=0.2)
    shop.store.always(Fault.FAIL)
    began = elapsed()
    with pytest.raises(StorageUnavailable):
        shop.registry.start("ann", ["alpha"])
    assert elapsed() - began < 0.3
    assert shop.store.total > 2


def test_a_store_that_is_full_is_not_asked_again() -> None:
    shop = a_shop()
    shop.store.plan(Fault.FULL)
    with pytest.raises(StorageFull):
        shop.registry.start("ann", ["alpha"])
    assert shop.store.total == 1


def test_i6_a_blocking_read_ends_within_op_timeout() -> None:
    shop = a_shop(op_timeout=0.1)
    ticket = shop.registry.start("ann", ["alpha"])
    shop.store.always(Fault.HANG)
    began = elapsed()
    with pytest.raises(StorageUnavailable):
        shop.registry.status(ticket.scan_id)
    assert elapsed() - began < 0.3


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [Fault.HANG, Fault.DROP_AND_HANG])
async def test_i6_an_awaited_operation_ends_within_op_timeout(fault: Fault) -> None:
    store = FaultyStore(MemoryBackend())
    registry = ScanRegistry(store, op_timeout=0.1)
    ticket = await registry.start("ann", ["alpha"])
    store.always(fault)
    began = elapsed()
    with pytest.raises(StorageUnavailable, match=r"gave no answer within 0\.1 s"):
        await registry.status(ticket.scan_id)
    with pytest.raises(StorageUnavailable):
        await registry.start("bob", ["alpha"])
    assert elapsed() - began < 0.5


@pytest.mark.asyncio
async def test_g11_an_awaited_write_is_repeated_with_the_same_ids() -> None:
    store = FaultyStore(MemoryBackend())
    registry = ScanRegistry(store)
    store.plan(Fault.DROP, Fault.FAIL, Fault.FAIL, on=Apply)
    ticket = await registry.start("ann", ["alpha"])
    assert not ticket.joined
    assert store.counts["Apply"] == 4
    assert len(await registry.history("ann")) == 1


@pytest.mark.asyncio
async def test_an_awaited_read_that_fails_twice_is_unavailable() -> None:
    store = FaultyStore(MemoryBackend())
    registry = ScanRegistry(store)
    ticket = await registry.start("ann", ["alpha"])
    store.always(Fault.FAIL)
    with pytest.raises(StorageUnavailable, match="scripted"):
        await registry.status(ticket.scan_id)
    assert store.counts["Resolve"] == 2


def test_an_observer_is_told_and_one_that_raises_is_only_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError(event.kind)

    registry = oppscan.sync.ScanRegistry(MemoryBackend(), observers=[broken, told.append])
    with caplog.at_level(logging.DEBUG, "oppscan"):
        ticket = registry.start("ann", ["alpha"])
        with pytest.raises(ScanNotFound):
            registry.status(SCAN_ID)
    assert [event.kind for event in told] == ["started", "missed"]
    assert told[0].scan_id == ticket.scan_id
    levels = {record.getMessage().split()[0]: record.levelname for record in caplog.records}
    assert levels["missed"] == "WARNING"
    assert levels["started"] == "DEBUG"
    assert levels["observer"] == "ERROR"


# --- A host's own lookups -------------------------------------------------------------------------


def _archived() -> ScanStatus:
    shop = a_shop()
    return shop.registry.start("ann", ["alpha"]).status


def test_a_hosts_lookup_is_asked_last() -> None:
    status = _archived()

    def find(scan_id: str, owner: str | None) -> ScanStatus | None:
        del owner
        return status if scan_id == status.scan_id else None

    shop = a_shop(lookups=["record", LookupStep("archive", find)])
    assert shop.registry.status(status.scan_id) == status
    assert shop.registry.explain(status.scan_id).answer == "found"
    with pytest.raises(ScanNotFound):
        shop.registry.results(status.scan_id)
    with pytest.raises(ScanNotFound):
        shop.registry.status(SCAN_ID)
    with pytest.raises(ScanNotFound):
        shop.registry.latest("ann")
    assert shop.registry.start("ann", ["alpha"]).must_run


def test_g6_a_hosts_lookup_cannot_give_away_anothers_scan() -> None:
    shown = _archived()
    shop = a_shop(lookups=["record", LookupStep("archive", lambda *_: shown)])
    assert shop.registry.status(shown.scan_id, owner="ann") == shown
    other = shown.scan_id.replace(shown.scan_id[:16], _tag_of("bob"))
    with pytest.raises(ScanNotFound):
        shop.registry.status(other, owner="bob")


def _tag_of(owner: str) -> str:
    return a_shop().registry.start(owner, ["alpha"]).scan_id[:16]


def test_i6_a_hosts_lookup_that_raises_is_no_absence() -> None:
    def find(scan_id: str, owner: str | None) -> ScanStatus | None:
        raise OSError(scan_id, owner)

    shop = a_shop(lookups=["record", LookupStep("archive", find)])
    with pytest.raises(StorageUnavailable, match="lookup step 'archive' failed"):
        shop.registry.status(SCAN_ID)


def test_a_blocking_registry_cannot_await_its_hosts_lookup() -> None:
    async def find(scan_id: str, owner: str | None) -> ScanStatus | None:
        del scan_id, owner
        return None

    shop = a_shop(lookups=["record", LookupStep("archive", find)])
    with pytest.raises(StorageUnavailable, match="cannot await its host's lookup"):
        shop.registry.status(SCAN_ID)

    def wrong(scan_id: str, owner: str | None) -> ScanStatus | None:
        del scan_id, owner
        return 7  # type: ignore[return-value]

    shop = a_shop(lookups=["record", LookupStep("archive", wrong)])
    with pytest.raises(StorageUnavailable, match="it gave int, not a ScanStatus or None"):
        shop.registry.status(SCAN_ID)


@pytest.mark.asyncio
async def test_an_async_registry_awaits_its_hosts_lookup_within_op_timeout() -> None:
    status = _archived()

    async def find(scan_id: str, owner: str | None) -> ScanStatus | None:
        del owner
        if scan_id == SCAN_ID:
            await asyncio.Event().wait()
        return status

    steps: list[str | LookupStep] = ["record", LookupStep("archive", find)]
    registry = ScanRegistry(MemoryBackend(ManualClock()), lookups=steps, op_timeout=0.1)
    assert await registry.status(status.scan_id) == status
    with pytest.raises(StorageUnavailable, match="failed: TimeoutError"):
        await registry.status(SCAN_ID)
    plain = LookupStep("archive", lambda *_: status)
    registry = ScanRegistry(MemoryBackend(), lookups=["record", plain])
    assert await registry.status(status.scan_id) == status


def test_lookups_are_checked() -> None:
    with pytest.raises(InvalidInput, match="'memory' is neither one of near, record"):
        a_shop(lookups=["record", "memory"])
    with pytest.raises(InvalidInput, match="the step 'record' must be there"):
        a_shop(lookups=["result"])
