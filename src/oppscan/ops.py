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

from msgspec import Struct

from oppscan.record import Frames, Part, Stamped

R = TypeVar("R")

LATEST = ""
"""The name of the pointer to an owner's newest scan, whatever its key."""


class Request(Struct, Generic[R], frozen=True):
    """Something asked of a store; ``R`` is the type of the reply."""


# --- Replies ------------------------------------------------------------------------------------


class StoredHead(Struct, frozen=True):
    """A scan's head: the id of the write that put it, and its bytes."""

    version: str
    stamp: int
    body: bytes


class IndexEntry(Struct, frozen=True):
    """An owner's index entry for one scan; ``body`` is a copy of the head, as of ``stamp``."""

    order: int
    live: bool
    name: str
    stamp: int
    body: bytes


class Sighting(Struct, frozen=True):
    """All that a store holds of one scan. None: not there (or not asked for)."""

    scan_id: str
    head: StoredHead | None = None
    entry: IndexEntry | None = None
    spec: Frames | None = None
    events: Frames | None = None
    data: Frames | None = None


class Resolved(Struct, frozen=True):
    """What a `Resolve` saw at ``now``.

    ``index``: whether the owner has an index at all; ``listed``: whether the scan is in it, and
    among those that will be due. A store that did not look says that all is well.
    ``via`` says how a scan asked for by owner was found: ``latest`` (the pointer) or
    ``owner_index``; ``sighting`` is None where neither knows one.
    """

    now: int
    sighting: Sighting | None
    index: bool = True
    listed: bool = True
    via: str = "record"


class Applied(Struct, frozen=True):
    """The guards held, and every change is in the store."""

    now: int


class Refused(Struct, frozen=True):
    """A guard did not hold, and nothing was changed.

    ``guard`` is the first that failed; ``pointer`` the live scan that a `Free` met.
    """

    now: int
    guard: Guard
    pointer: str = ""


class Selected(Struct, frozen=True):
    """A listing; ``more`` is the place to go on from, or None at the end."""

    now: int
    sightings: tuple[Sighting, ...]
    more: str | None = None


class Purged(Struct, frozen=True):
    """``scans`` went for good; ``more``: there may be others, from ``beyond`` on."""

    now: int
    scans: int
    more: bool
    beyond: str = ""


# --- Requests -----------------------------------------------------------------------------------


class Resolve(Request[Resolved], frozen=True):
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


class Apply(Request["Applied | Refused"], frozen=True):
    """Make ``changes``, in order, if all ``guards`` hold."""

    guards: tuple[Guard, ...]
    changes: tuple[Change, ...]


class SelectOwned(Request[Selected], frozen=True):
    """List an owner's scans from the index, newest first, with heads and ``parts``.

    ``before``: where the page before this ended (its ``more``). ``live``: all that are marked
    live at this instant, in any order, whatever the limit.
    """

    tag: str
    limit: int
    before: str = ""
    live: bool = False
    parts: frozenset[Part] = frozenset()


class SelectDue(Request[Selected], frozen=True):
    """List the scans of all owners that are due and have not expired, longest due first.

    They come with all parts but the data. At most ``limit`` are looked at, O(limit); those that
    have expired are due no more from then on. Where ``more`` is given back, it goes into
    ``beyond``.
    """

    limit: int
    beyond: str = ""


class Purge(Request[Purged], frozen=True):
    """Drop up to ``limit`` things that are kept no longer, going on from ``beyond``."""

    limit: int = 1000
    beyond: str = ""


# --- Guards -------------------------------------------------------------------------------------


class HeadIs(Struct, frozen=True):
    """The scan stands as write ``version`` left it, and has not expired; None: it has no head.

    Its logs are as long as that write left them: where one lost anything since, this fails.
    ``torn``: whatever became of spec and events, they are written anew; but there are data, and
    where there is a head, as many as it says.
    """

    scan_id: str
    version: str | None
    torn: bool = False


class Free(Struct, frozen=True):
    """No live scan but ``others`` stands under pointer ``name`` of owner ``tag``.

    Where the pointer is gone the owner's index is asked, so that the loss of one does not let
    two in. ``others`` are scans which the caller has seen and may pass over.
    """

    tag: str
    name: str
    others: tuple[str, ...] = ()


class Room(Struct, frozen=True):
    """Owner ``tag`` has fewer than ``limit`` live scans."""

    tag: str
    limit: int


Guard = HeadIs | Free | Room

# --- Changes ------------------------------------------------------------------------------------


class Save(Struct, frozen=True):
    """Replace a scan's head, and add to its logs.

    The head expires at the latest of the instants ``expires``, absolute or `oppscan.record.after`.
    From then on it is a tombstone, without logs, kept for ``keep``, at least until it expires.
    ``due``: the instant from which the scan is due, absolute or `oppscan.record.after` (None:
    never). It replaces the due time before. ``news``: those who watch the scan want to look.

    ``spec``: the logs spec and events begin anew, with this one and ``events``; None: ``events``
    are appended, to what a `HeadIs` with a version has checked. ``data`` are appended, or, where
    ``fresh``, replace what was there.
    """

    scan_id: str
    version: str
    body: bytes
    keep: int
    due: int | None
    expires: tuple[int, ...]
    spec: bytes | None = None
    events: tuple[bytes, ...] = ()
    data: tuple[bytes, ...] = ()
    fresh: bool = False
    news: bool = False


class Point(Struct, frozen=True):
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


class Enter(Struct, frozen=True):
    """Put the scan into its owner's index, or refresh its entry, with a copy of the head.

    It is marked live for ``life`` (0: not live). A new entry stands at ``order``: at that
    instant (the next free one where it is taken), or, relative, after all others of the owner.
    Then, while the owner has more than ``most`` entries, the oldest that is not live goes, as far
    as the store finds it without walking past all that are live.
    """

    tag: str
    scan_id: str
    name: str
    life: int
    body: bytes
    keep: int
    order: int
    most: int


class Erase(Struct, frozen=True):
    """Forget the scan: head, logs, entry, due time, and the pointers that lead to it.

    Of the pointers, those named ``names``, and the one that has the name of the entry.
    """

    scan_id: str
    tag: str
    names: tuple[str, ...]


Change = Save | Point | Enter | Erase

__all__ = [
    "LATEST",
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
    "Point",
    "Purge",
    "Purged",
    "Refused",
    "Request",
    "Resolve",
    "Resolved",
    "Room",
    "Save",
    "SelectDue",
    "SelectOwned",
    "Selected",
    "Sighting",
    "Stamped",
    "StoredHead",
]
