"""Errors and values: a small tree, which crosses process pools."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime

import pytest

import oppscan
from oppscan import (
    InvalidInput,
    LookupTrace,
    OppscanError,
    OutcomeState,
    Page,
    Progress,
    Reuse,
    ScanAlreadyClaimed,
    ScanExpired,
    ScanLost,
    ScanNotFound,
    ScanState,
    ScanStatus,
    StorageError,
    StrategyOutcome,
    Ticket,
    TooManyScans,
    views,
)
from oppscan.model import LookupStepTrace
from oppscan.record import OutcomeEvent, Spec
from tests.unit.made import SCAN_ID, a_head

STATUS = views.status_of(
    SCAN_ID,
    a_head(total=2),
    1000,
    Spec({"n": [1]}, {}, ("alpha", "beta")),
    [None, OutcomeEvent(1, 2, 1, 1500, 1400)],
)

_STATUS_ERRORS = ("ScanNotFinished", "ScanFailed", "ScanCancelled", "ScanFinished")
_PLAIN = (
    "ClaimLost", "CorruptRecord", "InvalidInput", "OppscanError", "ScanNotFound", "StorageError",
    "StorageUnavailable", "StorageFull", "StorageMisconfigured", "DurabilityNotConfirmed",
)  # fmt: skip
ERRORS: tuple[OppscanError, ...] = (
    *(getattr(oppscan, name)("what happened", scan_id=SCAN_ID) for name in _PLAIN),
    *(getattr(oppscan, name)("is as it is", STATUS) for name in _STATUS_ERRORS),
    ScanExpired(STATUS),
    ScanLost("gone", scan_id=SCAN_ID, strategies=("alpha",)),
    ScanAlreadyClaimed("held", scan_id=SCAN_ID, retry_after=1.5),
    TooManyScans("enough", limit=3),
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_survives_pickling(error: OppscanError) -> None:
    error.add_note("a note")
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(back) is type(error)
    assert (str(back), back.args, vars(back)) == (str(error), error.args, vars(error))


def test_every_error_of_the_package_was_tried() -> None:
    named = {
        value
        for value in vars(oppscan).values()
        if isinstance(value, type) and issubclass(value, OppscanError)
    }
    assert named == {type(error) for error in ERRORS}


def test_siblings_never_stand_in_for_one_another() -> None:
    assert issubclass(InvalidInput, ValueError)
    for error in ERRORS:
        assert not isinstance(error, ScanNotFound) or type(error) is ScanNotFound
        parents = set(type(error).__mro__) & {ScanNotFound, ScanExpired, ScanLost, StorageError}
        assert len(parents) <= 1 or type(error) in parents


def test_an_expired_scan_tells_how_it_ended_and_when_it_went() -> None:
    error = ScanExpired(STATUS)
    assert error.status == STATUS
    assert error.expired_at == STATUS.expires_at
    assert error.scan_id == SCAN_ID


def test_g6_a_miss_reads_the_same_whatever_its_reason() -> None:
    assert str(ScanNotFound.of("x")) == str(ScanNotFound.of("x"))
    assert ScanNotFound.of("x").scan_id == "x"
    assert str(ScanNotFound.of(None)).startswith("no scan matches")


def test_values_give_what_json_takes() -> None:
    ticket = Ticket(SCAN_ID, "k", joined=False, must_run=True, status=STATUS)
    told = json.loads(json.dumps(ticket.to_dict()))
    status = told["status"]
    assert status["state"] == "pending"
    assert status["created_at"] == "1970-01-01T00:00:01+00:00"
    assert status["params"] == {"n": [1]}
    assert [outcome["state"] for outcome in status["outcomes"]] == ["pending", "found"]
    assert status["progress"]["total_strategies"] == 2


def test_an_outcome_is_found_by_its_name() -> None:
    assert STATUS.outcome("alpha") == StrategyOutcome("alpha")
    assert STATUS.outcome("beta").found == 1
    with pytest.raises(KeyError, match="lists no strategy 'gamma'"):
        STATUS.outcome("gamma")


def test_a_duration_is_never_negative() -> None:
    assert STATUS.outcome("beta").duration == 0
    assert STATUS.outcome("alpha").duration is None


def test_states_know_what_is_final() -> None:
    assert [s for s in ScanState if s.done] == ["complete", "failed", "cancelled"]
    assert [s for s in OutcomeState if not s.done] == ["pending", "running"]
    assert [s for s in OutcomeState if s.succeeded] == ["found", "empty"]


def test_equal_progress_compares_equal_whatever_its_source() -> None:
    assert Progress(1, 2, 3, source="declared") == Progress(1, 2, 3)


def test_a_page_is_a_sequence() -> None:
    page = Page((1, 2, 3), "c")
    assert (len(page), list(page), page[0], page[1:]) == (3, [1, 2, 3], 1, (2, 3))
    assert page.to_dict() == {"items": [1, 2, 3], "cursor": "c"}


def test_a_trace_reads_as_a_line() -> None:
    steps = (LookupStepTrace("record", "unknown"), LookupStepTrace("owner_index", "lost"))
    assert str(LookupTrace(SCAN_ID, None, steps, "lost")) == (
        "record: unknown > owner_index: lost => lost"
    )
    assert str(LookupTrace(SCAN_ID, None, (), "unknown")) == "no step asked => unknown"


def test_reuse_has_three_forms() -> None:
    assert Reuse.ACTIVE.join_live
    assert not Reuse.NEVER.join_live
    assert Reuse.fresh(5) not in {Reuse.ACTIVE, Reuse.NEVER, Reuse.fresh(6)}


def test_times_are_aware_and_exact() -> None:
    assert views.to_datetime(1_700_000_000_123) == datetime(
        2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC
    )
    assert views.optional_datetime(None) is None
    assert isinstance(STATUS, ScanStatus)


def test_events_of_strategies_that_the_scan_lacks_are_left_out() -> None:
    events = [OutcomeEvent(0, 1), OutcomeEvent(5, 1), OutcomeEvent(0, 2)]
    assert views.fold(events, 2) == [OutcomeEvent(0, 2), None]
