"""Results: whole or named as lost, in pages, by cursor, ranked or as they came."""

from __future__ import annotations

import pytest
from msgspec.structs import replace as evolve

from oppscan import InvalidInput, ScanLost, ScanNotFound, reports
from oppscan.driver import drive_blocking
from oppscan.record import NO_FRAMES
from oppscan.results import Cursor, read_cursor, read_limit
from oppscan.testing import lose
from tests.unit.made import LIMITS, NAMES, a_shop, finished, numbers


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 9])
def test_pages_of_results_join_to_the_whole(limit: int) -> None:
    shop = a_shop()
    scan_id = finished(shop)
    seen: list[object] = []
    cursor = None
    while True:
        page = shop.registry.results(scan_id, after=cursor, limit=limit)
        if not page.opportunities:
            break
        assert len(page.opportunities) <= limit
        seen += numbers(page)
        cursor = page.cursor
    assert seen == [0, 1, 2, 3, 4]
    assert page.cursor == cursor


def test_a_cursor_asks_for_what_came_since() -> None:
    shop = a_shop()
    ticket = shop.registry.start("ann", NAMES)
    holding = shop.claim(ticket.scan_id)
    shop.commit(holding, reports.finished(holding, "beta", [{"n": 1}], LIMITS))
    first = shop.registry.results(ticket.scan_id, partial=True)
    assert numbers(first) == [1]
    none = shop.registry.results(ticket.scan_id, partial=True, after=first.cursor)
    assert numbers(none) == []
    shop.commit(holding, reports.finished(holding, "alpha", [{"n": 2}], LIMITS))
    since = shop.registry.results(ticket.scan_id, partial=True, after=none.cursor)
    assert numbers(since) == [2]
    assert since.by_strategy == {"alpha": ({"n": 2},)}


@pytest.mark.parametrize("after", ["", "1", "a.b", "1.2.3", 7, "r.", "-1.0", "1" * 10 + ".0"])
def test_what_is_no_cursor_is_refused(after: object) -> None:
    with pytest.raises(InvalidInput, match="after must be the cursor of earlier results"):
        read_cursor(after)


def test_cursors_come_back_equal() -> None:
    for cursor in (Cursor(), Cursor(3, 4), Cursor(0, 5, ranked=True)):
        assert read_cursor(str(cursor)) == cursor
    assert read_cursor(None) == Cursor()
    assert read_limit(None) is None
    with pytest.raises(InvalidInput, match="limit"):
        read_limit(0)


def test_ranked_results_give_the_best_first() -> None:
    shop = a_shop()
    ticket = shop.registry.start("ann", NAMES)
    holding = shop.claim(ticket.scan_id)
    alpha = reports.finished(holding, "alpha", [{"n": 1}, {"n": 2}], LIMITS)
    beta = reports.finished(holding, "beta", [{"n": 3}, {"n": 4}], LIMITS)
    gamma = reports.finished(holding, "gamma", [{"n": 5}], LIMITS)
    shop.commit(holding, evolve(alpha, scores=(1.0, 9.0)), evolve(beta, scores=(5.0, 9.0)), gamma)
    followed = shop.registry.results(ticket.scan_id, partial=True, limit=1)
    shop.commit(holding, reports.completed(None, LIMITS))
    whole = shop.registry.results(ticket.scan_id)
    assert numbers(whole) == [2, 4, 3, 1, 5]
    assert whole.by_strategy["beta"] == ({"n": 4}, {"n": 3})
    first = shop.registry.results(ticket.scan_id, limit=2)
    assert numbers(shop.registry.results(ticket.scan_id, after=first.cursor)) == [3, 1, 5]
    on = shop.registry.results(ticket.scan_id, after=followed.cursor)
    assert numbers(on) == [2, 3, 4, 5], "who followed goes on in the order of arrival"


def test_results_of_payloads_are_the_latest_ones() -> None:
    shop = a_shop()
    ticket = shop.registry.start("ann", NAMES)
    holding = shop.claim(ticket.scan_id)
    assert shop.registry.results(ticket.scan_id, partial=True).opportunities == ()
    payload = {"opportunities": [{"n": 1}, 7, {"n": 2}, {"n": 3}], "note": "x"}
    shop.commit(holding, reports.posted({"opportunities": "junk"}, LIMITS, partial=True))
    assert shop.registry.results(ticket.scan_id, partial=True).opportunities == ()
    shop.commit(holding, reports.posted(payload, LIMITS, partial=False))
    whole = shop.registry.results(ticket.scan_id)
    assert numbers(whole) == [1, 2, 3]
    assert whole.summary == {"note": "x"}
    first = shop.registry.results(ticket.scan_id, limit=2)
    assert numbers(first) == [1, 2]
    rest = shop.registry.results(ticket.scan_id, after=first.cursor, limit=2)
    assert numbers(rest) == [3]


def test_g4_lost_results_are_named_by_strategy() -> None:
    shop = a_shop()
    scan_id = finished(shop)
    lose(shop.backend, "oppscan", "data", scan_id)
    with pytest.raises(ScanLost) as lost:
        shop.registry.results(scan_id)
    assert lost.value.strategies == ("alpha", "beta")
    assert shop.registry.status(scan_id).state == "complete"


def test_g4_a_lost_payload_or_summary_is_named() -> None:
    shop = a_shop()
    ticket = shop.registry.start("ann", NAMES)
    holding = shop.claim(ticket.scan_id)
    shop.commit(holding, reports.posted({"opportunities": [{}]}, LIMITS, partial=True))
    lose(shop.backend, "oppscan", "data", ticket.scan_id)
    with pytest.raises(ScanLost, match="the posted payload"):
        shop.registry.results(ticket.scan_id, partial=True)
    empty = shop.registry.start("bob", [])
    holding = shop.claim(empty.scan_id)
    shop.commit(holding, reports.completed({"a": 1}, LIMITS))
    lose(shop.backend, "oppscan", "data", empty.scan_id)
    with pytest.raises(ScanLost, match="the summary"):
        shop.registry.results(empty.scan_id)


def test_results_of_a_finished_scan_move_once() -> None:
    shop = a_shop()
    scan_id = finished(shop)
    first = shop.registry.results(scan_id)
    assert shop.registry.results(scan_id) == first
    assert "data" in shop.store.requests[-2].parts  # type: ignore[attr-defined]
    assert "data" not in shop.store.requests[-1].parts  # type: ignore[attr-defined]
    shop.registry.forget(scan_id)
    with pytest.raises(ScanNotFound):
        shop.registry.results(scan_id)


def test_results_kept_of_another_revision_are_read_again() -> None:
    shop = a_shop()
    scan_id = finished(shop)
    near = shop.operations.scope.near
    whole = shop.registry.results(scan_id)
    near.keep_results(scan_id, 999, NO_FRAMES)
    flow = shop.operations.results(scan_id, None, partial=False, after=None, limit=None)
    assert drive_blocking(flow, shop.stores) == whole
