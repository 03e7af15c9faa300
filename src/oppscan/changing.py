"""The operations of a registry that change scans, as flows.

Each reads, lets `oppscan.lifecycle` decide, and writes provided that nothing changed since;
where something did, it reads again. The ids that a write carries tell one that was applied, its
reply lost, from one that was refused.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from msgspec import Struct

from oppscan import codec, lifecycle, writes
from oppscan.errors import CorruptRecord, ScanFinished, ScanLost, StorageUnavailable, TooManyScans
from oppscan.flow import Flow, Tell, ask
from oppscan.holding import Holding
from oppscan.inputs import key_name, owner_tag
from oppscan.lifecycle import Finish
from oppscan.lookup import Hosted, Sources, look
from oppscan.model import Event, Reuse, ScanStatus, Ticket
from oppscan.ops import (
    LATEST,
    Applied,
    Apply,
    Erase,
    HeadIs,
    Purge,
    Purged,
    Refused,
    Resolve,
    Room,
    Selected,
    SelectOwned,
    Sighting,
)
from oppscan.reading import ALL, Scope, find_stored, rewritten
from oppscan.record import Head, Spec, after, settle_head
from oppscan.sightings import Found, Gone, Query
from oppscan.views import status_of

STEP: Final = 64
"""How many of an owner's scans are looked at in one request."""

TRIES: Final = 64
"""How often an operation decides anew when others keep changing the scan under it."""


class Order(Struct, frozen=True):
    """What `start` is asked for, checked."""

    owner: str
    spec: Spec
    key: str
    reuse: Reuse


def start(scope: Scope, order: Order) -> Flow[Ticket]:
    """Start a scan, or join an equal one. One round trip when nothing equal lives."""
    tag = owner_tag(order.owner)
    scan_id = f"{tag}-{scope.ids.scan_suffix()}"
    operation = scope.ids.operation()
    alone = not order.reuse.join_live
    key = scan_id if alone else order.key
    name = key_name(key)
    head = lifecycle.new_head(
        order.owner, key, len(order.spec.strategies), scope.policy.durations()
    )
    if not alone and (order.reuse.join_fresh or scope.sources.stores > 1):
        joined = yield from _join_any(scope, order, name)
        if joined is not None:
            return joined
    others: tuple[str, ...] = ()
    for _ in range(TRIES):
        reply = yield from ask(
            0,
            writes.start(
                scan_id, head, order.spec, operation,
                others=None if alone else others, limits=scope.limits,
            ),
        )  # fmt: skip
        if isinstance(reply, Applied):
            made = status_of(
                scan_id, settle_head(head, reply.now), reply.now, order.spec, [None] * head.total
            )
            return (yield from _created(made))
        if isinstance(reply.guard, HeadIs):  # an earlier try was applied, its reply lost
            found = yield from find_stored(scope, Query(scan_id, order.owner, ALL))
            return (yield from _created(found.status))
        joined = yield from _refused(scope, order, reply)
        if joined is not None:
            return joined
        others = (*others, reply.pointer)
    raise _contended(f"start for owner {order.owner!r}")


def _created(made: ScanStatus) -> Flow[Ticket]:
    """Hand out the scan that this call created."""
    yield Tell([Event("started", made.scan_id, made.owner, {"key": made.key})])
    return Ticket(made.scan_id, made.key, joined=False, must_run=True, status=made)


def _refused(scope: Scope, order: Order, reply: Refused) -> Flow[Ticket | None]:
    """Join the scan that stood in the way; None where it need not be joined."""
    if isinstance(reply.guard, Room):
        msg = (
            f"owner {order.owner!r} has {reply.guard.limit} live scans already "
            "(Limits.max_live_per_owner); wait for one, or cancel it"
        )
        raise TooManyScans(msg, limit=reply.guard.limit)
    return (yield from _join(scope, order, Query(reply.pointer, order.owner), 0))


def _join_any(scope: Scope, order: Order, name: str) -> Flow[Ticket | None]:
    """Join an equal scan wherever it lives: in the first store, or one that is moved away from."""
    for store in range(scope.sources.stores):
        query = Query(None, order.owner, ALL, name)
        joined = yield from _join(scope, order, query, store)
        if joined is not None:
            return joined
    if not order.reuse.join_fresh:
        return None
    for store in range(scope.sources.stores):
        older = yield from _complete_before(order, name, store)
        if older is not None:
            return (yield from _join(scope, order, Query(older, order.owner), store))
    return None


def _complete_before(order: Order, name: str, store: int) -> Flow[str | None]:
    """Find an equal scan that is still fresh, where a newer one failed or was cancelled."""
    more: str | None = ""
    while more is not None:
        reply: Selected = yield from ask(store, SelectOwned(owner_tag(order.owner), STEP, more))
        for seen in reply.sightings:
            if seen.head is None or seen.entry is None or seen.entry.name != name:
                continue
            with suppress(CorruptRecord):  # another version's: it may stand, and be passed over
                head = codec.read_head(seen.head.body, seen.head.stamp, seen.scan_id)
                scan = lifecycle.Scan(seen.scan_id, seen.head.version, head, reply.now)
                if head.owner == order.owner and lifecycle.joinable(scan, order.reuse):
                    return seen.scan_id
        more = reply.more
    return None


def _join(scope: Scope, order: Order, query: Query, store: int) -> Flow[Ticket | None]:
    """Join the scan that a query finds in one store; carry out a dead holder's cancellation."""
    only = Sources(1, ("record", "result", "owner_index"), scope.sources.remembered, store)
    answer = yield from look(query, only)
    found = _known(answer.result)
    if found is None:
        return None
    if lifecycle.joinable(found.scan, order.reuse):
        yield Tell([Event("joined", found.scan.scan_id, order.owner, {"key": order.key})])
        now = found.status
        return Ticket(found.scan.scan_id, now.key, joined=True, must_run=now.stalled, status=now)
    if found.scan.head.live and found.scan.head.cancel_requested:
        here = Found(found.scan, found.spec, found.events, None, store)
        yield from _try_cancel(scope, here)
    return None


def _known(result: Found | Gone | Hosted) -> Found | None:
    """Give the scan that a store holds, None where it holds none; raise where it is silent."""
    if isinstance(result, Gone) and result.error is not None:
        raise result.error
    return result if isinstance(result, Found) else None


def _contended(what: str) -> StorageUnavailable:
    msg = f"{what}: others changed the same scan {TRIES} times in a row; try again"
    return StorageUnavailable(msg)


def _check_whole(found: Found, refused: str | None) -> None:
    """Raise `ScanLost` where a write was refused though the scan stands as that write saw it."""
    if found.scan.version == refused:
        scan_id = found.scan.scan_id
        msg = f"the store lost a part of scan {scan_id}, so it cannot be changed; start it again"
        raise ScanLost(msg, scan_id=scan_id)


def claim(scope: Scope, scan_id: str, owner: str | None) -> Flow[Holding]:
    """Claim a scan: two round trips, one to read it and one to take it."""
    operation = scope.ids.operation()
    refused = None
    for _ in range(TRIES):
        found = yield from find_stored(scope, Query(scan_id, owner, ALL))
        if found.scan.head.chain == operation:
            return _holding(scope, found)  # taken by an earlier try, whose reply was lost
        _check_whole(found, refused)
        refused = found.scan.version
        outcomes = found.events or ()
        taken = lifecycle.claim(found.scan, outcomes, operation, scope.limits)
        if taken is None:
            raise _finished(found.status)
        if isinstance(taken, Finish):
            ended = yield from _finish(scope, found, taken, operation)
            if ended is not None:
                raise _finished(ended)
            continue
        apply = writes.write(found.scan, taken, operation, scope.limits.max_remembered)
        reply = yield from ask(found.store, apply)
        if isinstance(reply, Applied):
            held = rewritten(found, taken, operation, reply.now)
            attempt = {"attempt": taken.attempts}
            yield Tell([Event("claimed", scan_id, taken.owner, {**attempt})])
            return _holding(scope, held)
    raise _contended(f"claim of scan {scan_id}")


def _finished(status: ScanStatus) -> ScanFinished:
    return ScanFinished(f"is {status.state}, so it cannot be claimed", status)


def _holding(scope: Scope, found: Found) -> Holding:
    return Holding(found.scan, found.spec, found.events or (), found.store, scope.limits)


def _finish(scope: Scope, found: Found, finish: Finish, operation: str) -> Flow[ScanStatus | None]:
    """Write a terminal state for a scan that nobody holds; None where it changed meanwhile."""
    most = scope.limits.max_remembered
    apply, head = writes.write_finish(found.scan, finish, found.spec, operation, most)
    reply = yield from ask(found.store, apply)
    if not isinstance(reply, Applied):
        return None
    settled = settle_head(head, reply.now)
    events = [e and codec.settle_event(e, reply.now) for e in finish.outcomes]
    scan_id = found.scan.scan_id
    yield Tell([Event("finished", scan_id, head.owner, {"state": head.state})])
    return status_of(scan_id, settled, reply.now, found.spec, events)


def _try_cancel(scope: Scope, found: Found) -> Flow[ScanStatus | None]:
    """Ask once for cancellation, or carry it out; None where the scan changed meanwhile."""
    operation = scope.ids.operation()
    wanted = lifecycle.cancel(found.scan, found.events or (), operation)
    if wanted is None:
        return found.status
    if isinstance(wanted, Finish):
        return (yield from _finish(scope, found, wanted, operation))
    apply = writes.write(found.scan, wanted, operation, scope.limits.max_remembered)
    reply = yield from ask(found.store, apply)
    if not isinstance(reply, Applied):
        return None
    yield Tell([Event("cancel_requested", found.scan.scan_id, wanted.owner)])
    return rewritten(found, wanted, operation, reply.now).status


def cancel(scope: Scope, scan_id: str, owner: str | None) -> Flow[ScanStatus]:
    """Ask a holder to stop, or end a scan that nobody holds. Two round trips."""
    return (yield from _change(scope, scan_id, owner, lambda found: _try_cancel(scope, found)))


def extend(scope: Scope, scan_id: str, owner: str | None, milliseconds: int) -> Flow[ScanStatus]:
    """Let a scan live for at least this long from now. Two round trips."""

    def attempt(found: Found) -> Flow[ScanStatus | None]:
        head = lifecycle.extend(found.scan, after(milliseconds))
        if head is None:
            return found.status
        operation = scope.ids.operation()
        apply = writes.write(found.scan, head, operation, scope.limits.max_remembered)
        reply = yield from ask(found.store, apply)
        if not isinstance(reply, Applied):
            return None
        scope.near.forget(scan_id)
        return rewritten(found, head, operation, reply.now).status

    return (yield from _change(scope, scan_id, owner, attempt))


def _change(
    scope: Scope,
    scan_id: str,
    owner: str | None,
    attempt: Callable[[Found], Flow[ScanStatus | None]],
) -> Flow[ScanStatus]:
    """Read and try to change, until nothing changed in between."""
    refused = None
    for _ in range(TRIES):
        found = yield from find_stored(scope, Query(scan_id, owner, ALL))
        _check_whole(found, refused)
        refused = found.scan.version
        changed = yield from attempt(found)
        if changed is not None:
            return changed
    raise _contended(f"change of scan {scan_id}")


def forget(scope: Scope, scan_id: str, owner: str | None) -> Flow[None]:
    """Erase a scan from every store, or raise. Two round trips for each store."""
    scope.near.forget(scan_id)
    tag = scan_id.partition("-")[0]
    for store in reversed(range(scope.sources.stores)):  # whence it could be copied forward, first
        names = {LATEST}
        try:
            reply = yield from ask(store, Resolve(scan_id, tag))
            seen = reply.sighting
            head = None if seen is None else _head_of(seen)
            if seen is None or (head is not None and owner not in {None, head.owner}):
                continue
            names.update(() if seen.entry is None else (seen.entry.name,))
            names.update(() if head is None else (key_name(head.key),))
        except CorruptRecord:
            pass  # nobody can read it any more; the id, which was checked, tells the owner too
        yield from ask(store, Apply((), (Erase(scan_id, tag, tuple(sorted(names))),)))
        yield Tell([Event("forgotten", scan_id, owner)])


def _head_of(seen: Sighting) -> Head | None:
    """Give the head of a scan, or the index's copy; None where neither is there."""
    head = codec.decode_head(seen.head, seen.scan_id)
    if head is None and seen.entry is not None:
        return codec.read_head(seen.entry.body, seen.entry.stamp, seen.scan_id)
    return head


def purge(beyond: str) -> Flow[Purged]:
    """Drop what is kept no longer from the first store: one bite, from where the last one ended."""
    return (yield from ask(0, Purge(beyond=beyond)))
