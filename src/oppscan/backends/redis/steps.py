"""What a plan wants done with Redis, one step at a time, and how a plan is stepped. No I/O."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from attrs import frozen

from oppscan.backends.redis.scripts import READ, Script

R = TypeVar("R")
Argument = bytes | str | int


@frozen
class Run:
    """Run a script; the answer is its reply. ``writes``: it changes the store."""

    script: Script
    keys: tuple[str, ...]
    arguments: tuple[Argument, ...]
    writes: bool = False


@frozen
class Get:
    """Read a string; the answer is its bytes or None, and the store's time.

    The time is 0 where nothing was read: where it is not known, and asking for it takes a round
    trip of its own, as in a cluster.
    """

    key: str


@frozen
class Spread:
    """Run commands that each need one key, wherever that is; the answer is their replies."""

    commands: tuple[tuple[Argument, ...], ...]


@frozen
class Keys:
    """List the keys that match a pattern, on all nodes."""

    pattern: str


@frozen
class Moment:
    """Ask for the time of the server of ``key``, as well as it is known, in milliseconds."""

    key: str


def moment_of(key: str) -> Run:
    """Give the step that asks a server for its time, and nothing else."""
    return Run(READ, (key,), ("time",))


Step = Run | Get | Spread | Keys | Moment
Plan = Generator[Step, Any, R]


def advance(plan: Plan[R], answer: object) -> tuple[bool, Any]:
    """Step a plan: whether it is done, and its reply, or else the step that it wants taken."""
    try:
        return False, plan.send(answer)
    except StopIteration as stop:
        return True, stop.value
