"""What one store's reply tells of a scan: it is there, or why it is not. Pure.

Laws
- The owner is checked in the record, on every read (incident I11).
- A scan of which a part is missing is lost, never shown without it.
- What lies in the results alone is rebuilt from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from msgspec import Struct
from msgspec.structs import replace

from oppscan import codec, ttl
from oppscan.errors import CorruptRecord, OppscanError
from oppscan.inputs import owner_tag
from oppscan.lifecycle import Scan
from oppscan.model import ScanStatus
from oppscan.ops import LATEST, Resolve, Sighting
from oppscan.recent import Decoded, Recent
from oppscan.record import Frames, Head, OutcomeEvent, Part, Spec, Stamped
from oppscan.views import fold, status_of


class Query(Struct, frozen=True):
    """What is looked for: a scan by id, or an owner's newest under a pointer's name."""

    scan_id: str | None
    owner: str | None
    parts: frozenset[Part] = frozenset({"spec", "events"})
    name: str = LATEST
    data_from: int = 0

    def request(self) -> Resolve:
        """Ask a store for it."""
        tag = (
            owner_tag(self.owner or "") if self.scan_id is None else self.scan_id.partition("-")[0]
        )
        return Resolve(self.scan_id, tag, self.name, self.parts, self.data_from)


class Found(Struct, frozen=True):
    """A scan that was read whole, as far as it was asked for; ``store`` is where it lives."""

    scan: Scan
    spec: Spec
    events: tuple[OutcomeEvent | None, ...] | None
    data: Frames | None
    store: int = 0
    decoded: Decoded | None = None

    @property
    def status(self) -> ScanStatus:
        """The scan as users see it."""
        if self.decoded is not None:
            return self.decoded.status(self.spec, self.scan.now)
        return status_of(self.scan.scan_id, self.scan.head, self.scan.now, self.spec, self.events)


class Gone(Struct, frozen=True):
    """Why there is no scan to give: it is expired, lost, corrupt, unknown or unreachable."""

    saw: str
    status: ScanStatus | None = None
    error: OppscanError | None = None
    detail: str = ""


def _read(seen: Sighting, head: Head, version: str, now: int, query: Query) -> Found | Gone:
    """Read a scan whose head is known; lost, when a part of it is not there."""
    scan = Scan(seen.scan_id, version, head, now)
    if not _owned(head, query) or now >= ttl.forgotten_at(head):
        return Gone("unknown")
    if now >= ttl.expires_at(head):
        return Gone("expired", status_of(seen.scan_id, head, now))
    spec = codec.decode_spec(seen.spec, seen.scan_id)
    if spec is None and "spec" in query.parts:
        return Gone("lost", status_of(seen.scan_id, head, now), detail="its description is gone")
    if spec is not None and len(spec.strategies) != head.total:
        msg = f"scan {seen.scan_id} has {head.total} strategies, and names {len(spec.strategies)}"
        raise CorruptRecord(msg, scan_id=seen.scan_id)
    events = None
    if "events" in query.parts:
        if _reach(seen.events) < head.events:
            return Gone("lost", status_of(seen.scan_id, head, now), detail="its outcomes are gone")
        folded = fold(codec.decode_events(seen.events, seen.scan_id), head.total)
        events = tuple(folded)
    return Found(scan, spec or Spec({}, {}, ()), events, seen.data)


def _reach(frames: Frames | None) -> int:
    return 0 if frames is None else frames.reach


def _owned(head: Head, query: Query) -> bool:
    return query.owner is None or head.owner == query.owner


def _from_record(seen: Sighting, now: int, query: Query, recent: Recent) -> Found | Gone:
    if seen.head is None:
        return Gone("unknown")
    version, events = seen.head.version, "events" in query.parts
    known = recent.find(seen, events=events)
    if known is not None and now < known.expires_at and _owned(known.head, query):
        spec = cast("Spec", codec.decode_spec(seen.spec, seen.scan_id))  # or it was not the same
        scan = Scan(seen.scan_id, version, known.head, now)
        return Found(scan, spec, known.events, seen.data, decoded=known)
    head = codec.read_head(seen.head.body, seen.head.stamp, seen.scan_id)
    found = _read(seen, head, version, now, query)
    if isinstance(found, Found) and "spec" in query.parts:
        recent.keep(seen, head, found.spec, found.events)
    return found


def _from_result(seen: Sighting, now: int, query: Query, recent: Recent) -> Found | Gone:
    """Rebuild a finished record from the envelope at the end of its results."""
    del recent
    envelope = codec.decode_envelope(seen.data, seen.scan_id)
    if envelope is None or seen.data is None:
        return Gone("unknown")
    stamp = seen.data.items[-1].stamp
    head = codec.read_head(envelope.head, stamp, seen.scan_id)
    for newer in (codec.decode_head(seen.head, seen.scan_id), _entry_head(seen)):
        if newer is not None and newer.revision == head.revision:
            head = newer  # it saw an extension that the envelope did not
            break
    frames = tuple(Stamped(stamp, body) for body in envelope.events)
    rebuilt = replace(
        seen,
        spec=Frames(1, 0, (Stamped(stamp, envelope.spec),)),
        events=Frames(len(frames), 0, frames),
    )
    head = replace(head, events=len(frames))  # folded: the last event of each strategy
    return _read(rebuilt, head, "", now, query)


def _entry_head(seen: Sighting) -> Head | None:
    entry = seen.entry
    return None if entry is None else codec.read_head(entry.body, entry.stamp, seen.scan_id)


def _from_index(seen: Sighting, now: int, query: Query, recent: Recent) -> Found | Gone:
    """Tell lost and expired from unknown, by the owner's index or by what is left of the scan."""
    del recent
    head = _entry_head(seen)
    if head is None:
        torn = seen.head is None and (seen.spec or seen.events or seen.data)
        return Gone("lost", detail="only parts of it are left") if torn else Gone("unknown")
    if not _owned(head, query) or now >= ttl.forgotten_at(head):
        return Gone("unknown")
    status = status_of(seen.scan_id, head, now)
    if now >= ttl.expires_at(head):
        return Gone("expired", status)
    return Gone("lost", status, detail="the index still lists it, its record is gone")


READERS: Final[dict[str, Callable[[Sighting, int, Query, Recent], Found | Gone]]] = {
    "record": _from_record,
    "result": _from_result,
    "owner_index": _from_index,
}
