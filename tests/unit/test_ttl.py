"""Time rules: an instant belongs to what begins there."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from math import inf, nan

import pytest

from oppscan import InvalidInput, TTLPolicy, ttl
from oppscan.record import after
from tests.unit.made import DURATIONS, a_head


def test_g7_a_lease_that_ends_at_t_is_over_at_t() -> None:
    head = a_head(state="running", chain="c", due_at=1010)
    assert ttl.held(head, 1009)
    assert not ttl.stalled(head, 1009)
    assert not ttl.held(head, 1010)
    assert ttl.stalled(head, 1010)


def test_a_pending_scan_is_stalled_when_claim_within_is_over() -> None:
    head = a_head(due_at=1030)
    assert not ttl.stalled(head, 1029)
    assert ttl.stalled(head, 1030)
    assert not ttl.held(head, 1000)


def test_a_released_scan_is_not_held() -> None:
    assert not ttl.held(a_head(state="running", chain="", due_at=2000), 1000)


@pytest.mark.parametrize("state", ["complete", "failed", "cancelled"])
def test_a_finished_scan_is_never_stalled(state: str) -> None:
    assert not ttl.stalled(a_head(state=state, finished_at=1000, due_at=0), 5000)


def test_each_state_expires_by_its_own_rule() -> None:
    assert ttl.expires_at(a_head()) == 1000 + DURATIONS.pending
    running = a_head(state="running", chain="c", due_at=1010)
    assert ttl.expires_at(running) == 1010 + DURATIONS.running
    done = a_head(state="complete", finished_at=1100)
    assert ttl.expires_at(done) == 1100 + DURATIONS.result
    assert ttl.forgotten_at(done) == 1100 + DURATIONS.result + DURATIONS.margin


def test_extending_never_shortens() -> None:
    assert ttl.expires_at(a_head(extended_to=1001)) == 1050
    assert ttl.expires_at(a_head(extended_to=1051)) == 1051


def test_life_left_settles_what_is_relative_to_the_write() -> None:
    head = a_head(state="running", chain="c", due_at=after(10))
    assert ttl.life_left(head, 3000) == 10 + DURATIONS.running
    assert ttl.life_left(a_head(), 99_999) == 1


def test_i3_a_lookup_outlives_the_longest_life() -> None:
    policy = TTLPolicy(pending_ttl=10, running_ttl=40, result_ttl=30, lookup_margin=5)
    assert policy.lookup_ttl == 45


@pytest.mark.parametrize(
    ("now", "until"),
    [
        (1000, None),  # nothing gained
        (1002, None),  # 2 < a 20th of 60
        (1003, 1063),
        (1035, 1095),
        (1060, 1100),  # capped
    ],
)
def test_reading_extends_in_steps_up_to_the_cap(now: int, until: int | None) -> None:
    rules = DURATIONS.__class__(50, 40, 60, 20, 10, 30, 100)
    head = a_head(state="complete", finished_at=1000, durations=rules)
    assert ttl.read_extension(head, now) == until


def test_reading_extends_neither_live_scans_nor_without_the_option() -> None:
    rules = DURATIONS.__class__(50, 40, 60, 20, 10, 30, 100)
    assert ttl.read_extension(a_head(durations=rules), 1040) is None
    assert ttl.read_extension(a_head(state="complete", finished_at=1000), 1040) is None


def test_durations_are_read_back_as_float_seconds() -> None:
    policy = TTLPolicy(result_ttl=timedelta(minutes=2), extend_on_read=timedelta(hours=1))
    assert (policy.result_ttl, policy.extend_on_read) == (120.0, 3600.0)
    assert policy.durations().result == 120_000
    assert policy.durations().read_cap == 3_600_000
    assert TTLPolicy().durations().read_cap is None


_NAMES = ["pending_ttl", "running_ttl", "result_ttl", "lookup_margin", "claim_within"]


@pytest.mark.parametrize("name", [*_NAMES, "extend_on_read"])
@pytest.mark.parametrize("value", [0, -1, nan, inf, True, "60", Fraction(1), 10 * 366 * 86400])
def test_a_duration_that_is_none_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=rf"TTLPolicy\.{name}"):
        TTLPolicy(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", _NAMES)
def test_only_extend_on_read_may_be_none(name: str) -> None:
    with pytest.raises(InvalidInput, match=name):
        TTLPolicy(**{name: None})  # type: ignore[arg-type]


def test_a_lease_is_at_least_a_tenth_of_a_second_and_within_running_ttl() -> None:
    assert TTLPolicy(lease=0.1).lease == 0.1
    assert TTLPolicy(lease=7, running_ttl=7).lease == 7
    with pytest.raises(InvalidInput, match=r"TTLPolicy\.lease must be between 0\.1"):
        TTLPolicy(lease=0.099)
    with pytest.raises(InvalidInput, match="must not exceed running_ttl"):
        TTLPolicy(lease=8, running_ttl=7)


def test_near_ttl_may_be_zero_but_not_less() -> None:
    assert TTLPolicy(near_ttl=0).near_ttl == 0
    with pytest.raises(InvalidInput, match="near_ttl"):
        TTLPolicy(near_ttl=-0.1)


def test_an_integer_too_large_for_a_float_is_invalid_like_any_other() -> None:
    with pytest.raises(InvalidInput, match="ttl"):
        ttl.duration(10**400, "ttl")


def test_milliseconds_are_rounded_to_the_nearest_but_something_never_to_nothing() -> None:
    assert [ttl.to_ms(s) for s in (0.0, 0.1, 0.0014, 0.0016, 1.0)] == [0, 100, 1, 2, 1000]
    assert ttl.to_ms(0.0004) == 1


def test_any_positive_duration_is_taken() -> None:
    assert ttl.TTLPolicy(result_ttl=0.0005).durations().result == 1
