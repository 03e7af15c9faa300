"""What a process holds that a test must give back: threads, processes, files, folders."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

PATIENCE = 10.0
"""Seconds that what was told to end is given to be gone, on a machine that is busy elsewhere."""


@frozen
class Census:
    """What is there at one moment."""

    threads: frozenset[threading.Thread]
    processes: frozenset[int]
    files: frozenset[tuple[str, str]]
    folders: frozenset[str]

    @staticmethod
    def take() -> Census:
        """Count what is there now."""
        return Census(
            frozenset(threading.enumerate()),
            frozenset(children()),
            frozenset(_open_files()),
            frozenset(str(path) for path in Path(tempfile.gettempdir()).glob("oppscan-*")),
        )

    def more_than(self, before: Census) -> str:
        """Name what is here and was not there before; empty where there is nothing."""
        threads = sorted(thread.name for thread in self.threads - before.threads)
        found = {
            "threads": threads,
            "processes": sorted(self.processes - before.processes),
            "files": sorted(self.files - before.files),
            "folders": sorted(self.folders - before.folders),
        }
        return ", ".join(f"{kind}: {items}" for kind, items in found.items() if items)


def left_since(before: Census, patience: float = PATIENCE) -> str:
    """Name what is still there after ``patience`` seconds and was not before."""
    deadline = time.monotonic() + patience
    while (left := Census.take().more_than(before)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def children() -> dict[int, str]:
    """Give the processes below this one, by id, with their command lines."""
    parents, lines = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            lines[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it ended meanwhile
        if fields[0] != "Z":
            parents[int(folder.name)] = int(fields[1])
    return {pid: lines[pid] for pid in parents if os.getpid() in _above(pid, parents)}


def _above(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while pid in parents:
        pid = parents[pid]
        yield pid


def _open_files() -> list[tuple[str, str]]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append((link.name, str(link.readlink())))
        except OSError:
            continue  # the listing's own, gone by now
    return [(number, path) for number, path in found if not path.startswith("/proc/")]
