"""What a fork must not tear: connections that are open, and locks that other threads hold.

A forked child gets a copy of everything but the threads. A lock that one of them held is held
there for ever, and a connection that was open belongs to two processes.

Laws
- What cannot be shared with a child comes to rest before the fork and goes on after it.
- What a child needs anew is made anew in the child before any of its code runs.
- Nothing here raises, and no fork waits for longer than `PATIENCE` for each thing.

A program that forks outside Python (a server in C) may run none of this, or only the child's part.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from itertools import count
from typing import Any, Final, TypeVar
from weakref import ref

PATIENCE: Final = 10.0
"""Seconds that a fork waits for a transaction to end; they last for ``op_timeout`` at most."""


T = TypeVar("T")
Hook = Callable[[Any], None]


class _Process:
    """Everything in this process that has to be told of forks; one fork at a time."""

    def __init__(self) -> None:
        self._gate = threading.RLock()
        self._numbers = count()
        self._told: dict[int, tuple[ref[Any], tuple[Hook | None, ...]]] = {}

    def watch(self, thing: object, *hooks: Hook | None) -> None:
        number = next(self._numbers)
        with self._gate:  # not between the two halves of a fork
            self._told[number] = (ref(thing, lambda _: self._told.pop(number, None)), hooks)

    def before(self) -> None:
        self._gate.acquire()
        self._tell(0)

    def after_in_parent(self) -> None:
        self._tell(1)
        self._gate.release()

    def after_in_child(self) -> None:
        self._gate = threading.RLock()
        self._tell(2)

    def _tell(self, when: int) -> None:
        for weak, hooks in list(self._told.values()):
            thing, hook = weak(), hooks[when]
            if thing is not None and hook is not None:
                hook(thing)


_PROCESS: Final = _Process()  # hooks cannot be taken back, so there is one set for all


def _never(**hooks: object) -> None:
    """Register nothing: Windows does not fork."""


getattr(os, "register_at_fork", _never)(
    before=_PROCESS.before,
    after_in_parent=_PROCESS.after_in_parent,
    after_in_child=_PROCESS.after_in_child,
)


def watch_forks(
    thing: T,
    in_child: Callable[[T], None],
    *,
    before: Callable[[T], None] | None = None,
    in_parent: Callable[[T], None] | None = None,
) -> None:
    """Call methods of a thing around every fork, as long as the thing lives.

    ``in_child`` begins anew there, before anything else runs. ``before`` comes to rest, and
    ``in_parent`` goes on; both run in the thread that forks.
    """
    _PROCESS.watch(thing, before, in_parent, in_child)
