"""What a holder may write, and what becomes of a write whose reply was lost."""

from __future__ import annotations

import pytest

from oppscan import ClaimLost, InvalidInput, Limits, StorageUnavailable, reports
from oppscan.drafting import Heartbeat, Started
from oppscan.driver import drive_blocking
from oppscan.holding import Holding
from oppscan.ops import Apply, Resolve
from oppscan.testing import Fault, lose
from tests.unit.made import NAMES, Shop, a_shop

LIMITS = Limits()


def _held(**settings: object) -> tuple[Shop, Holding]:
    shop = a_shop(**settings)  # type: ignore[arg-type]
    ticket = shop.registry.start("ann", NAMES)
    return shop, shop.claim(ticket.scan_id)


def test_g3_a_scan_that_expired_is_not_revived_by_a_late_holder() -> None:
    """Nothing that was answered as expired is ever answered as running again."""
    shop, holding = _held()
    scan_id = holding.scan.scan_id
    shop.registry.extend(scan_id, 100)
    for _ in range(2):
        shop.clock.jump(30)
        assert shop.commit(holding, Heartbeat()) == [""]
    expires = shop.registry.status(scan_id).expires_at.timestamp()
    shop.clock.jump(expires - shop.clock.now() / 1000)
    assert shop.registry.explain(scan_id).answer == "expired"
    assert shop.commit(holding, Heartbeat()) == ["ClaimLost"]
    assert shop.registry.explain(scan_id).answer == "expired"


def test_g7_a_late_holder_that_was_not_replaced_may_go_on() -> None:
    shop, holding = _held()
    shop.clock.jump(49)
    assert shop.registry.status(holding.scan.scan_id).stalled
    assert shop.commit(holding, Heartbeat()) == [""]
    assert not shop.registry.status(holding.scan.scan_id).stalled


def test_g7_zombie_can_change_nothing() -> None:
    shop, zombie = _held()
    shop.clock.jump(10)
    heir = shop.claim(zombie.scan.scan_id)
    before = shop.registry.status(zombie.scan.scan_id)
    finished = reports.finished(zombie, "alpha", [{"n": 1}], LIMITS)
    assert shop.commit(zombie, finished) == ["ClaimLost"]
    assert shop.registry.status(zombie.scan.scan_id) == before
    with pytest.raises(ClaimLost, match="another worker took it over; nothing was written"):
        drive_blocking(zombie.commit([Heartbeat()], "x"), shop.stores)
    assert shop.commit(heir, finished) == [""]


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (lambda shop, scan_id: shop.registry.forget(scan_id), "its record is gone"),
        (lambda shop, scan_id: lose(shop.backend, "oppscan", "events", scan_id), "lost a part"),
        (lambda shop, scan_id: lose(shop.backend, "oppscan", "data", scan_id), "lost a part"),
        (lambda shop, _: shop.clock.jump(50), "its record is gone"),
    ],
    ids=["forgotten", "events lost", "data lost", "expired"],
)
def test_a_claim_whose_scan_is_gone_or_torn_is_lost(action: object, why: str) -> None:
    shop, holding = _held()
    shop.commit(holding, reports.finished(holding, "alpha", [{"n": 1}], LIMITS))
    action(shop, holding.scan.scan_id)  # type: ignore[operator]
    assert shop.commit(holding, reports.finished(holding, "beta", [{"n": 2}], LIMITS)) == [
        "ClaimLost"
    ]
    assert why in str(holding.lost())


def test_a_scan_that_was_cancelled_after_its_lease_is_lost_to_its_holder() -> None:
    shop, holding = _held()
    shop.clock.jump(10)
    shop.registry.cancel(holding.scan.scan_id)
    assert shop.commit(holding, Heartbeat()) == ["ClaimLost"]
    assert "it is cancelled" in str(holding.lost())


def test_g11_a_commit_whose_reply_was_lost_is_taken_over() -> None:
    shop, holding = _held()
    shop.store.plan(Fault.DROP, on=Apply)
    finished = reports.finished(holding, "alpha", [{"n": 1}], LIMITS)
    assert shop.commit(holding, finished) == [""]
    assert shop.registry.status(holding.scan.scan_id).progress.opportunities_found == 1
    assert holding.remaining == ("beta", "gamma")


def test_g11_a_commit_that_timed_out_but_was_applied_is_not_written_twice() -> None:
    shop, holding = _held(op_timeout=0.05)
    finished = reports.finished(holding, "alpha", [{"n": 1}], LIMITS)
    shop.store.plan(Fault.DROP, on=Apply)
    shop.store.always(Fault.FAIL, on=Apply)
    assert shop.commit(holding, finished) == ["StorageUnavailable"]
    shop.store.clear()
    assert shop.commit(holding, finished, Started(1)) == ["", ""]
    status = shop.registry.status(holding.scan.scan_id)
    assert status.progress.opportunities_found == 1
    assert status.outcome("beta").state == "running"
    assert shop.commit(holding, finished) == ["InvalidInput"]


@pytest.mark.parametrize("ending", [reports.completed(None, LIMITS), reports.LETTING])
def test_g11_an_ending_that_timed_out_but_was_applied_is_learnt(ending: object) -> None:
    shop, holding = _held(op_timeout=0.05)
    shop.store.plan(Fault.DROP, on=Apply)
    shop.store.always(Fault.FAIL, on=Apply)
    assert shop.commit(holding, ending) == ["StorageUnavailable"]  # type: ignore[arg-type]
    shop.store.clear()
    assert shop.commit(holding, ending) == [""]  # type: ignore[arg-type]
    assert shop.commit(holding, Heartbeat()) == ["ClaimLost"]


def test_g11_our_commit_is_recognised_under_anothers_request_to_cancel() -> None:
    shop, holding = _held()
    scan_id = holding.scan.scan_id
    finished = reports.finished(holding, "alpha", [{"n": 1}], LIMITS)
    shop.store.plan(Fault.DROP, on=Apply)
    shop.store.before(lambda: shop.registry.cancel(scan_id), on=Resolve)
    assert shop.commit(holding, finished) == [""]
    assert holding.scan.head.cancel_requested
    assert shop.commit(holding, Heartbeat()) == [""]
    status = shop.registry.status(scan_id)
    assert status.progress.opportunities_found == 1
    assert status.cancel_requested


def test_each_report_of_a_burst_gets_its_own_verdict() -> None:
    shop, holding = _held()
    shop.store.reset()
    first = reports.finished(holding, "alpha", [{"n": 1}], LIMITS)
    again = reports.finished(holding, "alpha", [], LIMITS)
    late = reports.started(holding, "beta")
    verdicts = shop.commit(holding, first, again, reports.completed(None, LIMITS), late)
    assert verdicts == ["", "InvalidInput", "", "ClaimLost"]
    assert shop.store.counts["Apply"] == 1
    assert shop.registry.status(holding.scan.scan_id).state == "complete"


def test_a_burst_without_anything_acceptable_asks_nothing() -> None:
    shop, holding = _held()
    shop.commit(holding, reports.posted({"opportunities": []}, LIMITS, partial=True))
    shop.store.reset()
    assert shop.commit(holding, Started(0)) == ["InvalidInput"]
    assert shop.store.total == 0


def test_unknown_names_and_wrong_inputs_are_refused() -> None:
    _, holding = _held()
    for name in ("delta", 7, None):
        with pytest.raises(InvalidInput, match="has no strategy"):
            holding.place(name)
    with pytest.raises(InvalidInput, match="payload must be a JSON object, not list"):
        reports.posted([1], LIMITS, partial=True)
    with pytest.raises(InvalidInput, match="reason must be an exception or a str"):
        reports.skipped(holding, "alpha", None)  # type: ignore[arg-type]


def test_g12_one_strategys_and_one_scans_bytes_are_bounded() -> None:
    limits = Limits(max_strategy_bytes=20, max_scan_bytes=30)
    shop, holding = _held(limits=limits)
    with pytest.raises(InvalidInput, match=r"over the limit of 20 \(Limits\.max_strategy_bytes\)"):
        reports.finished(holding, "alpha", [{"x": "y" * 30}], limits)
    with pytest.raises(InvalidInput, match="summary's contents take"):
        reports.completed({"x": "y" * 30}, limits)
    one = reports.finished(holding, "alpha", [{"x": "y" * 10}], limits)
    two = reports.finished(holding, "beta", [{"x": "y" * 13}], limits)
    assert shop.commit(holding, one) == [""]
    with pytest.raises(InvalidInput, match=r"over the limit of 30 \(Limits\.max_scan_bytes\)"):
        raise drive_blocking(holding.commit([two], "x"), shop.stores)[0] or AssertionError
    assert shop.registry.status(holding.scan.scan_id).outcome("beta").state == "pending"


def test_a_summary_is_kept_with_what_was_posted() -> None:
    shop, holding = _held()
    cancelled = reports.cancelled(holding, "gamma", "asked to")
    verdicts = shop.commit(
        holding,
        reports.skipped(holding, "alpha", "no data"),
        reports.failed(holding, "beta", "slow", [{"n": 1}], LIMITS, timed_out=True),
        cancelled,
        reports.completed({"note": 1}, LIMITS),
    )
    assert verdicts == [""] * 4
    found = shop.registry.results(holding.scan.scan_id, partial=True)
    assert [o.state for o in found.outcomes] == ["skipped", "timed_out", "cancelled"]
    assert found.summary == {"note": 1}
    assert found.by_strategy == {"beta": ({"n": 1},)}


def test_a_store_that_is_down_is_named_and_the_claim_goes_on() -> None:
    shop, holding = _held(op_timeout=0.05)
    shop.store.always(Fault.FAIL)
    with pytest.raises(StorageUnavailable):
        drive_blocking(holding.commit([Heartbeat()], "x"), shop.stores)
    shop.store.clear()
    assert shop.commit(holding, Heartbeat()) == [""]
