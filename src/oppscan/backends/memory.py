"""`MemoryBackend`: scans in this process's memory.

For tests, notebooks and hosts of a single process. Laws
- Any number of threads and event loops may use one object: one lock, nothing awaited under it.
- Its clock is monotonic: stepping the host's clock changes nothing.
- After a fork the child's copy would be a lie, so it raises instead.
- What is kept no longer is dropped while writing goes on, not only by ``purge``.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from itertools import islice
from typing import Final

from oppscan.backends.base import TransactionalBackend
from oppscan.backends.health import Finding
from oppscan.backends.rows import FOREVER, Row, Value
from oppscan.clock import Clock, SteadyClock
from oppscan.errors import StorageMisconfigured, StorageUnavailable

_MINUTE: Final = 60_000


class MemoryBackend(TransactionalBackend):
    """A store that lives and dies with this object. Every operation is O(log rows) or better.

    ``clock``: the store's time; by default monotonic.
    """

    immediate = True

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__()
        self.clock: Clock = clock or SteadyClock()
        self._rows = _Rows()
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __repr__(self) -> str:
        """Name the store."""
        return "MemoryBackend()"

    @contextmanager
    def transaction(self, timeout: float, *, write: bool) -> Generator[_View]:
        """Hold the store's only lock, for reading and writing alike."""
        del write
        if os.getpid() != self._process:
            msg = (
                "this memory: store was made in another process and did not cross the fork; use "
                "sqlite: or redis: where several processes work on the same scans"
            )
            raise StorageMisconfigured(msg)
        if not self._lock.acquire(timeout=timeout):
            msg = f"the memory: store was held by other threads for {timeout:g} s"
            raise StorageUnavailable(msg)
        try:
            yield _View(self._rows, self.clock.now())
        finally:
            self._lock.release()

    def examine(self, namespace: str, timeout: float) -> tuple[Finding, ...]:
        """Say what there is to know; nothing is looked at."""
        del namespace, timeout
        advice = "use sqlite: or redis: where several processes work on the same scans"
        return (Finding("processes", "note", "one; its scans end with it", advice),)


class _Folder:
    """The rows of one folder; sorted from the first time that it is listed."""

    __slots__ = ("names", "rows")

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.names: list[str] | None = None

    def put(self, name: str, row: Row) -> None:
        if self.names is not None and name not in self.rows:
            insort(self.names, name)
        self.rows[name] = row

    def delete(self, name: str) -> Row | None:
        row = self.rows.pop(name, None)
        if row is not None and self.names is not None:
            del self.names[bisect_left(self.names, name)]
        return row

    def sorted(self) -> list[str]:
        if self.names is None:
            self.names = sorted(self.rows)
        return self.names


class _Rows:
    """Rows by folder, and their keys by the minute until which they are kept."""

    def __init__(self) -> None:
        self.folders: dict[str, _Folder] = {}
        self.minutes: defaultdict[int, set[str]] = defaultdict(set)

    def forget_minute(self, key: str, row: Row) -> None:
        minute = row.until // _MINUTE
        keys = self.minutes.get(minute)
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self.minutes[minute]


def _split(key: str) -> tuple[str, str]:
    """Split a key into folder and name: due times are one folder, whatever their scan."""
    namespace, kind, rest = key.split("/", 2)
    if kind == "d":
        return f"{namespace}/d/", rest
    folder, slash, name = key.rpartition("/")
    return folder + slash, name


class _View:
    """The store at one instant, for the holder of its lock."""

    __slots__ = ("now", "store")

    def __init__(self, store: _Rows, now: int) -> None:
        self.store = store
        self.now = now

    def get(self, key: str) -> Row | None:
        folder, name = _split(key)
        rows = self.store.folders.get(folder)
        return None if rows is None else rows.rows.get(name)

    def put(self, key: str, value: Value, until: int) -> None:
        folder, name = _split(key)
        rows = self.store.folders.get(folder)
        if rows is None:
            rows = self.store.folders[folder] = _Folder()
        row = Row(value, until)
        before = rows.rows.get(name)
        rows.put(name, row)
        if before is not None and before.until != FOREVER:
            self.store.forget_minute(key, before)
        if until != FOREVER:
            self.store.minutes[until // _MINUTE].add(key)

    def delete(self, key: str) -> None:
        folder, name = _split(key)
        rows = self.store.folders.get(folder)
        row = rows.delete(name) if rows is not None else None
        if row is not None:
            self.store.forget_minute(key, row)
        if rows is not None and not rows.rows:
            del self.store.folders[folder]

    def scan(
        self, prefix: str, start: str = "", *, reverse: bool = False, limit: int | None = None
    ) -> list[tuple[str, Row]]:
        folder = self.store.folders.get(prefix)
        if folder is None:
            return []
        names = folder.sorted()
        place = bisect_left(names, start)
        count = len(names) if limit is None else limit
        if not reverse:
            chosen = names[place : place + count]
        else:
            end = place if start else len(names)
            chosen = names[max(0, end - count) : end][::-1]
        return [(prefix + name, folder.rows[name]) for name in chosen]

    def overdue(self, prefix: str, limit: int) -> list[str]:
        store = self.store
        due = (
            key
            for minute in sorted(m for m in store.minutes if m <= self.now // _MINUTE)
            for key in store.minutes[minute]
            if key.startswith(prefix) and (row := self.get(key)) and row.until <= self.now
        )
        return list(islice(due, limit))
