"""The rules of a scan's life: one table of moves, and what each of them writes.

Laws
- Every change of a stored scan is made by a function here, checked against ``MOVES``.
- A function takes what was last seen of a scan and gives the head to be written, or an error.
  `oppscan.writes` has it replace the one seen, provided that nothing changed since: so a
  decision takes effect exactly when what it was made on still holds.
- Nothing leads out of a final state.
- A terminal write gives every strategy an outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from oppscan import ttl
from oppscan.errors import ScanAlreadyClaimed
from oppscan.inputs import Limits
from oppscan.model import OutcomeState, Reuse, ScanState
from oppscan.progress import as_completed
from oppscan.record import (
    NOW,
    OUTCOME_CODE,
    OUTCOME_STATES,
    VERSION,
    Counts,
    Durations,
    Head,
    OutcomeEvent,
    after,
    settle,
)
from oppscan.views import has_outcome


class Move(Enum):
    """What can happen to a scan once it was started."""

    CLAIM = auto()
    REPORT = auto()  # heartbeats, starts, outcomes, payloads
    RELEASE = auto()
    ASK_TO_CANCEL = auto()
    FINISH = auto()  # by its holder, by cancelling, or by giving it up
    EXTEND = auto()


_P, _R = ScanState.PENDING, ScanState.RUNNING
_FINAL: Final = tuple(state for state in ScanState if state.done)

MOVES: Final[dict[tuple[Move, ScanState], tuple[ScanState, ...]]] = {
    (Move.CLAIM, _P): (_R,),
    (Move.CLAIM, _R): (_R,),
    (Move.REPORT, _R): (_R,),
    (Move.RELEASE, _R): (_R,),
    (Move.ASK_TO_CANCEL, _R): (_R,),
    (Move.FINISH, _P): _FINAL,
    (Move.FINISH, _R): _FINAL,
    **{(Move.EXTEND, state): (state,) for state in ScanState},
}
"""Every move that is allowed: from which state, into which. All others are bugs."""


class Scan(Struct, frozen=True):
    """A scan as it was last seen: ``version`` is the write that put its (settled) head."""

    scan_id: str
    version: str
    head: Head
    now: int

    @property
    def tag(self) -> str:
        """The part of the id that tells the owner."""
        return self.scan_id.partition("-")[0]


Outcomes = Sequence[OutcomeEvent | None]


def move(head: Head, what: Move, state: ScanState | None = None, **changes: object) -> Head:
    """Give the head after a move; `AssertionError` for one that the table does not have."""
    before = ScanState(head.state)
    to = before if state is None else state
    if to not in MOVES.get((what, before), ()):
        msg = f"no move {what.name} from {before} to {to}"
        raise AssertionError(msg)
    return replace(head, state=to.value, **changes)


# --- Starting -----------------------------------------------------------------------------------


def new_head(owner: str, key: str, total: int, durations: Durations) -> Head:
    """Give the head of a scan that is started now."""
    return Head(
        version=VERSION,
        owner=owner,
        key=key,
        state=ScanState.PENDING.value,
        revision=1,
        total=total,
        durations=durations,
        created_at=NOW,
        due_at=after(durations.claim_within),
    )


def joinable(scan: Scan, reuse: Reuse) -> bool:
    """Tell whether `start` may hand out this scan, of an equal request, instead of a new one."""
    head, now = scan.head, scan.now
    if not reuse.join_live or head.cancel_requested or now >= ttl.expires_at(head):
        return False
    if head.live:
        return True
    done = head.finished_at
    if not reuse.join_fresh or done is None or head.state != ScanState.COMPLETE:
        return False
    return now - done <= ttl.to_ms(reuse.fresh_for)


# --- Claiming -----------------------------------------------------------------------------------


def claim(scan: Scan, outcomes: Outcomes, operation: str, limits: Limits) -> Finish | Head | None:
    """Give the head of a scan that is claimed now; None where it is finished.

    A dead holder's cancellation, or the end of a scan that used up its attempts, is a `Finish`
    to be written instead. Raises `ScanAlreadyClaimed`.
    """
    head, now = scan.head, scan.now
    if not head.live:
        return None
    if ttl.held(head, now):
        left = (head.due_at - now) / 1000
        msg = f"scan {scan.scan_id} is held by another worker; try again in {left:.3f} s"
        raise ScanAlreadyClaimed(msg, scan_id=scan.scan_id, retry_after=left)
    if head.cancel_requested:
        return conclude(head, outcomes, operation, cancelled=True)
    strikes = strikes_of(head)
    if strikes >= limits.max_attempts:
        return conclude(head, outcomes, operation, error=f"abandoned after {strikes} attempts")
    return move(
        head,
        Move.CLAIM,
        ScanState.RUNNING,
        revision=head.revision + 1,
        chain=operation,
        token=head.token + 1,
        attempts=head.attempts + 1,
        strikes=strikes,
        productive=False,
        started_at=NOW if head.started_at is None else head.started_at,
        heartbeat_at=NOW,
        due_at=after(head.durations.lease),
    )


def strikes_of(head: Head) -> int:
    """Count the claims in a row that died without an outcome, the latest included if it died."""
    if head.productive:
        return 0
    died = head.state == ScanState.RUNNING and bool(head.chain)
    return head.strikes + died


def beat(head: Head, operation: str) -> Head:
    """Give the head after a write by its holder, which renews the lease."""
    lease = after(head.durations.lease)
    return move(head, Move.REPORT, chain=operation, heartbeat_at=NOW, due_at=lease)


def release(head: Head) -> Head:
    """Give the head of a scan whose holder lets go: resumable at once, held against nobody."""
    return move(
        head,
        Move.RELEASE,
        revision=head.revision + 1,
        chain="",
        strikes=0 if head.productive else head.strikes,
        productive=False,
        due_at=NOW,
    )


# --- Cancelling, extending ----------------------------------------------------------------------


def cancel(scan: Scan, outcomes: Outcomes, operation: str) -> Finish | Head | None:
    """Give what cancelling writes: a request to the holder, the end, or None (nothing to do)."""
    head = scan.head
    if not head.live:
        return None
    if not ttl.held(head, scan.now):
        return conclude(head, outcomes, operation, cancelled=True)
    if head.cancel_requested:
        return None
    revision = head.revision + 1
    return move(head, Move.ASK_TO_CANCEL, revision=revision, cancel_requested=True)


def extend(scan: Scan, until: int) -> Head | None:
    """Give the head of a scan that lives until ``until``; None where it does so already.

    ``until`` is an instant, absolute or relative to the write.
    """
    if settle(until, scan.now) <= ttl.expires_at(scan.head):
        return None
    return move(scan.head, Move.EXTEND, extended_to=until)


# --- Finishing ----------------------------------------------------------------------------------


class Finish(Struct, frozen=True):
    """A terminal head, with the events that give every strategy an outcome."""

    head: Head
    events: tuple[OutcomeEvent, ...]
    outcomes: tuple[OutcomeEvent | None, ...]


_MISSING_ERROR: Final = {OutcomeState.FAILED: "no outcome was reported"}


def conclude(
    head: Head,
    outcomes: Outcomes,
    operation: str,
    *,
    error: str | None = None,
    cancelled: bool = False,
) -> Finish:
    """End a scan by the rule of finishing.

    ``error``: the host said that it failed. ``cancelled``: cancellation was asked for by the one
    who writes this. The rest follows from the outcomes.
    """
    asked = cancelled or head.cancel_requested
    events = tuple(
        _missing(index, event, asked=asked)
        for index, event in enumerate(outcomes)
        if not has_outcome(event)
    )
    full = list(outcomes)
    for event in events:
        full[event.index] = event
    counts = count(head.counts, events)
    state, text = _verdict(head, counts, error, stopped=asked and _unfinished(head, events))
    posted = head.posted
    if posted is not None and state == ScanState.COMPLETE:
        posted = as_completed(posted)
    final = move(
        head,
        Move.FINISH,
        state,
        posted=posted,
        revision=head.revision + 1,
        chain=operation,
        cancel_requested=asked,
        counts=counts,
        error=text,
        finished_at=NOW,
    )
    return Finish(final, events, tuple(full))


def _missing(index: int, event: OutcomeEvent | None, *, asked: bool) -> OutcomeEvent:
    """Give the outcome of a strategy that never reported one."""
    state = OutcomeState.SKIPPED if event is None else OutcomeState.FAILED
    if asked:
        state = OutcomeState.CANCELLED
    return OutcomeEvent(
        index,
        OUTCOME_CODE[state],
        started_at=None if event is None else event.started_at,
        finished_at=NOW,
        error=_MISSING_ERROR.get(state),
    )


def _unfinished(head: Head, missing: Sequence[OutcomeEvent]) -> bool:
    """Tell whether something was missing when cancellation was carried out."""
    if head.posted is not None:
        return head.posted.completed < head.posted.total
    return bool(missing) or head.total == 0


def _verdict(
    head: Head, counts: Counts, error: str | None, *, stopped: bool
) -> tuple[ScanState, str | None]:
    """Give the final state: the first that matches."""
    succeeded = counts.found + counts.empty > 0 or head.posted is not None or head.total == 0
    cases = (
        (error is not None, ScanState.FAILED, error),
        (stopped, ScanState.CANCELLED, None),
        (succeeded, ScanState.COMPLETE, None),
        (True, ScanState.FAILED, "no strategy succeeded"),
    )
    return next((state, text) for holds, state, text in cases if holds)


def count(counts: Counts, events: Sequence[OutcomeEvent]) -> Counts:
    """Add final events to the counts."""
    names = Counter(OUTCOME_STATES[event.state].value for event in events)
    more = {name: getattr(counts, name) + n for name, n in names.items() if name in _COUNTED}
    return replace(counts, **more)


_COUNTED: Final = frozenset(Counts.__struct_fields__)
