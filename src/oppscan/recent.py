"""Records that were decoded lately: the same bytes mean the same, so they are decoded once.

Who follows a scan mostly reads a record that nobody wrote since. Every read still asks the store;
what is kept here is used only for a record that is, byte by byte, the one it was made of.

Laws
- Nothing kept depends on the time of a read, and no dict that a user is given is kept.
- Bounded: at most `ENTRIES` scans, each of at most `BYTES`.
- Any number of threads: each step is one on a dict, and what is lost is only decoded again.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from oppscan import ttl
from oppscan.model import ScanStatus
from oppscan.ops import Sighting
from oppscan.record import Frames, Head, OutcomeEvent, Spec
from oppscan.views import status_of

ENTRIES: Final = 256
BYTES: Final = 8 * 1024

Events = tuple[OutcomeEvent | None, ...]


class Decoded(Struct, frozen=True):
    """A whole record, decoded; all but what depends on the time and on the description."""

    head: Head
    events: Events | None
    expires_at: int
    bare: ScanStatus  # no params, no metadata, never stalled

    def status(self, spec: Spec, now: int) -> ScanStatus:
        """Give the status as of ``now``; the description's dicts become the user's."""
        bare = self.bare
        return ScanStatus(  # by position: each poll makes one
            bare.scan_id,
            bare.owner,
            bare.key,
            bare.state,
            bare.done,
            ttl.stalled(self.head, now),
            bare.cancel_requested,
            bare.attempts,
            bare.revision,
            bare.progress,
            bare.created_at,
            bare.expires_at,
            spec.params,
            spec.metadata,
            bare.outcomes,
            bare.error,
            bare.started_at,
            bare.finished_at,
            bare.heartbeat_at,
            bare.progressed_at,
            bare.eta,
        )


class _Kept(Struct, frozen=True):
    seen: Sighting
    decoded: Decoded


class Recent:
    """What was decoded lately, by one registry."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bool], _Kept] = {}

    def find(self, seen: Sighting, *, events: bool) -> Decoded | None:
        """Give what was decoded of these very bytes; with or without ``events``."""
        kept = self._kept.get((seen.scan_id, events))
        return kept.decoded if kept is not None and _same(kept.seen, seen) else None

    def keep(self, seen: Sighting, head: Head, spec: Spec, events: Events | None) -> None:
        """Keep what was decoded of these bytes, where it is not too large."""
        if seen.head is None or len(seen.head.body) + _size(seen.spec) + _size(seen.events) > BYTES:
            return
        named = Spec({}, {}, spec.strategies)
        bare = status_of(seen.scan_id, head, 0, named, events)
        decoded = Decoded(head, events, ttl.expires_at(head), bare)
        if len(self._kept) >= ENTRIES:
            self._kept.clear()
        stored = Sighting(seen.scan_id, seen.head, None, seen.spec, seen.events)
        self._kept[seen.scan_id, events is not None] = _Kept(stored, decoded)


def _same(kept: Sighting, seen: Sighting) -> bool:
    return kept.head == seen.head and kept.spec == seen.spec and kept.events == seen.events


def _size(frames: Frames | None) -> int:
    return 0 if frames is None else sum(len(item.body) for item in frames.items)
