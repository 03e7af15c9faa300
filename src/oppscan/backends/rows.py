"""How scans lie in an ordered store of rows, and how they are read from it.

Rows, by key (all parts are hashed, hexadecimal or numbers, so no name can reach another's key):

====================================  ===============================================  =========
key                                   value                                            kept until
====================================  ===============================================  =========
``ns/h/scan``                         version, stamp, expires, due (-1: never), body,  its own
                                      frames of events, frames of data
``ns/p/scan/part``                    number of frames                                 its own
``ns/f/scan/part/number``             stamp, body                                      with ``p``
``ns/i/tag/scan``                     order, live until, name, stamp, body             its own
``ns/o/tag/order``                    scan                                             with ``i``
``ns/l/tag/scan``                     name, live until                                 with ``i``
``ns/q/tag/name``                     scan, live until                                 its own
``ns/d/due/scan``                     (nothing)                                        with ``h``
====================================  ===============================================  =========

A row kept until t is gone at t, whether or not it was dropped yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol, cast

from oppscan.ops import IndexEntry, Sighting, StoredHead
from oppscan.record import PARTS, Frames, Part, Stamped

Value = tuple[int | str | bytes, ...]

_STEP: Final = 64

FOREVER: Final = 2**53
"""The keeping time of rows that are dropped together with another row."""


class Row(NamedTuple):
    """What is stored under a key."""

    value: Value
    until: int


class Transaction(Protocol):
    """An isolated view of an ordered store of rows, at one instant."""

    @property
    def now(self) -> int:
        """The store's clock in milliseconds; the same throughout."""
        ...

    def get(self, key: str) -> Row | None:
        """Give the row under ``key``, or None."""
        ...

    def put(self, key: str, value: Value, until: int) -> None:
        """Put a row, replacing the one before."""
        ...

    def delete(self, key: str) -> None:
        """Drop the row under ``key``, if there is one."""
        ...

    def scan(
        self, prefix: str, start: str = "", *, reverse: bool = False, limit: int | None = None
    ) -> list[tuple[str, Row]]:
        """Give the rows whose keys are ``prefix`` + s, in the order of s, up to ``limit``.

        Forward: from s >= ``start``. Reverse: from the highest s, where ``start`` is given only
        s < ``start``. ``prefix`` ends in a slash, and s holds none in all but ``ns/f``, ``ns/d``.
        """
        ...

    def overdue(self, prefix: str, limit: int) -> list[str]:
        """Give up to ``limit`` keys with this prefix that are kept no longer (until <= now)."""
        ...


class Space:
    """One request's view of a store: the keys of its namespace, and the rows still kept."""

    __slots__ = ("namespace", "now", "tx")

    def __init__(self, tx: Transaction, namespace: str) -> None:
        self.tx: Transaction = tx
        self.now: int = tx.now
        self.namespace: str = namespace

    def key(self, kind: str, *parts: str) -> str:
        """Build a key of this namespace."""
        return "/".join((self.namespace, kind, *parts))

    def get(self, key: str) -> Value | None:
        """Give the value under a key, where it is still kept."""
        row = self.tx.get(key)
        return row.value if row is not None and row.until > self.now else None

    def length(self, scan_id: str, part: Part) -> int | None:
        """Count the frames of a log; None where it is gone."""
        value = self.get(self.key("p", scan_id, part))
        return None if value is None else cast("int", value[0])

    def entries(self, tag: str, before: int | None = None) -> Iterator[tuple[str, IndexEntry]]:
        """Walk an owner's index, newest first, in steps."""
        start = "" if before is None else order_text(before)
        prefix = self.key("o", tag, "")
        while rows := self.tx.scan(prefix, start, reverse=True, limit=_STEP):
            for _, row in rows:
                scan_id = cast("str", row.value[0])
                entry = self.entry(tag, scan_id)
                if entry is not None:
                    yield scan_id, entry
            if len(rows) < _STEP:
                return
            start = rows[-1][0][len(prefix) :]

    def live(self, tag: str) -> list[tuple[str, str]]:
        """Give scan and name of an owner's entries that are marked live, in no useful order."""
        prefix = self.key("l", tag, "")
        rows = self.tx.scan(prefix)
        return [
            (key.removeprefix(prefix), cast("str", row.value[0]))
            for key, row in rows
            if cast("int", row.value[1]) > self.now
        ]

    def entry(self, tag: str, scan_id: str) -> IndexEntry | None:
        """Give a scan's entry in its owner's index."""
        value = self.get(self.key("i", tag, scan_id))
        if value is None:
            return None
        order, live_until, name, stamp, body = cast("tuple[int, int, str, int, bytes]", value)
        return IndexEntry(order, live_until > self.now, name, stamp, body)

    def sighting(self, tag: str, scan_id: str, parts: frozenset[Part], start: int = 0) -> Sighting:
        """Give all that is held of a scan: ``parts``, or everything where its head is gone."""
        value = self.get(self.key("h", scan_id))
        head = None
        if value is None:
            parts, start = frozenset(PARTS), 0
        else:
            head = StoredHead(cast("str", value[0]), cast("int", value[1]), cast("bytes", value[4]))
        logs: dict[Part, Frames | None] = {
            part: self.frames(scan_id, part) for part in parts if part != "data"
        }
        if "data" in parts or None in logs.values():
            logs["data"] = self.frames(scan_id, "data", start)
        return Sighting(
            scan_id,
            head,
            self.entry(tag, scan_id),
            logs.get("spec"),
            logs.get("events"),
            logs.get("data"),
        )

    def listed(self, seen: Sighting) -> bool:
        """Tell whether a scan is in its owner's index, and among those that will be due."""
        value = self.get(self.key("h", seen.scan_id))
        if value is None or seen.entry is None:
            return False
        due = order_text(cast("int", value[3]))
        return self.tx.get(self.key("d", due, seen.scan_id)) is not None

    def expired(self, scan_id: str) -> bool:
        """Tell whether a scan is gone, or a tombstone."""
        value = self.get(self.key("h", scan_id))
        return value is None or cast("int", value[2]) <= self.now

    def frames(self, scan_id: str, part: Part, start: int = 0) -> Frames | None:
        """Give a log from frame ``start`` on; None where it is gone."""
        length = self.length(scan_id, part)
        if length is None:
            return None
        rows = self.tx.scan(self.key("f", scan_id, part, ""), number_text(start))
        return Frames(length, start, tuple(Stamped(*row.value) for _, row in rows))  # type: ignore[arg-type]

    def whole(self, scan_id: str, *parts: Part) -> bool:
        """Tell whether logs are as long as the scan's head says; the spec is one frame."""
        value = cast("Value", self.get(self.key("h", scan_id)))
        counts = {"spec": 1, "events": value[5], "data": value[6]}
        return all((self.length(scan_id, part) or 0) == counts[part] for part in parts)

    def drop_log(self, scan_id: str, part: str) -> None:
        """Drop a log with its frames."""
        self.tx.delete(self.key("p", scan_id, part))
        for key, _ in self.tx.scan(self.key("f", scan_id, part, "")):
            self.tx.delete(key)

    def drop_head(self, scan_id: str) -> None:
        """Drop a head with its due time."""
        row = self.tx.get(self.key("h", scan_id))
        if row is not None:
            self.tx.delete(self.key("d", order_text(cast("int", row.value[3])), scan_id))
            self.tx.delete(self.key("h", scan_id))

    def drop_entry(self, tag: str, scan_id: str) -> None:
        """Drop an index entry with its place and its mark of being live."""
        row = self.tx.get(self.key("i", tag, scan_id))
        if row is not None:
            self.tx.delete(self.key("o", tag, order_text(cast("int", row.value[0]))))
            self.tx.delete(self.key("l", tag, scan_id))
            self.tx.delete(self.key("i", tag, scan_id))


def order_text(number: int) -> str:
    """Give an instant as a part of a key that sorts like the number."""
    return f"{number:016d}"


def number_text(number: int) -> str:
    """Give a frame number as a part of a key that sorts like the number."""
    return f"{number:08d}"
