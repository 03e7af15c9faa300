"""The table of moves, exhaustively, and the rule of finishing."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oppscan import Limits, Reuse, ScanState, lifecycle
from oppscan.errors import ScanAlreadyClaimed
from oppscan.lifecycle import MOVES, Finish, Move, conclude, move
from oppscan.model import OutcomeState
from oppscan.record import (
    NOW,
    OUTCOME_CODE,
    OUTCOME_STATES,
    Counts,
    Head,
    OutcomeEvent,
    Posted,
    after,
)
from tests.unit.made import a_head, a_scan

LIMITS = Limits()
_ALLOWED = {(what, before, to) for (what, before), tos in MOVES.items() for to in tos}


@pytest.mark.parametrize(
    ("what", "before", "to"), list(product(Move, ScanState, ScanState)), ids=lambda v: v.name
)
def test_every_move_is_allowed_by_the_table_or_a_bug(
    what: Move, before: ScanState, to: ScanState
) -> None:
    head = a_head(state=before.value)
    if (what, before, to) in _ALLOWED:
        assert move(head, what, to).state == to
    else:
        with pytest.raises(AssertionError, match=f"no move {what.name} from {before} to {to}"):
            move(head, what, to)


def test_g3_nothing_but_extending_leads_on_from_a_final_state() -> None:
    for what, before, to in _ALLOWED:
        if before.done:
            assert (what, to) == (Move.EXTEND, before)
        assert to != ScanState.PENDING or (what, before) == (Move.EXTEND, ScanState.PENDING)


def _event(state: OutcomeState | None) -> OutcomeEvent | None:
    return None if state is None else OutcomeEvent(0, OUTCOME_CODE[state])


def _outcomes(*states: OutcomeState | None) -> tuple[list[OutcomeEvent | None], Counts]:
    events = [None if s is None else OutcomeEvent(i, OUTCOME_CODE[s]) for i, s in enumerate(states)]
    return events, lifecycle.count(Counts(), [e for e in events if e is not None])


S = OutcomeState
_ENDINGS = [
    # outcomes, error, cancelled -> state, error
    ((S.FOUND, S.FAILED), None, False, "complete", None),
    ((S.EMPTY, None), None, False, "complete", None),
    ((S.FAILED, S.TIMED_OUT), None, False, "failed", "no strategy succeeded"),
    ((S.SKIPPED, None), None, False, "failed", "no strategy succeeded"),
    ((S.FOUND, None), None, True, "cancelled", None),
    ((S.FOUND, S.RUNNING), None, True, "cancelled", None),
    ((S.FOUND, S.EMPTY), None, True, "complete", None),
    ((S.FAILED, S.FAILED), None, True, "failed", "no strategy succeeded"),
    ((S.FOUND, S.FOUND), "boom", False, "failed", "boom"),
    ((S.FOUND, None), "boom", True, "failed", "boom"),
    ((), None, False, "complete", None),
    ((), None, True, "cancelled", None),
]


@pytest.mark.parametrize(("states", "error", "asked", "state", "text"), _ENDINGS)
def test_the_final_state_is_the_first_that_matches(
    states: tuple[OutcomeState | None, ...],
    error: str | None,
    asked: bool,
    state: str,
    text: str | None,
) -> None:
    events, counts = _outcomes(*states)
    head = a_head(state="running", total=len(states), counts=counts)
    finish = conclude(head, events, "op", error=error, cancelled=asked)
    assert (finish.head.state, finish.head.error) == (state, text)
    assert finish.head.finished_at == NOW
    assert finish.head.chain == "op"


@given(st.lists(st.sampled_from([None, *OutcomeState]), max_size=6), st.booleans(), st.booleans())
def test_g8_a_terminal_write_gives_every_strategy_its_outcome(
    states: list[OutcomeState | None], asked: bool, fails: bool
) -> None:
    events, counts = _outcomes(*states)
    head = a_head(state="running", total=len(states), counts=counts)
    finish = conclude(head, events, "op", error="boom" if fails else None, cancelled=asked)
    assert finish.head.counts.completed == len(states)
    for before, after_ in zip(states, finish.outcomes, strict=True):
        assert after_ is not None
        state = OUTCOME_STATES[after_.state]
        if before is not None and before.done:
            assert state is before
        elif asked:
            assert state is S.CANCELLED
        else:
            assert state is (S.SKIPPED if before is None else S.FAILED)
            wanted = None if before is None else "no outcome was reported"
            assert after_.error == wanted


@pytest.mark.parametrize(
    ("completed", "asked", "state"),
    [(1, False, "complete"), (1, True, "cancelled"), (3, True, "complete")],
)
def test_a_posted_scan_finishes_by_its_posted_progress(
    completed: int, asked: bool, state: str
) -> None:
    head = a_head(state="running", posted=Posted(completed, 3, 0, "declared", told=True))
    assert conclude(head, [None] * 3, "op", cancelled=asked).head.state == state


# --- Claiming -------------------------------------------------------------------------------------


def test_claiming_takes_a_lease_and_a_new_token() -> None:
    head = lifecycle.claim(a_scan(1005), [None] * 3, "op", LIMITS)
    assert isinstance(head, Head)
    assert (head.state, head.chain, head.token, head.attempts) == ("running", "op", 1, 1)
    assert (head.due_at, head.started_at, head.revision) == (after(10), NOW, 2)


def test_g7_a_held_scan_says_when_to_try_again() -> None:
    scan = a_scan(1004, state="running", chain="c", due_at=1010)
    with pytest.raises(ScanAlreadyClaimed) as refused:
        lifecycle.claim(scan, [None] * 3, "op", LIMITS)
    assert refused.value.retry_after == pytest.approx(0.006)
    late = a_scan(1010, state="running", chain="c", due_at=1010)
    assert isinstance(lifecycle.claim(late, [], "op", LIMITS), Head)


@pytest.mark.parametrize("state", ["complete", "failed", "cancelled"])
def test_a_finished_scan_cannot_be_claimed(state: str) -> None:
    assert lifecycle.claim(a_scan(state=state, finished_at=1000), [], "op", LIMITS) is None


def test_g13_a_scan_that_kills_its_workers_is_given_up() -> None:
    dead = {"state": "running", "chain": "c", "due_at": 1010, "total": 1}
    again = lifecycle.claim(a_scan(2000, strikes=1, **dead), [None], "op", LIMITS)
    assert isinstance(again, Head)
    assert again.strikes == 2
    over = lifecycle.claim(a_scan(2000, strikes=2, **dead), [None], "op", LIMITS)
    assert isinstance(over, Finish)
    assert (over.head.state, over.head.error) == ("failed", "abandoned after 3 attempts")


@pytest.mark.parametrize(
    ("changes", "strikes"),
    [
        ({"state": "pending"}, 0),
        ({"state": "running", "chain": "c", "strikes": 1}, 2),
        ({"state": "running", "chain": "", "strikes": 1}, 1),  # released
        ({"state": "running", "chain": "c", "strikes": 2, "productive": True}, 0),
    ],
)
def test_g13_only_a_dead_claim_without_an_outcome_counts(
    changes: dict[str, object], strikes: int
) -> None:
    assert lifecycle.strikes_of(a_head(**changes)) == strikes


def test_a_dead_holders_cancellation_is_carried_out_by_who_claims() -> None:
    scan = a_scan(2000, state="running", chain="c", due_at=1010, cancel_requested=True)
    ended = lifecycle.claim(scan, [None] * 3, "op", LIMITS)
    assert isinstance(ended, Finish)
    assert ended.head.state == "cancelled"


# --- Joining, cancelling, extending ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "now", "reuse", "joined"),
    [
        ({}, 1049, Reuse.ACTIVE, True),
        ({}, 1050, Reuse.ACTIVE, False),  # expired at 1050
        ({}, 1000, Reuse.NEVER, False),
        ({"cancel_requested": True}, 1000, Reuse.ACTIVE, False),
        ({"state": "complete", "finished_at": 1000}, 1000, Reuse.ACTIVE, False),
        ({"state": "complete", "finished_at": 1000}, 1020, Reuse.fresh(0.02), True),
        ({"state": "complete", "finished_at": 1000}, 1021, Reuse.fresh(0.02), False),
        ({"state": "complete", "finished_at": 1000}, 1000, Reuse.fresh(0), True),
        ({"state": "failed", "finished_at": 1000}, 1000, Reuse.fresh(9), False),
        ({"state": "cancelled", "finished_at": 1000}, 1000, Reuse.fresh(9), False),
        ({}, 1000, Reuse.fresh(9), True),
    ],
)
def test_g9_what_may_be_joined(
    changes: dict[str, object], now: int, reuse: Reuse, joined: bool
) -> None:
    assert lifecycle.joinable(a_scan(now, **changes), reuse) is joined


def test_cancelling_asks_a_holder_once() -> None:
    held = {"state": "running", "chain": "c", "due_at": 1010}
    asked = lifecycle.cancel(a_scan(1009, **held), [None] * 3, "op")
    assert asked is not None
    assert not isinstance(asked, Finish)
    assert asked.cancel_requested
    assert asked.chain == "c"
    assert lifecycle.cancel(a_scan(1009, cancel_requested=True, **held), [], "op") is None


def test_cancelling_ends_what_nobody_holds() -> None:
    for scan in (a_scan(), a_scan(1010, state="running", chain="c", due_at=1010)):
        ended = lifecycle.cancel(scan, [None] * 3, "op")
        assert isinstance(ended, Finish)
        assert ended.head.state == "cancelled"
    assert lifecycle.cancel(a_scan(state="complete", finished_at=1), [], "op") is None


def test_extending_changes_only_what_lives_longer_by_it() -> None:
    assert lifecycle.extend(a_scan(), 1050) is None
    longer = lifecycle.extend(a_scan(), after(51))
    assert longer is not None
    assert longer.extended_to == after(51)
    assert longer.revision == 1


def test_a_release_keeps_earlier_strikes_unless_there_was_progress() -> None:
    held = a_head(state="running", chain="c", strikes=2, due_at=after(10))
    released = lifecycle.release(held)
    assert (released.chain, released.strikes, released.due_at) == ("", 2, NOW)
    assert lifecycle.release(a_head(state="running", strikes=2, productive=True)).strikes == 0


def test_a_scan_knows_its_owners_tag() -> None:
    assert a_scan().tag == "0123456789abcdef"
