"""How an operation talks to stores without knowing whether its caller blocks or awaits.

An operation is a generator, a `Flow`: it yields what it wants done and is sent the answer, or
thrown the error. Two short drivers, one awaiting and one blocking, run the same flows, so the
rules of both faces are one. A flow reads no clock and does no I/O.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, Generic, TypeVar, cast

from msgspec import Struct

from oppscan.model import Event, ScanStatus
from oppscan.ops import Apply, Purge, Request

R = TypeVar("R")
T = TypeVar("T")


class Call(Struct, Generic[R], frozen=True):
    """Run ``request`` on store number ``store``; the answer is the reply and its seconds."""

    store: int
    request: Request[R]

    @property
    def writes(self) -> bool:
        """Whether the request may change the store, so that it must be seen through."""
        return isinstance(self.request, (Apply, Purge))


HostLookup = Callable[[str, str | None], "ScanStatus | Awaitable[ScanStatus | None] | None"]


class AskHost(Struct, frozen=True):
    """Call a lookup of the host's own; the answer is its status or None, and the seconds."""

    find: HostLookup
    scan_id: str
    owner: str | None


class Tell(Struct, frozen=True):
    """Tell the log and the observers; no answer."""

    event: Event


Wish = Call[Any] | AskHost | Tell
Flow = Generator[Wish, Any, T]


def ask(store: int, request: Request[R]) -> Flow[R]:
    """Run a request within a flow, for its reply."""
    reply, _ = yield from timed(store, request)
    return reply


def timed(store: int, request: Request[R]) -> Flow[tuple[R, float]]:
    """Run a request within a flow, for its reply and the seconds that it took."""
    return cast("tuple[R, float]", (yield Call(store, request)))


FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.5


def next_pause(call: Call[Any], tries: int, left: float) -> float | None:
    """Give the seconds to pause before a failed call is tried again; None to give up.

    Every request may be repeated: reads change nothing, and a write is recognised by its ids. A
    read is tried twice (a pooled connection may have died of a restart); a write for as long as
    there is time, because nobody knows whether it was applied.
    """
    if tries == 1:
        return 0.0 if left > 0 else None
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (tries - 2))
    return pause if call.writes and pause < left else None


def share_of(left: float, call: Call[Any], stores: int, tries: int) -> float:
    """Give the seconds that one try may take: a first silence leaves time for a second try.

    So does a silent store for those that are asked after it.
    """
    whole = call.writes or call.store == stores - 1
    share = left if whole else left / 2
    return share / 2 if tries == 1 else share
