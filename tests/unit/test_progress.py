"""Progress: from outcomes, or from payloads with documented fallbacks (incident I7)."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oppscan.progress import SOURCES, as_completed, percentage, progress_of, read_payload
from oppscan.record import Counts, Posted
from tests.unit.made import a_head


def test_g8_completed_counts_every_outcome() -> None:
    counts = Counts(found=1, empty=2, failed=3, timed_out=4, cancelled=5, skipped=6)
    progress = progress_of(a_head(total=42, counts=counts, opportunities=9))
    assert progress.strategies_completed == 21
    assert (progress.succeeded, progress.failed, progress.timed_out) == (3, 3, 4)
    assert progress.skipped == 11
    assert progress.opportunities_found == 9
    assert progress.percentage == 50.0
    assert progress.source == "outcomes"
    assert str(progress) == "21/42"


@pytest.mark.parametrize(
    ("completed", "total", "done", "percent"),
    [
        (0, 0, False, 0.0),
        (0, 0, True, 100.0),
        (0, 3, True, 0.0),
        (1, 3, False, 100 / 3),
        (3, 3, False, 100.0),
    ],
)
def test_g8_percentage(completed: int, total: int, done: bool, percent: float) -> None:
    assert percentage(completed, total, done=done) == percent


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_g8_100_percent_only_when_nothing_is_missing(total: int, completed: int) -> None:
    completed = min(completed, total)
    percent = percentage(completed, total, done=False)
    assert 0 <= percent <= 100
    assert (percent == 100.0) == (completed == total)


def _read(payload: dict[str, object], *, final: bool = False, **head: object) -> Posted:
    return read_payload(payload, a_head(**head), final=final)


@pytest.mark.parametrize(
    ("payload", "total", "source"),
    [
        ({"metadata": {"total_strategies": 14}}, 14, "total_strategies"),
        ({"metadata": {"total_strategies": 14.0}}, 14, "total_strategies"),
        ({"metadata": {"total_strategies": 0, "strategies_completed": 5}},
         5, "strategies_completed"),
        ({"metadata": {"strategies_completed": 2},
          "strategy_performance": {"a": 1, "b": 2, "c": 0}},
         3, "strategy_performance"),
        ({"strategy_performance": ["a", "b"]}, 2, "strategy_performance"),
        ({"metadata": {"strategies_completed": 2}, "strategy_performance": ["a", "b"]},
         2, "strategies_completed"),
        ({}, 3, "declared"),
        ({"metadata": None, "strategy_performance": "abc"}, 3, "declared"),
        ({"metadata": [], "strategy_performance": 7}, 3, "declared"),
    ],
)  # fmt: skip
def test_i7_the_total_falls_back_in_order(
    payload: dict[str, object], total: int, source: str
) -> None:
    posted = _read(payload)
    assert (posted.total, posted.source) == (total, source)
    assert source in SOURCES


@pytest.mark.parametrize("junk", ["14", None, True, 1.5, nan, inf, [], {}, b"1"])
def test_i7_junk_counts_as_missing(junk: object) -> None:
    metadata = {"total_strategies": junk, "strategies_completed": junk}
    posted = _read({"metadata": metadata})
    assert (posted.completed, posted.total, posted.source) == (0, 3, "declared")
    assert _read({"metadata": metadata}, final=True).completed == 3


@pytest.mark.parametrize(("number", "completed"), [(-1, 0), (-(2**70), 0), (2**53, 3), (2**70, 3)])
def test_g8_a_number_that_is_no_count_is_clamped_and_is_no_total(
    number: int, completed: int
) -> None:
    metadata = {"total_strategies": number, "strategies_completed": number}
    for final in (False, True):
        posted = _read({"metadata": metadata}, final=final)
        assert (posted.completed, posted.total, posted.source) == (completed, 3, "declared")


def test_i7_a_final_payload_without_a_count_is_complete() -> None:
    assert _read({}, final=True).completed == 3
    assert _read({"metadata": {"strategies_completed": 2}}, final=True).completed == 2
    assert _read({}).completed == 0


def test_g8_completed_is_clamped_to_the_total() -> None:
    posted = _read({"metadata": {"total_strategies": 2, "strategies_completed": 9}})
    assert (posted.completed, posted.total) == (2, 2)


@pytest.mark.parametrize(
    ("opportunities", "found"), [([{}, {}], 2), (({},), 1), ("ab", 0), (None, 0), ({"a": 1}, 0)]
)
def test_found_counts_the_opportunities(opportunities: object, found: int) -> None:
    assert _read({"opportunities": opportunities}).found == found


def test_g2_a_payload_never_takes_progress_back() -> None:
    before = Posted(4, 7, 5, "total_strategies", told=True)
    posted = _read({"metadata": {"total_strategies": 2, "strategies_completed": 1}}, posted=before)
    assert posted == before


def test_i7_a_complete_scan_that_never_told_a_count_is_complete() -> None:
    silent = _read({"strategy_performance": ["a", "b"]})
    assert as_completed(silent).completed == 2
    told = _read({"metadata": {"strategies_completed": 1}})
    assert as_completed(told) == told
    assert _read({}, posted=told).told


def test_g8_a_scan_without_strategies_and_without_numbers_is_0_of_0() -> None:
    posted = _read({}, total=0)
    assert (posted.completed, posted.total, posted.source) == (0, 0, "declared")


def test_posted_progress_is_told_with_its_source() -> None:
    progress = progress_of(a_head(posted=Posted(1, 4, 2, "strategy_performance")))
    assert (progress.percentage, progress.source) == (25.0, "strategy_performance")
    assert progress.opportunities_found == 2


@given(
    st.dictionaries(
        st.sampled_from(["metadata", "strategy_performance", "opportunities"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["total_strategies", "strategies_completed", "x"]), inner
                )
            ),
        ),
    ),
    st.booleans(),
)
def test_g8_whatever_is_posted_progress_stays_honest(
    payload: dict[str, object], final: bool
) -> None:
    posted = _read(payload, final=final)
    assert 0 <= posted.completed <= posted.total
    assert posted.total > 0
    assert posted.found >= 0
