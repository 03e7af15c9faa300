"""The exact meaning of the requests in `oppscan.ops`, over any ordered store of rows.

`interpret` is what the memory and the SQLite store run inside a transaction, and what every
other store is compared with. It is pure: all it knows is the transaction it is handed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar, cast

from oppscan.backends.rows import FOREVER, Space, Transaction, number_text, order_text
from oppscan.ops import (
    Applied,
    Apply,
    Change,
    Enter,
    Erase,
    Free,
    Guard,
    HeadIs,
    Point,
    Purge,
    Purged,
    Refused,
    Request,
    Resolve,
    Resolved,
    Room,
    Save,
    SelectDue,
    Selected,
    SelectOwned,
    Sighting,
)
from oppscan.record import PARTS, Part, settle

R = TypeVar("R")


def interpret(tx: Transaction, request: Request[R], namespace: str) -> R:
    """Run one request within a transaction, and give its reply."""
    handler = _REQUESTS[type(request)]
    return cast("R", handler(Space(tx, namespace), request))


# --- Reading ------------------------------------------------------------------------------------


def _resolve(space: Space, request: Resolve) -> Resolved:
    seen: Sighting | None
    via = "record"
    if request.scan_id is None:
        seen, via = _newest(space, request)
    else:
        seen = space.sighting(request.tag, request.scan_id, request.parts, request.data_from)
    index = bool(space.tx.scan(space.key("o", request.tag, ""), limit=1))
    return Resolved(space.now, seen, index, seen is not None and space.listed(seen), via)


def _newest(space: Space, request: Resolve) -> tuple[Sighting | None, str]:
    """Find the scan that a pointer leads to, or else the newest in the index."""
    pointer = space.get(space.key("q", request.tag, request.name))
    if pointer is not None:
        seen = space.sighting(request.tag, cast("str", pointer[0]), request.parts)
        if seen.head or seen.entry or seen.spec or seen.data:
            return seen, "latest"
    for scan_id, entry in space.entries(request.tag):
        if not request.name or entry.name == request.name:
            return space.sighting(request.tag, scan_id, request.parts), "owner_index"
    return None, "owner_index"


def _select_owned(space: Space, request: SelectOwned) -> Selected:
    found: list[Sighting] = []
    order = 0
    if request.live:
        ids = [scan_id for scan_id, _ in space.live(request.tag)]
        seen = (space.sighting(request.tag, scan_id, request.parts) for scan_id in ids)
        return Selected(space.now, tuple(seen))
    before = int(request.before) if request.before else None
    for scan_id, entry in space.entries(request.tag, before):
        if len(found) == request.limit:
            return Selected(space.now, tuple(found), str(order))
        found.append(space.sighting(request.tag, scan_id, request.parts))
        order = entry.order
    return Selected(space.now, tuple(found))


def _select_due(space: Space, request: SelectDue) -> Selected:
    prefix = space.key("d", "")
    rows = space.tx.scan(prefix, request.beyond, limit=request.limit)
    found: list[Sighting] = []
    place = ""
    for key, _ in rows:
        place = key.removeprefix(prefix)
        due, _, scan_id = place.partition("/")
        if int(due) > space.now:
            return Selected(space.now, tuple(found))
        if space.expired(scan_id):
            space.tx.delete(key)
        else:
            tag = scan_id.partition("-")[0]
            found.append(space.sighting(tag, scan_id, frozenset({"spec", "events"})))
    return Selected(space.now, tuple(found), place + "!" if len(rows) == request.limit else None)


def _purge(space: Space, request: Purge) -> Purged:
    gone = 0
    droppers: dict[str, Callable[[str], None]] = {
        "h": space.drop_head,
        "p": lambda rest: space.drop_log(*rest.split("/")),
        "i": lambda rest: space.drop_entry(*rest.split("/")),
        "q": lambda rest: space.tx.delete(space.key("q", rest)),
    }
    prefix = space.namespace + "/"
    keys = space.tx.overdue(prefix, request.limit)
    for key in keys:
        kind, _, rest = key.removeprefix(prefix).partition("/")
        droppers[kind](rest)
        gone += kind == "h"
    return Purged(space.now, gone, more=len(keys) == request.limit)


# --- Writing ------------------------------------------------------------------------------------


def _apply(space: Space, request: Apply) -> Applied | Refused:
    for guard in request.guards:
        refused = _GUARDS[type(guard)](space, guard)
        if refused is not None:
            return refused
    for change in request.changes:
        _CHANGES[type(change)](space, change)
    return Applied(space.now)


def _head_is(space: Space, guard: HeadIs) -> Refused | None:
    value = space.get(space.key("h", guard.scan_id))
    if value is None:
        holds = guard.version is None
    else:
        parts: tuple[Part, ...] = ("data",) if guard.torn else PARTS
        holds = value[0] == guard.version and cast("int", value[2]) > space.now
        holds = holds and space.whole(guard.scan_id, *parts)
    if guard.torn and not space.length(guard.scan_id, "data"):
        holds = False
    return None if holds else Refused(space.now, guard)


def _free(space: Space, guard: Free) -> Refused | None:
    pointer = space.get(space.key("q", guard.tag, guard.name))
    if pointer is not None:
        scan_id, live_until = cast("tuple[str, int]", pointer)
        if live_until <= space.now or scan_id in guard.others:
            return None
        return Refused(space.now, guard, scan_id)
    for scan_id, name in space.live(guard.tag):
        if name == guard.name and scan_id not in guard.others:
            return Refused(space.now, guard, scan_id)
    return None


def _room(space: Space, guard: Room) -> Refused | None:
    return None if len(space.live(guard.tag)) < guard.limit else Refused(space.now, guard)


def _save(space: Space, change: Save) -> None:
    scan_id = change.scan_id
    expires = max(settle(time, space.now) for time in change.expires)
    anew = change.spec is not None
    if change.spec is not None:
        _lengthen(space, scan_id, "spec", (change.spec,), expires, fresh=True)
    else:
        _lengthen(space, scan_id, "spec", (), expires)
    events = _lengthen(space, scan_id, "events", change.events, expires, fresh=anew)
    data = _lengthen(space, scan_id, "data", change.data, expires, fresh=change.fresh)
    space.drop_head(scan_id)
    due = -1
    if change.due is not None:
        due = settle(change.due, space.now)
        space.tx.put(space.key("d", order_text(due), scan_id), (), FOREVER)
    value = (change.version, space.now, expires, due, change.body, events, data)
    space.tx.put(space.key("h", scan_id), value, max(expires, space.now + change.keep))


def _lengthen(
    space: Space,
    scan_id: str,
    part: Part,
    frames: tuple[bytes, ...],
    until: int,
    *,
    fresh: bool = False,
) -> int:
    """Append to a log, or begin it anew; keep it ``until``, and give its length."""
    length = None if fresh else space.length(scan_id, part)
    if length is None:
        space.drop_log(scan_id, part)
        length = 0
    for number, frame in enumerate(frames, length):
        key = space.key("f", scan_id, part, number_text(number))
        space.tx.put(key, (space.now, frame), FOREVER)
    length += len(frames)
    space.tx.put(space.key("p", scan_id, part), (length,), until)
    return length


def _point(space: Space, change: Point) -> None:
    key = space.key("q", change.tag, change.name)
    until = space.now + change.keep
    live_until = space.now + change.life if change.life else 0
    row = space.tx.get(key)
    if row is not None and row.until > space.now:
        if row.value[0] != change.scan_id and change.mode != "take":
            return
        until = max(until, row.until)
    elif change.mode == "renew":
        return
    space.tx.put(key, (change.scan_id, live_until), until)


def _enter(space: Space, change: Enter) -> None:
    prefix = space.key("o", change.tag, "")
    key = space.key("i", change.tag, change.scan_id)
    live_until = space.now + change.life if change.life else 0
    known = space.get(key)
    until = space.now + change.keep
    if known is None:
        space.drop_entry(change.tag, change.scan_id)
        order = _place(space, prefix, change.order)
        space.tx.put(prefix + order_text(order), (change.scan_id,), FOREVER)
    else:
        order = cast("int", known[0])
    space.tx.put(key, (order, live_until, change.name, space.now, change.body), until)
    live_row = space.key("l", change.tag, change.scan_id)
    if live_until:
        space.tx.put(live_row, (change.name, live_until), FOREVER)
    else:
        space.tx.delete(live_row)
    if known is None:
        _trim(space, change.tag, change.most)


def _place(space: Space, prefix: str, wanted: int) -> int:
    """Find the place of a new entry in its owner's index."""
    if wanted < 0:
        newest = space.tx.scan(prefix, reverse=True, limit=1)
        return max(space.now, int(newest[0][0].removeprefix(prefix)) + 1) if newest else space.now
    while space.tx.get(prefix + order_text(wanted)) is not None:
        wanted += 1
    return wanted


def _trim(space: Space, tag: str, most: int) -> None:
    """Drop the oldest entries that are not live, until at most ``most`` are left."""
    rows = space.tx.scan(space.key("o", tag, ""))
    surplus = len(rows) - most
    for _, row in rows:
        if surplus <= 0:
            return
        scan_id = cast("str", row.value[0])
        entry = space.entry(tag, scan_id)
        if entry is None or not entry.live:
            space.drop_entry(tag, scan_id)
            surplus -= 1


def _erase(space: Space, change: Erase) -> None:
    entry = space.entry(change.tag, change.scan_id)
    space.drop_head(change.scan_id)
    space.drop_entry(change.tag, change.scan_id)
    for part in PARTS:
        space.drop_log(change.scan_id, part)
    for name in (*change.names, *([entry.name] if entry else ())):
        key = space.key("q", change.tag, name)
        row = space.tx.get(key)
        if row is not None and row.value[0] == change.scan_id:
            space.tx.delete(key)


_REQUESTS: Final[dict[type, Callable[..., object]]] = {
    Resolve: _resolve,
    Apply: _apply,
    SelectOwned: _select_owned,
    SelectDue: _select_due,
    Purge: _purge,
}
_GUARDS: Final[dict[type[Guard], Callable[..., Refused | None]]] = {
    HeadIs: _head_is,
    Free: _free,
    Room: _room,
}
_CHANGES: Final[dict[type[Change], Callable[..., None]]] = {
    Save: _save,
    Point: _point,
    Enter: _enter,
    Erase: _erase,
}
