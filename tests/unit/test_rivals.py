"""Others get in between: a decision takes effect only while what it was made on holds."""

from __future__ import annotations

import pytest

from oppscan import Limits, Reuse, ScanFinished, StorageUnavailable, TooManyScans
from oppscan.changing import TRIES
from oppscan.ops import Apply
from oppscan.sync import ScanRegistry
from oppscan.testing import Fault
from tests.unit.made import NAMES, POLICY, a_shop, finished


def test_g9_the_limit_on_live_scans_is_part_of_the_write() -> None:
    shop = a_shop(limits=Limits(max_live_per_owner=1))
    shop.registry.start("ann", ["alpha"])
    with pytest.raises(TooManyScans) as refused:
        shop.registry.start("ann", ["beta"])
    assert refused.value.limit == 1
    assert shop.registry.start("bob", ["beta"]).must_run


@pytest.mark.parametrize("what", ["cancel", "extend", "claim"])
def test_a_change_that_others_keep_overtaking_gives_up(what: str) -> None:
    shop = a_shop(op_timeout=9)
    ticket = shop.registry.start("ann", NAMES)
    rival = ScanRegistry(shop.backend, ttl=POLICY)
    for number in range(TRIES):
        shop.store.before(lambda n=number: rival.extend(ticket.scan_id, 100 + n), on=Apply)  # type: ignore[misc]
    with pytest.raises(StorageUnavailable, match="64 times in a row"):  # noqa: PT012
        if what == "claim":
            shop.claim(ticket.scan_id)
        elif what == "extend":
            shop.registry.extend(ticket.scan_id, 10_000)
        else:
            shop.registry.cancel(ticket.scan_id)


def test_a_start_that_is_always_overtaken_gives_up() -> None:
    shop = a_shop(op_timeout=9)
    rival = ScanRegistry(shop.backend, ttl=POLICY)

    def another() -> None:
        ticket = rival.start("ann", NAMES, key="k")
        with pytest.raises(KeyboardInterrupt), rival.claim(ticket.scan_id):  # noqa: PT012
            rival.cancel(ticket.scan_id)
            raise KeyboardInterrupt

    shop.store.before(another, on=Apply)
    assert shop.registry.start("ann", NAMES, key="k").must_run


def test_a_claim_that_met_a_cancellation_learns_the_end() -> None:
    shop = a_shop()
    ticket = shop.registry.start("ann", NAMES)
    shop.claim(ticket.scan_id)
    shop.registry.cancel(ticket.scan_id)
    shop.clock.jump(10)
    shop.store.before(lambda: ScanRegistry(shop.backend).cancel(ticket.scan_id), on=Apply)
    with pytest.raises(ScanFinished, match="is cancelled"):
        shop.claim(ticket.scan_id)


def test_g11_a_claim_whose_reply_was_lost_is_held() -> None:
    shop = a_shop()
    ticket = shop.registry.start("ann", NAMES)
    shop.store.plan(Fault.DROP, on=Apply)
    assert shop.claim(ticket.scan_id).scan.head.attempts == 1


def test_g9_a_fresh_complete_scan_is_joined() -> None:
    shop = a_shop()
    scan_id = finished(shop)
    assert shop.registry.start("ann", NAMES, reuse=Reuse.fresh(0)).scan_id == scan_id
    assert shop.registry.start("ann", NAMES).scan_id != scan_id


def test_g12_the_oldest_finished_scan_is_forgotten_first() -> None:
    shop = a_shop(limits=Limits(max_remembered=2))
    live = shop.registry.start("ann", NAMES, key="live").scan_id
    first = finished(shop, key="first")
    second = finished(shop, key="second")
    assert [s.scan_id for s in shop.registry.history("ann")] == [second, live]
    assert shop.registry.status(first).state == "complete"
