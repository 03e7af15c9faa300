"""Small data are written once more by the finish, all together; and cursors stay what they were."""

from __future__ import annotations

import pytest

import oppscan.sync
from oppscan import CorruptRecord, ScanLost, ScanNotFound
from oppscan.ops import Apply, Save
from oppscan.sync import ScanClaim
from oppscan.testing import Fault, lose
from oppscan.writes import SMALL
from tests.unit.made import NAMES, Shop, a_shop


def _last_save(shop: Shop) -> Save:
    applies = [request for request in shop.store.requests if isinstance(request, Apply)]
    (save,) = [change for change in applies[-1].changes if isinstance(change, Save)]
    return save


def _report(claim: ScanClaim, *names: str, size: int = 1) -> None:
    for name in names:
        claim.strategy_finished(name, [{"of": name, "x": "y" * size}])


def _names(results: oppscan.ScanResults) -> list[object]:
    return [item["of"] for item in results.opportunities]


def test_a_finish_carries_all_data_where_they_are_small() -> None:
    shop = a_shop()
    scan_id = shop.registry.start("ann", NAMES).scan_id
    with shop.registry.claim(scan_id) as claim:
        _report(claim, "alpha")
        cursor = shop.registry.results(scan_id, partial=True).cursor
        _report(claim, "beta", "gamma")
        claim.complete({"sum": 1})
    save = _last_save(shop)
    assert (save.fresh, len(save.data)) == (True, 5)  # three, the summary and the envelope
    assert _names(shop.registry.results(scan_id)) == list(NAMES)
    assert _names(shop.registry.results(scan_id, after=cursor)) == ["beta", "gamma"]


@pytest.mark.parametrize("size", [SMALL // 3, SMALL])
def test_what_is_large_together_is_written_once(size: int) -> None:
    shop = a_shop()
    scan_id = shop.registry.start("ann", NAMES).scan_id
    with shop.registry.claim(scan_id) as claim:
        _report(claim, *NAMES, size=size)
    save = _last_save(shop)
    assert not save.fresh
    assert len(save.data) == 1
    assert _names(shop.registry.results(scan_id)) == list(NAMES)


def test_g13_a_resumed_holder_writes_only_what_it_has() -> None:
    shop = a_shop()
    scan_id = shop.registry.start("ann", NAMES).scan_id
    with shop.registry.claim(scan_id) as claim:
        _report(claim, "alpha")
        claim.release()
    with shop.registry.claim(scan_id) as claim:
        _report(claim, "beta", "gamma")
    assert not _last_save(shop).fresh
    assert _names(shop.registry.results(scan_id)) == list(NAMES)


def test_g11_a_write_whose_reply_was_lost_is_carried_once() -> None:
    shop = a_shop()
    scan_id = shop.registry.start("ann", NAMES).scan_id
    with shop.registry.claim(scan_id) as claim:
        shop.store.plan(Fault.DROP)
        _report(claim, *NAMES)
        claim.complete()
    save = _last_save(shop)
    assert (save.fresh, len(save.data)) == (True, 4)
    assert _names(shop.registry.results(scan_id)) == list(NAMES)


# --- What lost a part is refused, and told so -----------------------------------------------------


def test_g4_a_scan_that_lost_a_part_is_changed_by_nobody() -> None:
    shop = a_shop()
    scan_id = shop.registry.start("ann", NAMES).scan_id
    with shop.registry.claim(scan_id) as claim:
        _report(claim, "alpha")
        claim.release()
    lose(shop.backend, "oppscan", "data", scan_id)
    for change in (
        lambda: shop.registry.cancel(scan_id),
        lambda: shop.registry.extend(scan_id, 1000),
        lambda: shop.registry.claim(scan_id).__enter__(),
    ):
        with pytest.raises(ScanLost, match="lost a part"):
            change()
    assert shop.registry.status(scan_id).state == "running"


def test_g14_a_corrupt_scan_can_be_forgotten() -> None:
    shop = a_shop()
    scan_id = shop.registry.start("ann", NAMES).scan_id
    with shop.backend.transaction(1.0, write=True) as tx:
        for key in (f"oppscan/h/{scan_id}", f"oppscan/i/{scan_id[:16]}/{scan_id}"):
            row = tx.get(key)
            assert row is not None
            tx.put(key, (*row.value[:4], b"junk", *row.value[5:]), row.until)
    with pytest.raises(CorruptRecord):
        shop.registry.status(scan_id)
    shop.registry.forget(scan_id, owner="ann")
    with pytest.raises(ScanNotFound):
        shop.registry.status(scan_id)
    assert shop.registry.start("ann", NAMES).must_run
