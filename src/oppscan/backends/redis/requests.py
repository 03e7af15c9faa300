"""The requests of `oppscan.ops` as what is sent to Redis, and its replies as theirs. No I/O.

A request is a `Plan`: a generator that yields `Step`s and is sent what came back. The two faces of
the backend run the same plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from math import isfinite
from typing import Any, Final, TypeVar, assert_never, cast

from msgspec.structs import replace

from oppscan.backends.redis import layout
from oppscan.backends.redis.clock import Known
from oppscan.backends.redis.records import Records, sighted
from oppscan.backends.redis.scripts import APPLY, READ, SWEEP
from oppscan.backends.redis.steps import (
    Argument,
    Get,
    Keys,
    Moment,
    Plan,
    Run,
    Spread,
)
from oppscan.errors import CorruptRecord
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
from oppscan.record import Part, settle

R = TypeVar("R")

_BOTH: Final[frozenset[Part]] = frozenset({"spec", "events"})
_POINTER: Final = 28
_ENTRY: Final = 25
"""The least bytes of a pointer and of an index entry that make sense."""

SHARDS: Final = tuple(f"{number:02x}" for number in range(256))


def weight(request: Request[Any]) -> int:
    """Give the bytes that a request writes to logs."""
    changes = request.changes if isinstance(request, Apply) else ()
    saves = [item for item in changes if isinstance(item, Save)]
    return sum(len(frame) for item in saves for frame in (*item.events, *item.data))


def reply_weight(answer: object) -> int:
    """Give the bytes of a reply that must be unpacked."""
    if isinstance(answer, bytes):
        return len(answer)
    return sum(map(reply_weight, answer)) if isinstance(answer, list) else 0


def plan(request: Request[R], namespace: str, known: Known, records: Records) -> Plan[R]:
    """Give the plan of a request; ``records`` are those that were read lately."""
    if isinstance(request, Resolve):
        return cast("Plan[R]", _resolve(namespace, request, known, records))
    return cast("Plan[R]", _PLANS[type(request)](namespace, request, known))


# --- Reading ------------------------------------------------------------------------------------


def _owner_keys(namespace: str, tag: str) -> tuple[str, ...]:
    return tuple(layout.key(namespace, kind, tag) for kind in "ioq")


def _resolve(namespace: str, request: Resolve, known: Known, records: Records) -> Plan[Resolved]:
    if request.scan_id is None:
        return (yield from _resolve_name(namespace, request))
    scan_id, tag = request.scan_id, request.tag
    record_key = layout.key(namespace, "r", scan_id)
    if "data" not in request.parts and known.looked(scan_id):
        raw, now = yield Get(record_key)
        if now:
            seen = records.read(record_key, scan_id, raw, now, request.parts)
            if seen.head is not None:
                return Resolved(max(now, seen.head.stamp), seen)
            known.missed(scan_id)
    now, index, listed, found = yield Run(
        READ,
        (
            layout.key(namespace, "i", tag), record_key, layout.key(namespace, "d", scan_id),
            layout.due_key(namespace, layout.shard_of(tag)),
        ),
        (
            "scan", int("data" in request.parts), _family(namespace, tag),
            layout.short(scan_id), request.data_from,
        ),
    )  # fmt: skip
    seen = _sighting(tag, found, now, request.parts, request.data_from)
    if seen.head is None:
        known.missed(scan_id)
    return Resolved(now, seen, bool(index), bool(listed))


def _resolve_name(namespace: str, request: Resolve) -> Plan[Resolved]:
    due = layout.due_key(namespace, layout.shard_of(request.tag))
    now, index, listed, via, found = yield Run(
        READ,
        (*_owner_keys(namespace, request.tag), due),
        ("name", int("data" in request.parts), _family(namespace, request.tag), request.name),
    )
    seen = None if found is None else _sighting(request.tag, found, now, request.parts)
    return Resolved(now, seen, bool(index), bool(listed), via.decode())


def _select_owned(namespace: str, request: SelectOwned, known: Known) -> Plan[Selected]:
    del known
    now, more, found = yield Run(
        READ,
        _owner_keys(namespace, request.tag),
        (
            "live" if request.live else "list", int("data" in request.parts),
            _family(namespace, request.tag), "", request.limit, request.before,
        ),
    )  # fmt: skip
    seen = tuple(_sighting(request.tag, item, now, request.parts) for item in found)
    return Selected(now, seen, more.decode() or None)


def _family(namespace: str, tag: str) -> str:
    """Give what the keys of an owner's scans are made of."""
    return f"{{{namespace}:{layout.shard_of(tag)}}}{tag}-"


def _sighting(
    tag: str, found: Sequence[Any], now: int, parts: frozenset[Part], data_from: int = 0
) -> Sighting:
    suffix, raw, entry, size, first, groups = found
    scan_id = layout.long(tag, suffix)
    what = f"scan {scan_id}"
    seen = sighted(scan_id, raw, now, parts)
    wanted = data_from if seen.head is not None else 0
    data = layout.read_data(raw, size, groups, first, wanted, now, what)
    read = layout.read_entry(entry, now, what)
    return Sighting(scan_id, seen.head, read, seen.spec, seen.events, data)


def _select_due(namespace: str, request: SelectDue, known: Known) -> Plan[Selected]:
    del known
    due_from, _, past = request.beyond.partition("/")
    now = yield Moment(layout.due_key(namespace, SHARDS[0]))
    window = (now, "WITHSCORES", "LIMIT", 0, request.limit)
    spans: list[tuple[Argument, ...]] = [(due_from or "-inf", *window)]
    if past:  # of those due at the same instant, however many, some were on the page before
        spans = [(due_from, due_from, "WITHSCORES"), (f"({due_from}", *window)]
    replies = yield Spread(
        tuple(
            ("ZRANGEBYSCORE", layout.due_key(namespace, shard), *span)
            for span in spans
            for shard in SHARDS
        )
    )
    found = (
        (shard, row)
        for shard, reply in zip(SHARDS * len(spans), replies, strict=True)
        for row in _scored(reply)
    )
    rows = sorted(
        (due, layout.id_of_member(member, shard), member) for shard, (due, member) in found
    )
    if past:
        rows = [row for row in rows if (row[0], f"{row[1]}!") > (int(due_from), past)]
    page = rows[: request.limit]
    raws = yield Spread(tuple(command for row in page for command in _of_due(namespace, row[1])))
    seen: list[Sighting] = []
    over: dict[str, list[bytes]] = {}
    for (_, scan, member), raw, entry in zip(page, raws[::2], raws[1::2], strict=True):
        sighting = _due_sighting(scan, raw, entry, now)
        if sighting is None:
            over.setdefault(layout.shard_of(scan), []).append(member)
        else:
            seen.append(sighting)
    for shard, members in over.items():
        yield _forget_due(namespace, shard, members)
    more = f"{page[-1][0]}/{page[-1][1]}!" if len(page) == request.limit else None
    return Selected(now, tuple(seen), more)


def _due_sighting(scan: str, raw: bytes | None, entry: bytes | None, now: int) -> Sighting | None:
    """Give a scan that is due; None where it has expired, or nobody can read it.

    That it cannot be read is told to who asks for it, and hides no other.
    """
    try:
        seen = sighted(scan, raw, now, _BOTH)
        seen = replace(seen, entry=layout.read_entry(entry, now, f"scan {scan}"))
    except CorruptRecord:
        return None
    return seen if layout.expires_of(raw) > now else None


def _of_due(namespace: str, scan_id: str) -> tuple[tuple[Argument, ...], ...]:
    index = layout.key(namespace, "i", scan_id.partition("-")[0])
    return (
        ("GET", layout.key(namespace, "r", scan_id)),
        ("HGET", index, layout.short(scan_id)),
    )


def _scored(reply: Sequence[Any]) -> list[tuple[int, bytes]]:
    """Read members with scores, whichever way the client parsed them."""
    if reply and isinstance(reply[0], (list, tuple)):
        return [(_place(score), member) for member, score in reply]
    return [(_place(reply[n + 1]), reply[n]) for n in range(0, len(reply), 2)]


def _place(score: float | bytes) -> int:
    """Read a score; one that no script of ours can have put counts as the lowest."""
    return int(float(score)) if isfinite(float(score)) else 0


def _forget_due(namespace: str, shard: str, members: Sequence[bytes]) -> Run:
    scans = (layout.id_of_member(member, shard) for member in members)
    keys = (layout.due_key(namespace, shard), *(layout.key(namespace, "r", scan) for scan in scans))
    return Run(SWEEP, keys, (0, *members), writes=True)


OWNERS: Final = 16
"""Swept by one script, which holds up the server no longer than that."""

BITE: Final = 256 * OWNERS
"""Owners looked at by one `Purge`, so that it ends in time, whatever there is to drop."""


def _purge(namespace: str, request: Purge, known: Known) -> Plan[Purged]:
    """Drop the leftovers that no key's own TTL takes along. O(owners), by SCAN."""
    del known
    now = yield Moment(layout.due_key(namespace, SHARDS[0]))
    if not request.beyond:
        window = ("-inf", now, "LIMIT", 0, request.limit)
        dues = yield Spread(
            tuple(("ZRANGEBYSCORE", layout.due_key(namespace, shard), *window) for shard in SHARDS)
        )
        for shard, members in zip(SHARDS, dues, strict=True):
            if members:
                yield _forget_due(namespace, shard, members)
    found = sorted(
        index.rpartition(":")[2] for index in (yield Keys(layout.index_pattern(namespace)))
    )
    tags = [tag for tag in found if tag > request.beyond]
    scans = dropped = 0
    for group in _groups(tags[:BITE]):
        keys = tuple(key for tag in group for key in _owner_keys(namespace, tag))
        gone, all_gone, reached = yield Run(SWEEP, keys, (request.limit - dropped,), writes=True)
        scans += gone
        dropped += all_gone
        if dropped >= request.limit:
            return Purged(now, scans, more=True, beyond=group[reached - 1])
    more = len(tags) > BITE
    return Purged(now, scans, more=more, beyond=tags[BITE - 1] if more else "")


def _groups(tags: Sequence[str]) -> Iterator[list[str]]:
    """Take owners together whose keys lie in one slot, as many as one script should look at."""
    for _, shard in groupby(tags, layout.shard_of):
        owners = list(shard)
        yield from (owners[at : at + OWNERS] for at in range(0, len(owners), OWNERS))


# --- Writing ------------------------------------------------------------------------------------


class _Draft:
    """An `Apply` on its way to be arguments: the keys that it may touch, each with its kind."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.places: dict[str, int] = {}
        self.kinds: list[str] = []
        self.checks: list[Argument] = []
        self.arguments: list[Argument] = []

    def key(self, kind: str, name: str, *, whatever: bool = False) -> int:
        """Give the place of a key in KEYS; ``whatever``: it goes, so nothing in it matters."""
        if kind == "u":
            full = layout.due_key(self.namespace, layout.shard_of(name))
        else:
            full = layout.key(self.namespace, kind, name)
        if full not in self.places:
            self.places[full] = len(self.places) + 1
            self.kinds.append("-")
        place = self.places[full]
        if not whatever:
            self.kinds[place - 1] = kind
        return place

    def channel(self, scan_id: str) -> str:
        return layout.key(self.namespace, "n", scan_id)

    def add(self, item: Guard | Change) -> None:
        match item:
            case HeadIs():
                version = "" if item.version is None else layout.head_bytes(item.version, b"")
                self.arguments += "head", self.key("r", item.scan_id), self.key("d", item.scan_id)
                self.arguments += version, int(item.torn)
            case Free():
                others = [layout.short(scan_id) for scan_id in item.others]
                self.arguments.append("free")
                self.arguments += (self.key(kind, item.tag) for kind in "qio")
                self.arguments += item.name, len(others), *others
            case Room():
                self.arguments += "room", self.key("i", item.tag), self.key("o", item.tag)
                self.arguments.append(item.limit)
            case Save():
                logs = item.events if item.spec is None else (item.spec, *item.events)
                self.arguments += "save", self.key("r", item.scan_id), self.key("d", item.scan_id)
                self.arguments += self.key("u", item.scan_id), layout.due_member(item.scan_id)
                self.arguments += *expiry(item), item.keep, "" if item.due is None else item.due
                self.arguments.append(layout.head_bytes(item.version, item.body))
                self.arguments += int(item.spec is not None), layout.pack_group(logs)
                self.arguments += int(item.fresh), layout.pack_group(item.data)
                self.arguments.append(self.channel(item.scan_id) if item.news else "")
            case Point():
                self.checks += self.key("q", item.tag), item.name, _POINTER
                self.arguments += "point", self.key("q", item.tag), item.name
                self.arguments += layout.short(item.scan_id), item.life, item.keep, item.mode
            case Enter():
                keys = [self.key(kind, item.tag) for kind in "io"]
                self.checks += keys[0], layout.short(item.scan_id), _ENTRY
                tail = layout.entry_tail(item.name, item.body)
                self.arguments += "enter", *keys, layout.short(item.scan_id), tail
                self.arguments += item.life, item.keep, item.order, item.most
            case Erase():
                self.arguments.append("erase")
                self.arguments += (self.key(kind, item.scan_id, whatever=True) for kind in "rd")
                self.arguments += self.key("u", item.scan_id), layout.due_member(item.scan_id)
                self.arguments += (self.key(kind, item.tag) for kind in "ioq")
                self.arguments += layout.short(item.scan_id), len(item.names), *item.names
                self.arguments.append(self.channel(item.scan_id))
            case _:
                assert_never(item)


def expiry(change: Save) -> tuple[int, int]:
    """Give when a head expires: an instant, and a time from its write on; the later one counts."""
    instant = max((time for time in change.expires if time >= 0), default=0)
    life = max((settle(time, 0) for time in change.expires if time < 0), default=0)
    return instant, life


def apply_step(namespace: str, request: Apply) -> Run:
    """Give the one step that an `Apply` takes."""
    draft = _Draft(namespace)
    draft.arguments.append(len(request.guards))
    for guard in request.guards:
        draft.add(guard)
    draft.arguments.append(len(request.changes))
    for change in request.changes:
        draft.add(change)
    checks = (len(draft.checks) // 3, *draft.checks)
    arguments = ("".join(draft.kinds), *checks, *draft.arguments)
    return Run(APPLY, tuple(draft.places), arguments, writes=True)


def _apply(namespace: str, request: Apply, known: Known) -> Plan[Applied | Refused]:
    del known
    failed, now, pointer = yield apply_step(namespace, request)
    if not failed:
        return Applied(now)
    guard = request.guards[failed - 1]
    met = layout.long(guard.tag, pointer) if isinstance(guard, Free) else ""
    return Refused(now, guard, met)


_PLANS: Final[dict[type, Callable[..., Plan[Any]]]] = {
    Apply: _apply,
    SelectOwned: _select_owned,
    SelectDue: _select_due,
    Purge: _purge,
}
