"""What a registry asks of a store, as data.

Four requests: `Resolve` (read one scan), `Apply` (change one scan if these guards hold),
`Select` (list), `Purge` (drop what nobody may read any more). A backend interprets them; it
knows nothing of states, claims or progress, so a new state or field changes no backend.

Laws
- A request runs as one atomic step at one instant of the store's clock, told in the reply.
- All guards of an `Apply` are checked before the first change; a change that follows them
  cannot fail. Every change names how long what it writes must be kept.
- Bytes are opaque. The store keeps, beside each head and frame, the instant it took it.
- Durations are milliseconds from the instant of the step.
"""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from attrs import frozen

from oppscan.record import Frames, Part, Stamped

R = TypeVar("R")

LATEST = ""
"""The name of the pointer to an owner's newest scan, whatever its key."""


@frozen
class Request(Generic[R]):
    """Something asked of a store; ``R`` is the type of the reply."""


# --- Replies ------------------------------------------------------------------------------------


@frozen
class StoredHead:
    """A scan's head: the id of the write that put it, and its bytes."""

    version: str
    stamp: int
    body: bytes


@frozen
class IndexEntry:
    """An owner's index entry for one scan; ``body`` is a copy of the head, as of ``stamp``."""

    order: int
    live: bool
    name: str
    stamp: int
    body: bytes


@frozen
class Sighting:
    """All that a store holds of one scan. None: not there (or not asked for)."""

    scan_id: str
    head: StoredHead | None = None
    entry: IndexEntry | None = None
    spec: Frames | None = None
    events: Frames | None = None
    data: Frames | None = None


@frozen
class Resolved:
    """What a `Resolve` saw at ``now``; ``index`` tells whether the owner has an index at all.

    ``via`` says how a scan asked for by owner was found: ``latest`` (the pointer) or
    ``owner_index``; ``sighting`` is None where neither knows one.
    """

    now: int
    sighting: Sighting | None
    index: bool = True
    via: str = "record"


@frozen
class Applied:
    """The guards held, and every change is in the store."""

    now: int


@frozen
class Refused:
    """A guard did not hold, and nothing was changed.

    ``guard`` is the first that failed; ``pointer`` the live scan that a `Free` met.
    """

    now: int
    guard: Guard
    pointer: str | None = None


@frozen
class Selected:
    """A listing; ``more`` is the place to go on from, or None at the end."""

    now: int
    sightings: tuple[Sighting, ...]
    more: str | None = None


@frozen
class Purged:
    """``scans`` went for good; ``more``: the limit was reached, there may be others."""

    now: int
    scans: int
    more: bool


# --- Requests -----------------------------------------------------------------------------------


@frozen
class Resolve(Request[Resolved]):
    """Read one scan, its index entry included.

    Asked by ``scan_id``; or, where that is None, by the pointer ``name`` of owner ``tag``, and
    where the pointer is gone or leads nowhere, by the newest of the owner's index entries with
    that name. ``parts`` says which logs to read; ``data`` from frame ``data_from`` on. When the
    head is not there, all parts are read from their start; when another part that was asked for
    is not there, the data too: so the scan can be rebuilt, or named as lost.
    """

    scan_id: str | None
    tag: str
    name: str = LATEST
    parts: frozenset[Part] = frozenset()
    data_from: int = 0


@frozen
class Apply(Request["Applied | Refused"]):
    """Make ``changes``, in order, if all ``guards`` hold."""

    guards: tuple[Guard, ...]
    changes: tuple[Change, ...]


@frozen
class SelectOwned(Request[Selected]):
    """List an owner's scans from the index, newest first, with heads and ``parts``.

    ``before``: where the page before this ended (its ``more``). ``live``: all that are marked
    live at this instant, in any order, whatever the limit.
    """

    tag: str
    limit: int
    before: str = ""
    live: bool = False
    parts: frozenset[Part] = frozenset()


@frozen
class SelectDue(Request[Selected]):
    """List the scans of all owners whose due time has come, longest due first, with their specs.

    O(limit), not O(scans). Where ``more`` is given back, it goes into ``beyond``.
    """

    limit: int
    beyond: str = ""


@frozen
class Purge(Request[Purged]):
    """Drop up to ``limit`` things that are kept no longer."""

    limit: int = 1000


# --- Guards -------------------------------------------------------------------------------------


@frozen
class HeadIs:
    """The scan's head was put by write ``version`` and has not expired; None: it has no head."""

    scan_id: str
    version: str | None


@frozen
class Free:
    """No live scan but ``others`` stands under pointer ``name`` of owner ``tag``.

    Where the pointer is gone the owner's index is asked, so that the loss of one does not let
    two in. ``others`` are scans which the caller has seen and may pass over.
    """

    tag: str
    name: str
    others: tuple[str, ...] = ()


@frozen
class Room:
    """Owner ``tag`` has fewer than ``limit`` live scans."""

    tag: str
    limit: int


@frozen
class LengthIs:
    """Log ``part`` of the scan has exactly ``length`` frames (0: it may be absent)."""

    scan_id: str
    part: Part
    length: int


Guard = HeadIs | Free | Room | LengthIs

# --- Changes ------------------------------------------------------------------------------------


@frozen
class PutHead:
    """Replace the head; it expires in ``life`` and is a tombstone until ``keep``.

    ``due``: the instant from which the scan is due, absolute or `oppscan.record.after` (None:
    never). It replaces the due time before.
    """

    scan_id: str
    version: str
    body: bytes
    life: int
    keep: int
    due: int | None


@frozen
class Append:
    """Append ``frames`` to a log, and keep the whole log for ``keep``.

    ``fresh`` drops the frames that were there. No frames: only keep what is there.
    """

    scan_id: str
    part: Part
    frames: tuple[bytes, ...]
    keep: int
    fresh: bool = False


@frozen
class Point:
    """Let pointer ``name`` of owner ``tag`` lead to the scan, marked live for ``life`` (0: not).

    ``mode``: ``take`` it whatever it led to; ``heal`` it where it leads to this scan or is gone;
    ``renew`` it only where it leads to this scan. Kept for at least ``keep``, never shorter
    than before.
    """

    tag: str
    name: str
    scan_id: str
    life: int
    keep: int
    mode: Literal["take", "heal", "renew"]


@frozen
class Enter:
    """Put the scan into its owner's index, or refresh its entry, with a copy of the head.

    It is marked live for ``life`` (0: not live). A new entry stands at ``order``: at that
    instant (the next free one where it is taken), or, relative, after all others of the owner.
    Then, while the owner has more than ``most`` entries, the oldest that is not live goes.
    """

    tag: str
    scan_id: str
    name: str
    life: int
    body: bytes
    keep: int
    order: int
    most: int


@frozen
class Erase:
    """Forget the scan: head, logs, entry, due time, and the pointers ``names`` that lead to it."""

    scan_id: str
    tag: str
    names: tuple[str, ...]


Change = PutHead | Append | Point | Enter | Erase

__all__ = [
    "LATEST",
    "Append",
    "Applied",
    "Apply",
    "Change",
    "Enter",
    "Erase",
    "Frames",
    "Free",
    "Guard",
    "HeadIs",
    "IndexEntry",
    "LengthIs",
    "Point",
    "Purge",
    "Purged",
    "PutHead",
    "Refused",
    "Request",
    "Resolve",
    "Resolved",
    "Room",
    "SelectDue",
    "SelectOwned",
    "Selected",
    "Sighting",
    "Stamped",
    "StoredHead",
]
