"""The scripts that the store carries, by their SHA-1: what Redis names them by."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from attrs import frozen


@frozen
class Script:
    """A script that the package carries.

    ``timed``: which item of its reply is the time. ``applies``: it writes what somebody is told
    of; its first argument is how.
    """

    text: str
    sha: str
    timed: int
    applies: bool = False


def _script(name: str, timed: int, *, applies: bool = False) -> Script:
    text = Path(__file__).with_name(f"{name}.lua").read_text("utf-8")
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()  # as Redis names it
    return Script(text, sha, timed, applies)


APPLY: Final = _script("apply", 2, applies=True)
READ: Final = _script("read", 1)
SWEEP: Final = _script("sweep", 0)
REHEARSE: Final = _script("rehearse", 0)
