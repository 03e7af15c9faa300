"""The requests of `oppscan.ops` as what is sent to Redis, and its replies as theirs. No I/O.

A request is a `Plan`: a generator that yields `Step`s and is sent what came back. The two faces of
the backend run the same plans.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, TypeVar, cast

from attrs import frozen
from msgspec.structs import replace

from oppscan.ops import (
    Append,
    Applied,
    Apply,
    Change,
    Enter,
    Erase,
    Free,
    Guard,
    HeadIs,
    LengthIs,
    Point,
    Purge,
    Purged,
    PutHead,
    Refused,
    Request,
    Resolve,
    Resolved,
    Room,
    SelectDue,
    Selected,
    SelectOwned,
    Sighting,
)
from oppscan.record import Part
from tests.redis.store import redis_layout as layout
from tests.redis.store.redis_scripts import APPLY, READ, SWEEP, Script

R = TypeVar("R")
Argument = bytes | str | int

SHARDS: Final = tuple(f"{number:02x}" for number in range(256))


# --- Steps --------------------------------------------------------------------------------------


@frozen
class Run:
    """Run a script; the answer is its reply. ``writes``: it changes the store."""

    script: Script
    keys: tuple[str, ...]
    arguments: tuple[Argument, ...]
    writes: bool = False


@frozen
class Get:
    """Read a string; the answer is its bytes or None, and the store's time, 0 if unknown."""

    key: str


@frozen
class Spread:
    """Run commands that each need one key, wherever that is; the answer is their replies."""

    commands: tuple[tuple[Argument, ...], ...]


@frozen
class Keys:
    """List the keys that match a pattern, on all nodes."""

    pattern: str


@frozen
class Moment:
    """Ask for the time of the server of ``key``, as well as it is known, in milliseconds."""

    key: str


def moment_of(key: str) -> Run:
    """Give the step that asks a server for its time, and nothing else."""
    return Run(READ, (key,) * 4, ("live", 0, "{}", 0, ""))


Step = Run | Get | Spread | Keys | Moment
Plan = Generator[Step, Any, R]
Timely = Callable[[str], bool]
"""Whether a read of this owner may be a bare `Get`: the store's time is known well, and whether
the owner's index is there was looked at lately."""


def weight(request: Request[Any]) -> int:
    """Give the bytes that a request writes to logs."""
    changes = request.changes if isinstance(request, Apply) else ()
    return sum(sum(map(len, item.frames)) for item in changes if isinstance(item, Append))


def reply_weight(answer: object) -> int:
    """Give the bytes of a reply that must be unpacked."""
    if isinstance(answer, bytes):
        return len(answer)
    return sum(map(reply_weight, answer)) if isinstance(answer, list) else 0


def advance(plan: Plan[R], answer: object) -> tuple[bool, Any]:
    """Step a plan: whether it is done, and its reply, or else the step that it wants taken."""
    try:
        return False, plan.send(answer)
    except StopIteration as stop:
        return True, stop.value


def plan(request: Request[R], namespace: str, timely: Timely) -> Plan[R]:
    """Give the plan of a request."""
    return cast("Plan[R]", _PLANS[type(request)](namespace, request, timely))


# --- Reading ------------------------------------------------------------------------------------


def _owner_keys(namespace: str, tag: str) -> tuple[str, ...]:
    return tuple(layout.key(namespace, kind, tag) for kind in "iolq")


def _resolve(namespace: str, request: Resolve, timely: Timely) -> Plan[Resolved]:
    if request.scan_id is None:
        return (yield from _resolve_name(namespace, request))
    scan_id, tag = request.scan_id, request.tag
    record_key = layout.key(namespace, "r", scan_id)
    if timely(tag) and "data" not in request.parts:
        raw, now = yield Get(record_key)
        seen = _seen(scan_id, raw, now, request.parts) if now else Sighting(scan_id)
        if seen.head is not None:
            return Resolved(max(now, seen.head.stamp), seen)
    now, index, found = yield Run(
        READ,
        (
            layout.key(namespace, "i", tag), record_key,
            layout.key(namespace, "d", scan_id),
        ),
        (
            "scan", int("data" in request.parts), _family(namespace, tag),
            layout.short(scan_id), request.data_from,
        ),
    )  # fmt: skip
    return Resolved(now, _sighting(tag, found, now, request.parts, request.data_from), bool(index))


def _resolve_name(namespace: str, request: Resolve) -> Plan[Resolved]:
    now, via, found = yield Run(
        READ,
        _owner_keys(namespace, request.tag),
        ("name", int("data" in request.parts), _family(namespace, request.tag), request.name),
    )
    seen = None if found is None else _sighting(request.tag, found, now, request.parts)
    return Resolved(now, seen, via=via.decode())


def _select_owned(namespace: str, request: SelectOwned, timely: Timely) -> Plan[Selected]:
    del timely
    now, more, found = yield Run(
        READ,
        _owner_keys(namespace, request.tag),
        (
            "live" if request.live else "list", int("data" in request.parts),
            _family(namespace, request.tag), request.limit, request.before,
        ),
    )  # fmt: skip
    seen = tuple(_sighting(request.tag, item, now, request.parts) for item in found)
    return Selected(now, seen, more.decode() or None)


def _family(namespace: str, tag: str) -> str:
    """Give what the keys of an owner's scans are made of."""
    return f"{{{namespace}:{layout.shard_of(tag)}}}{tag}-"


def _seen(scan_id: str, raw: bytes | None, now: int, parts: frozenset[Part]) -> Sighting:
    record = layout.read_record(
        raw, now, f"scan {scan_id}", spec="spec" in parts, events="events" in parts
    )
    return Sighting(scan_id, record.head, None, record.spec, record.events)


def _sighting(
    tag: str, found: Sequence[Any], now: int, parts: frozenset[Part], data_from: int = 0
) -> Sighting:
    suffix, raw, entry, header, first, groups = found
    scan_id = layout.long(tag, suffix)
    what = f"scan {scan_id}"
    seen = _seen(scan_id, raw, now, parts)
    wanted = data_from if seen.head is not None else 0
    data = layout.read_data(header, groups, first, wanted, now, what)
    read = layout.read_entry(entry, now, what)
    return Sighting(scan_id, seen.head, read, seen.spec, seen.events, data)


def _select_due(namespace: str, request: SelectDue, timely: Timely) -> Plan[Selected]:
    del timely
    due_from, _, past = request.beyond.partition("/")
    now = yield Moment(layout.due_key(namespace, SHARDS[0]))
    window = ("WITHSCORES", "LIMIT", 0, request.limit + bool(past))
    replies = yield Spread(
        tuple(
            ("ZRANGEBYSCORE", layout.due_key(namespace, shard), due_from or "-inf", "+inf", *window)
            for shard in SHARDS
        )
    )
    rows = sorted(
        (due, id_of_member(member)) for reply in replies for due, member in _scored(reply)
    )
    if past:
        rows = [row for row in rows if (row[0], f"{row[1]}!") > (int(due_from), past)]
    page = rows[: request.limit]
    ready = [scan_id for due, scan_id in page if due <= now]
    raws = yield Spread(tuple(command for scan in ready for command in _of_due(namespace, scan)))
    spec = frozenset[Part](("spec",))
    entries, raws = raws[1::2], raws[::2]
    seen = [
        replace(_seen(scan, raw, now, spec), entry=layout.read_entry(entry, now, f"scan {scan}"))
        for scan, raw, entry in zip(ready, raws, entries, strict=True)
    ]
    lost = [item.scan_id for item, raw in zip(seen, raws, strict=True) if raw is None]
    for shard in sorted({layout.shard_of(scan_id) for scan_id in lost}):
        yield _forget_due(namespace, shard, [scan for scan in lost if scan.startswith(shard)])
    whole = len(page) == request.limit and len(ready) == len(page)
    more = f"{page[-1][0]}/{page[-1][1]}!" if whole else None
    return Selected(now, tuple(item for item in seen if item.head is not None), more)


def _of_due(namespace: str, scan_id: str) -> tuple[tuple[Argument, ...], ...]:
    index = layout.key(namespace, "i", scan_id.partition("-")[0])
    return (
        ("GET", layout.key(namespace, "r", scan_id)),
        ("HGET", index, layout.short(scan_id)),
    )


def _scored(reply: Sequence[Any]) -> list[tuple[int, bytes]]:
    """Read members with scores, whichever way the client parsed them."""
    if reply and isinstance(reply[0], (list, tuple)):
        return [(int(score), member) for member, score in reply]
    return [(int(float(reply[n + 1])), reply[n]) for n in range(0, len(reply), 2)]


def due_member(scan_id: str) -> bytes:
    """Give the member that stands for a scan in its shard's due set."""
    return scan_id.partition("-")[0].encode() + b"-" + layout.short(scan_id)


def id_of_member(member: bytes) -> str:
    """Give the scan that a member of a due set stands for."""
    tag, _, suffix = member.partition(b"-")
    return layout.long(tag.decode(), suffix)


def _forget_due(namespace: str, shard: str, scans: Sequence[str]) -> Run:
    keys = (layout.due_key(namespace, shard), *(layout.key(namespace, "r", scan) for scan in scans))
    return Run(SWEEP, keys, tuple(due_member(scan) for scan in scans), writes=True)


def _purge(namespace: str, request: Purge, timely: Timely) -> Plan[Purged]:
    """Drop the leftovers that no key's own TTL takes along. O(owners), by SCAN."""
    del timely
    now = yield Moment(layout.due_key(namespace, SHARDS[0]))
    window = ("-inf", "+inf", "LIMIT", 0, request.limit)
    dues = yield Spread(
        tuple(("ZRANGEBYSCORE", layout.due_key(namespace, shard), *window) for shard in SHARDS)
    )
    for shard, members in zip(SHARDS, dues, strict=True):
        if members:
            yield _forget_due(namespace, shard, [id_of_member(member) for member in members])
    scans = dropped = 0
    for index in sorted((yield Keys(layout.index_pattern(namespace)))):
        tag = index.rpartition(":")[2]
        gone, all_gone = yield Run(SWEEP, _owner_keys(namespace, tag), (), writes=True)
        scans += gone
        dropped += all_gone
        if dropped >= request.limit:
            return Purged(now, scans, more=True)
    return Purged(now, scans, more=False)


# --- Writing ------------------------------------------------------------------------------------


class _Draft:
    """An `Apply` on its way to be arguments: the keys that it may touch, each with its kind."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.places: dict[str, int] = {}
        self.kinds: list[str] = []
        self.arguments: list[Argument] = []

    def key(self, kind: str, name: str) -> int:
        """Give the place of a key in KEYS."""
        due = kind == "u"
        full = (
            layout.due_key(self.namespace, layout.shard_of(name))
            if due
            else layout.key(self.namespace, kind, name)
        )
        if full not in self.places:
            self.places[full] = len(self.places) + 1
            self.kinds.append(kind)
        return self.places[full]

    def log(self, scan_id: str, part: Part) -> int:
        return self.key("d" if part == "data" else "r", scan_id)

    def add(self, item: Guard | Change) -> None:
        match item:
            case HeadIs():
                version = "" if item.version is None else layout.head_bytes(item.version, b"")
                self.arguments += "head", self.key("r", item.scan_id), version
            case Free():
                others = [layout.short(scan_id) for scan_id in item.others]
                self.arguments += "free", self.key("q", item.tag), self.key("l", item.tag)
                self.arguments += item.name, len(others), *others
            case Room():
                self.arguments += "room", self.key("l", item.tag), item.limit
            case LengthIs():
                place = self.log(item.scan_id, item.part)
                self.arguments += "length", place, item.part, item.length
            case PutHead():
                head = layout.head_bytes(item.version, item.body)
                self.arguments += "put", self.key("r", item.scan_id), self.key("u", item.scan_id)
                self.arguments += due_member(item.scan_id), head, item.life, item.keep
                self.arguments.append("" if item.due is None else item.due)
            case Append():
                group = layout.pack_group(item.frames)
                place = self.log(item.scan_id, item.part)
                self.arguments += "append", place, item.part, len(item.frames), group
                self.arguments += item.keep, int(item.fresh)
            case Point():
                self.arguments += "point", self.key("q", item.tag), item.name
                self.arguments += layout.short(item.scan_id), item.life, item.keep, item.mode
            case Enter():
                keys = (self.key(kind, item.tag) for kind in "iol")
                tail = layout.entry_tail(item.name, item.body)
                self.arguments += "enter", *keys, layout.short(item.scan_id), tail
                self.arguments += item.life, item.keep, item.order, item.most
            case Erase():
                self.arguments += "erase", self.key("r", item.scan_id), self.key("d", item.scan_id)
                self.arguments += self.key("u", item.scan_id), due_member(item.scan_id)
                self.arguments += (self.key(kind, item.tag) for kind in "iolq")
                self.arguments += layout.short(item.scan_id), len(item.names), *item.names


def apply_step(namespace: str, request: Apply) -> Run:
    """Give the one step that an `Apply` takes."""
    draft = _Draft(namespace)
    draft.arguments.append(len(request.guards))
    for guard in request.guards:
        draft.add(guard)
    draft.arguments.append(len(request.changes))
    for change in request.changes:
        draft.add(change)
    arguments = ("".join(draft.kinds), *draft.arguments)
    return Run(APPLY, tuple(draft.places), arguments, writes=True)


def _apply(namespace: str, request: Apply, timely: Timely) -> Plan[Applied | Refused]:
    del timely
    failed, now, pointer = yield apply_step(namespace, request)
    if not failed:
        return Applied(now)
    guard = request.guards[failed - 1]
    met = layout.long(guard.tag, pointer) if isinstance(guard, Free) else ""
    return Refused(now, guard, met)


_PLANS: Final[dict[type, Callable[..., Plan[Any]]]] = {
    Resolve: _resolve,
    Apply: _apply,
    SelectOwned: _select_owned,
    SelectDue: _select_due,
    Purge: _purge,
}
