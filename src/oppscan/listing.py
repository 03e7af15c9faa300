"""The operations of a registry that list scans, as flows.

Laws
- One scan that cannot be read, another version's perhaps, hides no other: it is told, and left out.
  Where it may be the answer, that is refused.
- Nothing listed is not nothing there: before that is said, the owner's newest scan is looked for,
  which begins a lost list anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from oppscan import codec, ttl
from oppscan.errors import CorruptRecord
from oppscan.flow import Flow, Tell, ask
from oppscan.inputs import owner_tag
from oppscan.lookup import look
from oppscan.model import Event, Page, ScanState, ScanStatus
from oppscan.ops import SelectDue, Selected, SelectOwned, Sighting
from oppscan.reading import ALL, Scope, newest
from oppscan.record import Head
from oppscan.sightings import Found
from oppscan.views import fold, status_of

T = TypeVar("T")

STEP: Final = 64
DUE_STEP: Final = 256
"""How many entries are looked at in one request, at least, where not all of them count."""


def _readable(
    reply: Selected, show: Callable[[Sighting, int], T | None]
) -> Flow[list[tuple[Sighting, T]]]:
    """Show what can be read and is to be shown."""
    shown: list[tuple[Sighting, T]] = []
    for seen in reply.sightings:
        try:
            item = show(seen, reply.now)
        except CorruptRecord as error:
            detail: dict[str, object] = {"error": str(error)}
            yield Tell([Event("unreadable", seen.scan_id, None, detail)], warn=True)
            continue
        if item is not None:
            shown.append((seen, item))
    return shown


def has_active(scope: Scope, owner: str, key: str | None) -> Flow[bool]:
    """Tell whether the owner has a live scan that somebody works on; one round trip if so."""

    def active(head: Head | None, now: int) -> bool:
        if head is None or head.owner != owner or key not in {None, head.key}:
            return False
        return head.live and now < ttl.expires_at(head) and not ttl.stalled(head, now)

    unreadable: CorruptRecord | None = None
    for store in range(scope.sources.stores):
        reply = yield from ask(store, SelectOwned(owner_tag(owner), 1, live=True))
        for seen in reply.sightings:
            try:
                head = codec.decode_head(seen.head, seen.scan_id)
            except CorruptRecord as error:
                unreadable = error
                continue
            if active(head, reply.now):
                return True
    if unreadable is not None:
        raise unreadable
    found = (yield from look(newest(owner, key), scope.sources)).result
    return isinstance(found, Found) and active(found.scan.head, found.scan.now)


def history(
    scope: Scope,
    owner: str,
    states: frozenset[ScanState] | None,
    limit: int,
    before: str,
) -> Flow[Page[ScanStatus]]:
    """List an owner's scans, newest first. One round trip where all states are wanted."""
    page = yield from _page(owner, states, limit, before)
    if page.items or before:
        return page
    found = (yield from look(newest(owner, None), scope.sources)).result
    there = isinstance(found, Found) and found.store == 0
    return (yield from _page(owner, states, limit, before)) if there else page


def _page(
    owner: str, states: frozenset[ScanState] | None, limit: int, before: str
) -> Flow[Page[ScanStatus]]:
    found: list[ScanStatus] = []
    more: str | None = before
    while more is not None and len(found) < limit:
        step = limit - len(found) if states is None else max(limit - len(found), STEP)
        reply: Selected = yield from ask(0, SelectOwned(owner_tag(owner), step, more, parts=ALL))
        more = reply.more
        for seen, status in (
            yield from _readable(reply, lambda seen, now: _listed(seen, owner, now))
        ):
            if states is None or status.state in states:
                found.append(status)
            if len(found) == limit and seen is not reply.sightings[-1] and seen.entry is not None:
                return Page(tuple(found), str(seen.entry.order))
    return Page(tuple(found), more)


def _listed(seen: Sighting, owner: str, now: int) -> ScanStatus | None:
    """Give the status of a listed scan: from its record, or what the index remembers of it."""
    head = codec.decode_head(seen.head, seen.scan_id)
    if head is None and seen.entry is not None:
        head = codec.read_head(seen.entry.body, seen.entry.stamp, seen.scan_id)
    if head is None or head.owner != owner or now >= ttl.forgotten_at(head):
        return None
    return (
        status_of(seen.scan_id, head, now)
        if now >= ttl.expires_at(head)
        else _whole(seen, head, now)
    )


def _whole(seen: Sighting, head: Head, now: int) -> ScanStatus:
    """Give a status with all that is there of the scan's description and outcomes."""
    spec = codec.decode_spec(seen.spec, seen.scan_id)
    if spec is None:
        return status_of(seen.scan_id, head, now)
    events = fold(codec.decode_events(seen.events, seen.scan_id), head.total)
    whole = len(spec.strategies) == head.total
    return status_of(seen.scan_id, head, now, spec, events if whole else None)


def stalled(limit: int) -> Flow[list[ScanStatus]]:
    """List scans that nobody works on, of all owners, longest stalled first."""
    found: list[ScanStatus] = []
    beyond: str | None = ""
    while beyond is not None and len(found) < limit:
        reply: Selected = yield from ask(0, SelectDue(max(limit - len(found), DUE_STEP), beyond))
        found += [status for _, status in (yield from _readable(reply, _stalled))]
        beyond = reply.more
    return found[:limit]


def _stalled(seen: Sighting, now: int) -> ScanStatus | None:
    head = codec.decode_head(seen.head, seen.scan_id)
    if head is None or not ttl.stalled(head, now) or now >= ttl.expires_at(head):
        return None
    return _whole(seen, head, now)
