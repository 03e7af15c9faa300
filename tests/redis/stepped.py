"""A real server on a clock that a test moves: its scripts are told the time.

Nothing but the one line of a script that asks for the time is replaced, and the answer where it is
asked for by itself. Keys then end when the server's own clock says so, a day after the manual one
does, and what is over is told by the times stored in them, as always. That keys end in time is
tested where the server's clock is left alone.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import attrs
import pytest

from oppscan.backends.redis import batch, clients, clock, faces, store
from oppscan.backends.redis.scripts import Script
from oppscan.backends.redis.steps import Run
from oppscan.testing.clock import ManualClock

ASK: Final = "call('TIME')"
TAKE: Final = (
    "(function(ms) return {math.floor(ms / 1000), ms % 1000 * 1000} end)(table.remove(ARGV))"
)
DAY: Final = 86_400.0

_commands: Final = faces._Face._commands  # noqa: SLF001
_answers: Final = faces._Face._answers  # noqa: SLF001


@cache
def _told(script: Script) -> Script:
    """Give a script that takes the time as its last argument."""
    assert script.text.count(ASK) == 1
    text = script.text.replace(ASK, TAKE)
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return attrs.evolve(script, text=text, sha=sha)


def own_clocks_stand_still(monkeypatch: pytest.MonkeyPatch, manual: ManualClock) -> None:
    """Have the rooms that look at this process's own clock look at the manual one."""
    for room in (batch, clients, clock, faces, store):
        monkeypatch.setattr(room, "elapsed", manual.elapsed)


def step_server(monkeypatch: pytest.MonkeyPatch, manual: ManualClock) -> None:
    """Have every script told the time of the manual clock, which is set a day ahead of now."""
    behind = time.time() + DAY - manual.now() / 1000
    if behind > DAY:
        manual.jump(behind)
    own_clocks_stand_still(monkeypatch, manual)

    def commands(
        face: faces.AsyncFace | faces.BlockingFace, run: Run
    ) -> tuple[faces.Command, faces.Command]:
        told, (named, whole) = _told(run.script), _commands(face, run)
        at = manual.now()
        return (named[0], told.sha, *named[2:], at), (whole[0], told.text, *whole[2:], at)

    def answers(
        face: faces.AsyncFace | faces.BlockingFace,
        keys: Sequence[str],
        now: int,
        replies: list[Any],
        sent: float,
    ) -> list[batch.Answer]:
        if len(replies) > 1:
            seconds, rest = divmod(manual.now(), 1000)
            replies[0] = (seconds, rest * 1000)
        return _answers(face, keys, now, replies, sent)

    monkeypatch.setattr(faces._Face, "_commands", commands)  # noqa: SLF001
    monkeypatch.setattr(faces._Face, "_answers", answers)  # noqa: SLF001
