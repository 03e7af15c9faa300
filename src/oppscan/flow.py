"""How an operation talks to stores without knowing whether its caller blocks or awaits.

An operation is a generator, a `Flow`: it yields what it wants done and is sent the answer, or
thrown the error. Two short drivers, one awaiting and one blocking, run the same flows, so the
rules of both faces are one. A flow reads no clock and does no I/O.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any, Final, Generic, TypeVar, cast

from msgspec import Struct

from oppscan.model import Event, ScanStatus
from oppscan.ops import Apply, Purge, Request

R = TypeVar("R")
T = TypeVar("T")


class Call(Struct, Generic[R], frozen=True):
    """Run ``request`` on store number ``store``; the answer is the reply and its seconds.

    ``follows_write``: a write came before it in the same flow; the driver says so.
    """

    store: int
    request: Request[R]
    follows_write: bool = False

    @property
    def writes(self) -> bool:
        """Whether the request may change the store."""
        return isinstance(self.request, (Apply, Purge))

    @property
    def seen_through(self) -> bool:
        """Whether to go on trying: it writes, or is how the flow learns what its write did."""
        return self.follows_write or self.writes


HostLookup = Callable[[str, str | None], "ScanStatus | Awaitable[ScanStatus | None] | None"]


class AskHost(Struct, frozen=True):
    """Call a lookup of the host's own; the answer is its status or None, and the seconds."""

    find: HostLookup
    scan_id: str
    owner: str | None


class Tell(Struct, frozen=True):
    """Tell the log and the observers; no answer. ``warn``: somebody should look at it.

    ``events`` may be lazy: where nobody listens they are never made.
    """

    events: Iterable[Event]
    warn: bool = False


Wish = Call[Any] | AskHost | Tell
Flow = Generator[Wish, Any, T]


def ask(store: int, request: Request[R]) -> Flow[R]:
    """Run a request within a flow, for its reply."""
    reply, _ = cast("tuple[R, float]", (yield Call(store, request)))
    return reply


FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.5


def next_pause(call: Call[Any], tries: int, left: float) -> float | None:
    """Give the seconds to pause before a failed call is tried again; None to give up.

    Every request may be repeated: reads change nothing, and a write is recognised by its ids. A
    read is tried twice (a pooled connection may have died of a restart); a write, and a read that
    tells what became of one, for as long as there is time: nobody knows whether it was applied.
    """
    if tries == 1:
        return 0.0 if left > 0 else None
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (tries - 2))
    return pause if call.seen_through and pause < left else None


def share_of(left: float, call: Call[Any], stores: int, tries: int) -> float:
    """Give the seconds that one try may take: a first silence leaves time for a second try.

    So does a silent store for those that are asked after it.
    """
    whole = call.seen_through or call.store == stores - 1
    share = left if whole else left / 2
    return share / 2 if tries == 1 else share
