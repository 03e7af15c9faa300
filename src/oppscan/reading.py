"""The operations of a registry that read, as flows.

Each costs one round trip where the first store knows the scan. None of them changes anything
but by healing, which never fails a read.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from oppscan import lifecycle, ttl, writes
from oppscan.clock import IdSource
from oppscan.errors import (
    OppscanError,
    ScanCancelled,
    ScanExpired,
    ScanFailed,
    ScanLost,
    ScanNotFinished,
    ScanNotFound,
    StorageError,
)
from oppscan.flow import Flow, Tell, ask
from oppscan.inputs import Limits, key_name
from oppscan.lifecycle import Scan
from oppscan.lookup import Answer, Hosted, Sources, look
from oppscan.model import Event, ScanResults, ScanState, ScanStatus
from oppscan.near import Near
from oppscan.ops import LATEST, Applied, Resolve
from oppscan.record import Head, Part, settle_head
from oppscan.results import Cursor, assemble
from oppscan.sightings import Found, Gone, Query
from oppscan.ttl import TTLPolicy

ALL: Final[frozenset[Part]] = frozenset({"spec", "events"})
WITH_DATA: Final[frozenset[Part]] = frozenset({"spec", "events", "data"})
BRIEF: Final[frozenset[Part]] = frozenset({"spec"})


class Scope(Struct, frozen=True):
    """What the operations of one registry share."""

    sources: Sources
    policy: TTLPolicy
    limits: Limits
    ids: IdSource
    near: Near


def find(scope: Scope, query: Query) -> Flow[Found | Hosted]:
    """Look for a scan, or raise the error that says why there is none."""
    answer = yield from look(query, scope.sources)
    if not isinstance(answer.result, Gone):
        return answer.result
    yield from _miss(answer)
    raise _absence(answer.result, answer.scan_id)


def _miss(answer: Answer) -> Flow[None]:
    trace = answer.trace
    yield Tell([Event("missed", trace.scan_id, trace.owner, trace.to_dict())], warn=True)


def _absence(gone: Gone, scan_id: str | None) -> OppscanError:
    """Give the one error that fits; the four kinds of nothing are never mixed up."""
    if gone.error is not None:
        return gone.error
    if gone.saw == "expired" and gone.status is not None:
        return ScanExpired(gone.status)
    if gone.saw == "lost":
        shown = scan_id or ""
        msg = f"scan {shown} was lost by the store before its time: {gone.detail}; start it again"
        return ScanLost(msg, scan_id=shown)
    return ScanNotFound.of(scan_id)


def find_stored(scope: Scope, query: Query) -> Flow[Found]:
    """Look for a scan that one of the stores holds; a host's own step cannot stand in for it."""
    found = yield from find(scope, query)
    if isinstance(found, Hosted):
        raise ScanNotFound.of(query.scan_id)
    return found


def status(
    scope: Scope, scan_id: str, owner: str | None, *, outcomes: bool
) -> Flow[tuple[ScanStatus, float]]:
    """Read one scan, and the seconds that it still has. One round trip, where it is known."""
    found = yield from find(scope, Query(scan_id, owner, ALL if outcomes else BRIEF))
    if isinstance(found, Hosted):
        return found.status, 0.0
    if found.scan.head.finished_at is not None:
        found = yield from extended_by_reading(scope, found)
    left = ttl.expires_at(found.scan.head) - found.scan.now
    return found.status, left / 1000


def extended_by_reading(scope: Scope, found: Found) -> Flow[Found]:
    """Extend a finished scan because it is read, where the host wants that; best effort."""
    until = ttl.read_extension(found.scan.head, found.scan.now)
    head = None if until is None else lifecycle.extend(found.scan, until)
    if head is None:
        return found
    operation = scope.ids.operation()
    most = scope.limits.max_remembered
    try:
        reply = yield from ask(found.store, writes.write(found.scan, head, operation, most))
    except StorageError:
        return found
    return rewritten(found, head, operation, reply.now) if isinstance(reply, Applied) else found


def rewritten(found: Found, head: Head, operation: str, now: int) -> Found:
    """Give what was found, as a write left it that the store took at ``now``."""
    scan = Scan(found.scan.scan_id, operation, settle_head(head, now), now)
    return Found(scan, found.spec, found.events, found.data, found.store)


def latest(scope: Scope, owner: str, key: str | None) -> Flow[ScanStatus]:
    """Read the newest started scan of an owner. One round trip."""
    found = yield from find(scope, newest(owner, key))
    return found.status


def newest(owner: str, key: str | None) -> Query:
    """Look for the newest started scan of an owner, of one key or of any."""
    return Query(None, owner, ALL, LATEST if key is None else key_name(key))


def explain(scope: Scope, query: Query) -> Flow[Answer]:
    """Look for a scan and give the whole trace, whatever the answer.

    The stores are asked all the same where this process remembers something of the scan.
    """
    kept = "" if query.scan_id is None else scope.near.tells(query.scan_id)
    answer = yield from look(query, scope.sources)
    if "near" not in scope.sources.steps or not (kept or scope.policy.near_ttl):
        return answer
    near = ("near", Gone("kept" if kept else "unknown", detail=kept), 0.0)
    return replace(answer, steps=(near, *answer.steps))


def explained_without_asking(scan_id: str, owner: str | None) -> Flow[Answer]:
    """Give the trace of an id that cannot be this owner's scan: no step is asked."""
    return Answer(Gone("unknown"), scan_id, owner, ())
    yield


_Refusal = type[ScanNotFinished | ScanFailed | ScanCancelled]
_NO_RESULTS: Final[dict[ScanState, tuple[_Refusal, str]]] = {
    ScanState.PENDING: (ScanNotFinished, "is not finished; wait for it, or read partial=True"),
    ScanState.RUNNING: (ScanNotFinished, "is not finished; wait for it, or read partial=True"),
    ScanState.FAILED: (ScanFailed, "failed; partial=True reads what it found"),
    ScanState.CANCELLED: (ScanCancelled, "was cancelled; partial=True reads what it found"),
}


def results(
    scope: Scope,
    scan_id: str,
    owner: str | None,
    *,
    partial: bool,
    cursor: Cursor,
    limit: int | None,
) -> Flow[ScanResults]:
    """Read what a scan found. One round trip; none of it moves twice for a finished scan."""
    light = scope.near.knows(scan_id)
    parts = ALL if light else WITH_DATA
    found = yield from find_stored(scope, Query(scan_id, owner, parts, data_from=cursor.frame))
    head = found.scan.head
    refusal = _NO_RESULTS.get(ScanState(head.state))
    if refusal is not None and not partial:
        kind, why = refusal
        raise kind(why, found.status)
    data = found.data
    if light:
        data = scope.near.results(scan_id, head.revision)
        if data is None:
            scope.near.forget(scan_id)
            return (
                yield from results(
                    scope, scan_id, owner, partial=partial, cursor=cursor, limit=limit
                )
            )
    elif data is not None and not head.live and data.first == 0 and data.length == head.data:
        scope.near.keep_results(scan_id, head.revision, data)
    given = assemble(found, data, cursor, limit)
    yield from extended_by_reading(scope, found)
    return given


def ping() -> Flow[None]:
    """Ask the first store for anything at all. One round trip."""
    yield from ask(0, Resolve("0" * 16 + "-" + "0" * 32, "0" * 16))
