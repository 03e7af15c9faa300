"""What each write touches: a head to be written, as the one `Apply` that writes it.

Laws
- A scan's head, its index entry and the pointers to it change in one atomic step (I1).
- Every write renews all that belongs to the scan and all that leads to it, and heals what of it
  is gone; what leads to a scan is kept longer than the scan (I3).
- A head replaces the one that was seen, or nothing is written (I12).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from oppscan import codec, ttl
from oppscan.inputs import Limits, key_name
from oppscan.lifecycle import Finish, Scan
from oppscan.ops import (
    LATEST,
    Apply,
    Change,
    Enter,
    Free,
    Guard,
    HeadIs,
    Point,
    Room,
    Save,
    Sighting,
)
from oppscan.record import NO_FRAMES, NOW, Chunk, Envelope, Head, OutcomeEvent, Spec


def start(
    scan_id: str,
    head: Head,
    spec: Spec,
    operation: str,
    *,
    others: tuple[str, ...] | None,
    limits: Limits,
) -> Apply:
    """Write a new scan: one atomic step, so that it is found as soon as it exists (I1, I2).

    ``others``: equal scans that were seen and need not be joined; None: the scan stands outside.
    """
    tag, name = scan_id.partition("-")[0], key_name(head.key)
    guards: list[Guard] = [HeadIs(scan_id, None)]
    if others is not None:
        guards.append(Free(tag, name, others))
    if limits.max_live_per_owner is not None:
        guards.append(Room(tag, limits.max_live_per_owner))
    life = head.durations.pending
    keep = _lookup_keep(head, life)
    body = codec.encode(head)
    return Apply(
        tuple(guards),
        (
            Save(
                scan_id, operation, body, life + head.durations.margin, head.due_at,
                ttl.expiry_of(head), codec.encode(spec), fresh=True,
            ),
            Point(tag, LATEST, scan_id, life, keep, "take"),
            Point(tag, name, scan_id, life, keep, "take"),
            Enter(
                tag, scan_id, name, life, body, life + head.durations.margin, NOW,
                limits.max_remembered,
            ),
        ),
    )  # fmt: skip


class Additions(Struct, frozen=True):
    """What a write adds to the logs. ``fresh``: the data replaces what was there.

    ``spec``: given where the spec and the events do, which must all have been there.
    """

    events: tuple[bytes, ...] = ()
    data: tuple[bytes, ...] = ()
    fresh: bool = False
    spec: bytes | None = None

    def few_after(self, before: tuple[bytes, ...] | None) -> tuple[bytes, ...] | None:
        """Give all data frames that are stored after this write; None: unknown, or not small."""
        if self.fresh:
            before = ()
        frames = None if before is None else (*before, *self.data)
        return frames if frames is not None and sum(map(len, frames)) <= SMALL else None


NOTHING: Final = Additions()

SMALL: Final = 8 * 1024
"""Bytes of data that a finishing write carries again, as one group: a store that packs groups then
needs half the room. What is larger packs well enough as it came."""


def anew(stored: tuple[bytes, ...], added: Additions) -> Additions:
    """Write all data of a scan again with the last of them, where they are small together."""
    data = added.few_after(stored)
    return added if data is None else replace(added, data=data, fresh=True)


def write(scan: Scan, head: Head, operation: str, most: int, added: Additions = NOTHING) -> Apply:
    """Replace the head of a scan, unless it changed since it was seen.

    Renews all that belongs to the scan and all that leads to it, and heals what of it is gone.
    """
    scan_id, tag, name = scan.scan_id, scan.tag, key_name(head.key)
    life = ttl.life_left(head, scan.now)
    margin = head.durations.margin
    live_for = life if head.live else 0
    keep = _lookup_keep(head, life)
    body = codec.encode(head)
    heal = head.live and not head.cancel_requested
    return Apply(
        (HeadIs(scan_id, scan.version),),
        (
            Save(
                scan_id,
                operation,
                body,
                life + margin,
                head.due_at if head.live else None,
                ttl.expiry_of(head),
                added.spec,
                added.events,
                added.data,
                added.fresh,
                news=head.revision != scan.head.revision,
            ),
            Point(tag, LATEST, scan_id, live_for, keep, "renew"),
            Point(tag, name, scan_id, live_for, keep, "heal" if heal else "renew"),
            _enter(scan, head, life, most, body),
        ),
    )


def write_finish(
    scan: Scan,
    finish: Finish,
    spec: Spec,
    operation: str,
    most: int,
    *,
    summary: bytes | None = None,
    added: Additions = NOTHING,
) -> tuple[Apply, Head]:
    """Write a terminal head, after ``added``, with the envelope that can rebuild its record.

    Of the events only the outcomes stay: they tell all that the others told. The description is
    written again with them, so that all of the record lies as tight as it can.
    """
    data = list(added.data)
    if summary is not None:
        data.append(codec.encode(Chunk("s", -1, summary)))
    before = 0 if added.fresh else scan.head.data
    outcomes = tuple(codec.encode(event) for event in finish.outcomes if event is not None)
    head = replace(finish.head, data=before + len(data) + 1, events=len(outcomes))
    description = codec.encode(spec)
    envelope = Envelope(codec.encode(head), description, outcomes)
    data.append(codec.encode(Chunk("e", -1, codec.encode(envelope))))
    logs = Additions(outcomes, tuple(data), added.fresh, description)
    return write(scan, head, operation, most, logs), head


def _enter(scan: Scan, head: Head, life: int, most: int, body: bytes) -> Enter:
    """Give the index entry of a scan."""
    return Enter(
        scan.tag,
        scan.scan_id,
        key_name(head.key),
        life if head.live else 0,
        body,
        life + head.durations.margin,
        head.created_at,
        most,
    )


def _lookup_keep(head: Head, life: int) -> int:
    """Give how long what leads to a scan is kept, from now: it dies last (I3)."""
    rules = head.durations
    return max(life, rules.pending, rules.running, rules.result) + rules.margin


# --- Healing: best effort, guarded, never for what is live and lost ------------------------------


def relist(scan: Scan, most: int) -> Apply:
    """Put a scan, as it is, back where others find it: index, pointers, due time."""
    return write(scan, scan.head, scan.version, most)


def rebuild(
    scan: Scan,
    version: str | None,
    spec: Spec,
    outcomes: Sequence[OutcomeEvent | None],
    most: int,
) -> Apply:
    """Put back the record of a finished scan, from the envelope of its results.

    ``version``: of the head that is there, where only another part is gone.
    """
    events = tuple(codec.encode(event) for event in outcomes if event is not None)
    logs = Additions(events, spec=codec.encode(spec))
    return Apply((HeadIs(scan.scan_id, version, torn=True),), _whole(scan, logs, most))


def copy(scan: Scan, seen: Sighting, most: int) -> Apply:
    """Copy a finished scan from another store, for as long as it still has to live."""
    events = tuple(codec.encode(event) for event in codec.decode_events(seen.events, scan.scan_id))
    spec = seen.spec.items[0].body if seen.spec else b""
    data = tuple(
        codec.settle_envelope(item, scan.scan_id) for item in (seen.data or NO_FRAMES).items
    )
    logs = Additions(events, data, fresh=True, spec=spec)
    return Apply((HeadIs(scan.scan_id, None),), _whole(scan, logs, most))


def _whole(scan: Scan, logs: Additions, most: int) -> tuple[Change, ...]:
    head = scan.head
    life = ttl.life_left(head, scan.now)
    body = codec.encode(head)
    return (
        Save(
            scan.scan_id,
            scan.version or "rebuilt",
            body,
            life + head.durations.margin,
            None,
            ttl.expiry_of(head),
            logs.spec,
            logs.events,
            logs.data,
            logs.fresh,
        ),
        _enter(scan, head, life, most, body),
    )
