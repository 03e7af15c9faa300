"""Records that were read lately: the same bytes are taken apart once.

Laws
- What is kept is used for these very bytes only, and while all that was in them is kept.
- Bounded: at most `ENTRIES` records, each of at most `BYTES` as stored and `OPEN` unpacked.
- Any number of threads: each step is one on a dict, and what is lost is only read again.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from oppscan.backends.redis import layout
from oppscan.ops import Sighting
from oppscan.record import Frames, Part

ENTRIES: Final = 256
BYTES: Final = 4 * 1024
OPEN: Final = 8 * 1024


@frozen
class _Kept:
    raw: bytes
    parts: frozenset[Part]
    until: int
    seen: Sighting


class Records:
    """What was read lately by one store."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def read(
        self, key: str, scan_id: str, raw: bytes | None, now: int, parts: frozenset[Part]
    ) -> Sighting:
        """Read the record ``raw`` that lies under ``key`` as of ``now``."""
        kept = self._kept.get(key)
        if kept is not None and kept.raw == raw and now < kept.until and kept.parts == parts:
            return kept.seen
        seen = sighted(scan_id, raw, now, parts)
        if raw is not None and seen.head is not None and len(raw) <= BYTES:
            until = layout.expires_of(raw)
            if now < until and _size(seen.spec) + _size(seen.events) <= OPEN:
                if len(self._kept) >= ENTRIES:
                    self._kept.clear()
                self._kept[key] = _Kept(raw, parts, until, seen)
        return seen


def sighted(scan_id: str, raw: bytes | None, now: int, parts: frozenset[Part]) -> Sighting:
    """Read a record, all but the owner's index entry and the data."""
    record = layout.read_record(
        raw, now, f"scan {scan_id}", spec="spec" in parts, events="events" in parts
    )
    return Sighting(scan_id, record.head, None, record.spec, record.events)


def _size(frames: Frames | None) -> int:
    return 0 if frames is None else sum(len(item.body) for item in frames.items)
