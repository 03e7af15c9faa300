"""Looks at the file of a SQLite store: is it where locks hold, can it be written, is there room."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol

from oppscan.backends.health import Finding
from oppscan.backends.mounts import network_file_system
from oppscan.clock import elapsed
from oppscan.errors import CorruptRecord, StorageMisconfigured

LEAST_ROOM: Final = 100 << 20
"""Bytes of free disk below which a store is in danger."""

SLOW: Final = 0.05
"""Seconds for an empty write: with more, writers wait for each other."""

_MB: Final = 1 << 20


class View(Protocol):
    """The file inside a transaction."""

    connection: sqlite3.Connection


Write = Callable[[], AbstractContextManager[View]]


def examine_file(path: Path, write: Write) -> Iterator[Finding]:
    """Give what is found; ``write`` begins a transaction. A file that is not there is not made."""
    folder = path.parent
    kind = network_file_system(path)
    if kind is not None:
        advice = "move it to a local disk, or use redis: where several hosts share scans"
        yield Finding("file system", "mend", f"{kind}: its locks do not hold", advice)
        return
    yield Finding("file system", "fine", "local")
    if not folder.is_dir():
        yield Finding("folder", "mend", f"{folder} is not there", "make it")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        advice = "let this user write there: the log lies beside the file"
        yield Finding("folder", "mend", f"{folder} cannot be written", advice)
        return
    yield Finding("folder", "fine", f"{folder} can be written")
    free = shutil.disk_usage(folder).free
    told = f"{free / _MB:,.0f} MB free"
    if free < LEAST_ROOM:
        yield Finding("disk", "mend", told, "make room: a full disk refuses writes (StorageFull)")
    else:
        yield Finding("disk", "fine", told)
    if path.exists():
        yield from _examine_contents(path, write)
    else:
        yield Finding(
            "file", "note", f"{path} is not there yet", "nothing to do: first use makes it"
        )


def _examine_contents(path: Path, write: Write) -> Iterator[Finding]:
    began = elapsed()
    try:
        with write() as view:
            took = elapsed() - began
            (mode,) = view.connection.execute("PRAGMA journal_mode").fetchone()
            (state,) = view.connection.execute("PRAGMA quick_check(1)").fetchone()
    except (StorageMisconfigured, CorruptRecord) as error:
        yield Finding(
            "file", "mend", str(error), "give oppscan a file of its own, which it may write"
        )
        return
    told = f"{path.stat().st_size / _MB:,.1f} MB, journal mode {mode}"
    yield Finding("file", "fine", told)
    if state != "ok":
        yield Finding("contents", "mend", state, "restore the file, or start with a new one")
    else:
        yield Finding("contents", "fine", "whole")
    slow = took >= SLOW
    advice = "a faster disk, or fewer writers" if slow else ""
    yield Finding("answer", "note" if slow else "fine", f"{took * 1000:.1f} ms", advice)
