"""What this process remembers of *finished* scans: their results, and, opted in, their status.

Nothing that can still change is ever answered from here (incident I4). Results are keyed by
(scan id, revision) and used only after the record was read. Bounded by entries and bytes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from msgspec import Struct

from oppscan.forks import watch_forks
from oppscan.model import ScanStatus
from oppscan.record import Frames

ENTRIES: Final = 64
BYTES: Final = 32 * 1024 * 1024


class _Kept(Struct, frozen=True):
    revision: int
    frames: Frames
    size: int


class Near:
    """A small, thread-safe, least-recently-used memory; a forked child starts with an empty one."""

    def __init__(self) -> None:
        self._begin()
        watch_forks(self, Near._begin)

    def _begin(self) -> None:
        """Forget everything: another thread may have been half-way through a change."""
        self._lock = threading.Lock()
        self._data: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0
        self._statuses: OrderedDict[str, tuple[float, ScanStatus]] = OrderedDict()

    def knows(self, scan_id: str) -> bool:
        """Tell whether results of this scan are kept, of whatever revision."""
        return scan_id in self._data

    def tells(self, scan_id: str) -> str:
        """Say what is kept of this scan: its results, its status, both, or nothing."""
        kept = (("results", self._data), ("status", self._statuses))
        return " and ".join(name for name, where in kept if scan_id in where)

    def results(self, scan_id: str, revision: int) -> Frames | None:
        """Give the whole data log of a finished scan at this revision."""
        with self._lock:
            kept = self._data.get(scan_id)
            if kept is None or kept.revision != revision:
                return None
            self._data.move_to_end(scan_id)
            return kept.frames

    def keep_results(self, scan_id: str, revision: int, frames: Frames) -> None:
        """Keep the whole data log of a finished scan, where it is not too large."""
        size = sum(len(item.body) for item in frames.items)
        with self._lock:
            self._drop(scan_id)
            if size > BYTES // 4:
                return
            self._data[scan_id] = _Kept(revision, frames, size)
            self._bytes += size
            while len(self._data) > ENTRIES or self._bytes > BYTES:
                self._drop(next(iter(self._data)))

    def status(self, scan_id: str, now: float) -> ScanStatus | None:
        """Give the status of a finished scan, where it is not too old by monotonic ``now``."""
        with self._lock:
            until, status = self._statuses.get(scan_id, (now, None))
            return status if now < until else None

    def keep_status(self, status: ScanStatus, until: float) -> None:
        """Keep the status of a finished scan until monotonic ``until``."""
        with self._lock:
            self._statuses[status.scan_id] = (until, status)
            self._statuses.move_to_end(status.scan_id)
            if len(self._statuses) > ENTRIES:
                self._statuses.popitem(last=False)

    def forget(self, scan_id: str) -> None:
        """Drop what is kept of a scan."""
        with self._lock:
            self._drop(scan_id)
            self._statuses.pop(scan_id, None)

    def _drop(self, scan_id: str) -> None:
        kept = self._data.pop(scan_id, None)
        if kept is not None:
            self._bytes -= kept.size
