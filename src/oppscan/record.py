"""What is stored of a scan, as values: a small head, and three logs of frames.

- ``head``    rewritten by every write: state, counts, claim, times. Small, whatever the scan.
- ``spec``    written once: params, metadata, names of the strategies.
- ``events``  appended: what was started, and each outcome.
- ``data``    appended: the opportunities of each strategy, the summary; last, the envelope.

Laws
- Times are store milliseconds. Only the store knows the time of a write, so a writer who means
  "the instant of this very write, plus d" says ``after(d)``; readers `settle` it with the stamp
  that the store kept beside the bytes. Nothing here ever reads a clock.
- A later version adds its fields by name to ``Head.extra``, where older writers carry them along
  unread. A higher ``version`` number, or a new state, means that older readers must refuse.
- Durations are written into the head when the scan starts; every later writer uses those.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from oppscan.model import OutcomeState, ScanState

VERSION: Final = 1

Part = Literal["spec", "events", "data"]
PARTS: Final[tuple[Part, ...]] = ("spec", "events", "data")

OUTCOME_STATES: Final = tuple(OutcomeState)
OUTCOME_CODE: Final = {state: code for code, state in enumerate(OUTCOME_STATES)}


def after(milliseconds: int) -> int:
    """Mean the instant of the write that carries this, plus ``milliseconds`` (>= 0)."""
    return -1 - milliseconds


NOW: Final = after(0)


def settle(time: int, stamp: int) -> int:
    """Give the instant that ``time`` means in a write that the store stamped ``stamp``."""
    return time if time >= 0 else stamp - 1 - time


Instant = Annotated[int, msgspec.Meta(ge=-(10**13), le=25 * 10**13)]
"""Store milliseconds, or `after`; far enough from where datetimes end to add ten years."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Span = Annotated[int, msgspec.Meta(ge=0, le=10**12)]


class Durations(msgspec.Struct, array_like=True, frozen=True):
    """The time rules of one scan, in milliseconds. See `oppscan.ttl` for their meaning."""

    pending: Span
    running: Span
    result: Span
    margin: Span
    lease: Span
    claim_within: Span
    read_cap: Span | None = None


class Counts(msgspec.Struct, array_like=True, frozen=True):
    """How many strategies ended in which way; the fields are the final outcome states."""

    found: int = 0
    empty: int = 0
    failed: int = 0
    timed_out: int = 0
    cancelled: int = 0
    skipped: int = 0

    @property
    def completed(self) -> int:
        """How many have an outcome."""
        return (
            self.found + self.empty + self.failed + self.timed_out + self.cancelled + self.skipped
        )


class Posted(msgspec.Struct, array_like=True, frozen=True):
    """Progress as the host's payloads tell it."""

    completed: int
    total: Count
    found: int
    source: str
    told: bool = False  # whether a payload ever said how many were completed


class Head(msgspec.Struct, array_like=True, frozen=True):
    """The part of a scan that every write replaces."""

    version: int
    owner: str
    key: str
    state: str
    revision: int
    total: Count
    durations: Durations
    created_at: Instant
    due_at: Instant  # stalled from here on: the lease's end, or the end of ``claim_within``
    chain: str = ""  # the id of the claim's last commit; empty when nobody holds the scan
    token: int = 0  # grows by one with every claim
    attempts: int = 0  # claims so far
    strikes: int = 0  # claims in a row that died without an outcome
    productive: bool = False  # whether the latest claim committed an outcome
    cancel_requested: bool = False
    mode: str = ""  # "outcomes" or "payload", fixed by the first progress write
    counts: Counts = Counts()
    opportunities: Count = 0
    posted: Posted | None = None
    events: Count = 0  # frames that must be there
    data: Count = 0  # frames that must be there
    size: Count = 0  # bytes of opportunities, against the limit of one scan
    started_at: Instant | None = None
    finished_at: Instant | None = None
    heartbeat_at: Instant | None = None
    progressed_at: Instant | None = None
    extended_to: Instant | None = None
    eta_at: Instant | None = None  # where the runner can tell
    error: str | None = None
    extra: dict[str, object] = {}  # fields of later versions, by name

    @property
    def live(self) -> bool:
        """Whether the scan is pending or running."""
        return self.state in LIVE


LIVE: Final = frozenset({ScanState.PENDING.value, ScanState.RUNNING.value})
TIMES: Final = (
    "created_at",
    "due_at",
    "started_at",
    "finished_at",
    "heartbeat_at",
    "progressed_at",
    "extended_to",
    "eta_at",
)


def settle_head(head: Head, stamp: int) -> Head:
    """Turn the relative times of a head into instants. O(1)."""
    changes = {
        name: settle(time, stamp)
        for name in TIMES
        if (time := getattr(head, name)) is not None and time < 0
    }
    return msgspec.structs.replace(head, **changes) if changes else head


class Spec(msgspec.Struct, array_like=True, frozen=True):
    """The part of a scan that never changes."""

    params: dict[str, object]
    metadata: dict[str, object]
    strategies: tuple[str, ...]


class OutcomeEvent(msgspec.Struct, array_like=True, frozen=True):
    """One entry of the ``events`` log; the last one of a strategy counts."""

    index: int  # into Spec.strategies
    state: int  # into OUTCOME_STATES
    found: int = 0
    started_at: Instant | None = None
    finished_at: Instant | None = None
    error: str | None = None


class Chunk(msgspec.Struct, array_like=True, frozen=True):
    """One entry of the ``data`` log."""

    kind: str  # a key of CHUNK_KINDS
    index: int  # the strategy, or -1
    body: bytes
    scores: tuple[float, ...] = ()  # of its opportunities, where the runner ranks


CHUNK_KINDS: Final = {
    "o": "the opportunities of one strategy",
    "p": "the latest payload that the host posted",
    "s": "the summary given to complete()",
    "e": "the envelope: head, spec and outcomes of a finished scan, to rebuild its record from",
}


class Envelope(msgspec.Struct, array_like=True, frozen=True):
    """What rebuilds the record of a finished scan from its results alone."""

    head: bytes
    spec: bytes
    events: tuple[bytes, ...]


class Stamped(NamedTuple):
    """Bytes as the store keeps them, with the instant at which it took them."""

    stamp: int
    body: bytes


class Frames(NamedTuple):
    """A stored log, or its tail: ``length`` counts all frames, ``items`` starts at ``first``."""

    length: int
    first: int
    items: tuple[Stamped, ...]

    @property
    def reach(self) -> int:
        """How many frames are accounted for: those before ``first``, and those that are there."""
        return min(self.length, self.first + len(self.items))


NO_FRAMES: Final = Frames(0, 0, ())
