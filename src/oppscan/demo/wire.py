"""What the processes of the demonstration tell each other: one JSON object a line.

A child is given its `Job`, and later its `Go`, on its standard input, so that a store's password
is on no command line; it answers with `Ready` and `Sighting` on its standard output. The end of
its input means that its parent is gone.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

OWNER: Final = "demo"
NAMESPACE: Final = "oppscan-demo"

T = TypeVar("T")


class Job(msgspec.Struct, frozen=True):
    """What a child works on.

    ``pause``: seconds that a strategy rests, on average. ``log``: the file to which a worker
    appends what it runs. ``hold_after``: a worker goes no further than so many strategies.
    """

    store: str
    pause: float = 0.0
    log: str = ""
    hold_after: int | None = None


class Go(msgspec.Struct, frozen=True):
    """The scan to run, or to poll."""

    scan_id: str


class Strategy(msgspec.Struct, frozen=True):
    """What a poll showed of one strategy; ``duration`` in seconds."""

    name: str
    state: str = "pending"
    found: int = 0
    duration: float | None = None
    error: str | None = None
    done: bool = False


class Scan(msgspec.Struct, frozen=True):
    """What a poll showed of the scan; ``error`` is what ended it, if anything did."""

    state: str
    revision: int
    completed: int
    total: int
    found: int = 0
    stalled: bool = False
    done: bool = False
    error: str | None = None
    strategies: tuple[Strategy, ...] = ()


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """A child is waiting for its `Go`; ``about`` describes the market that it has read."""

    about: str = ""


class Sighting(msgspec.Struct, frozen=True, tag="sighting"):
    """A poller's latest poll, and its count of polls, steps back and misses so far.

    ``scan`` is None as long as no poll was answered; ``opportunities``, with the last sighting,
    is everything that the scan found, as ranked by the runner.
    """

    scan: Scan | None
    polls: int
    steps_back: int = 0
    missing: int = 0
    opportunities: list[dict[str, object]] | None = None


Message = Ready | Sighting


def packed(value: msgspec.Struct) -> str:
    """Give the line that says it."""
    return msgspec.json.encode(value).decode() + "\n"


def unpacked(line: str, kind: type[T]) -> T:
    """Read a `Job` or a `Go`; `msgspec.MsgspecError` for anything else."""
    return msgspec.json.decode(line, type=kind)


def message(line: str) -> Message:
    """Read what a child says; `msgspec.MsgspecError` for anything else."""
    return msgspec.json.decode(line, type=Ready | Sighting)
