"""Stored records as users see them: head, spec and events to `ScanStatus` and its outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from oppscan import ttl
from oppscan.model import ScanState, ScanStatus, StrategyOutcome
from oppscan.progress import eta_of, progress_of
from oppscan.record import OUTCOME_STATES, Head, OutcomeEvent, Spec

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EMPTY: Final = Spec({}, {}, ())
_FINAL: Final = frozenset(code for code, state in enumerate(OUTCOME_STATES) if state.done)


@lru_cache(maxsize=4096)  # who polls sees the same instants again and again
def to_datetime(milliseconds: int) -> datetime:
    """Give store milliseconds as an aware UTC datetime, exactly."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def optional_datetime(milliseconds: int | None) -> datetime | None:
    """Give store milliseconds as a datetime, None as None."""
    return None if milliseconds is None else to_datetime(milliseconds)


def fold(events: Iterable[OutcomeEvent], total: int) -> list[OutcomeEvent | None]:
    """Give the last event of each strategy, by index. O(events)."""
    last: list[OutcomeEvent | None] = [None] * total
    for event in events:
        if 0 <= event.index < total:
            last[event.index] = event
    return last


def has_outcome(event: OutcomeEvent | None) -> bool:
    """Tell whether a strategy's last event is its outcome."""
    return event is not None and event.state in _FINAL


def outcomes_of(spec: Spec, events: Sequence[OutcomeEvent | None]) -> tuple[StrategyOutcome, ...]:
    """Give the outcomes in declared order, from folded events."""
    return tuple(
        StrategyOutcome(name) if event is None else _outcome(name, event)
        for name, event in zip(spec.strategies, events, strict=True)
    )


def _outcome(name: str, event: OutcomeEvent) -> StrategyOutcome:
    started, finished = event.started_at, event.finished_at
    return StrategyOutcome(  # by position: there may be thousands
        name,
        OUTCOME_STATES[event.state],
        event.found,
        None if started is None else to_datetime(started),
        None if finished is None else to_datetime(finished),
        None if started is None or finished is None else max(0, finished - started) / 1000,
        event.error,
    )


def status_of(
    scan_id: str,
    head: Head,
    now: int,
    spec: Spec | None = None,
    events: Sequence[OutcomeEvent | None] | None = None,
) -> ScanStatus:
    """Give the status of a scan as of ``now``; without spec and events, a tombstone's."""
    shown = spec or _EMPTY
    return ScanStatus(
        scan_id=scan_id,
        owner=head.owner,
        key=head.key,
        params=shown.params,
        metadata=shown.metadata,
        state=ScanState(head.state),
        done=not head.live,
        stalled=ttl.stalled(head, now),
        cancel_requested=head.cancel_requested,
        attempts=head.attempts,
        revision=head.revision,
        progress=progress_of(head),
        outcomes=() if spec is None or events is None else outcomes_of(spec, events),
        error=head.error,
        created_at=to_datetime(head.created_at),
        started_at=optional_datetime(head.started_at),
        finished_at=optional_datetime(head.finished_at),
        heartbeat_at=optional_datetime(head.heartbeat_at),
        progressed_at=optional_datetime(head.progressed_at),
        expires_at=to_datetime(ttl.expires_at(head)),
        eta=optional_datetime(eta_of(head)),
    )
