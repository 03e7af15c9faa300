"""What a process knows of its stores: their time, and which scans it looked at whole.

Replies tell the server's time. Between two of them it is extrapolated by this process's monotonic
clock, and errs on the early side only, by less than a round trip. No I/O.

Laws
- A sample is trusted for `FRESH`, so that a server whose clock is set, or another server after a
  failover, is soon believed; one that took longer than `SLOWEST` is not trusted at all.
- A bare read of a record does not see whether what leads to the scan is still there, nor what is
  left of a scan whose record is gone. So once in `LOOK_EVERY` a scan is looked at whole, and each
  time while its record is missing.
"""

from __future__ import annotations

from math import floor, inf
from typing import Final

from attrs import frozen

from oppscan.clock import elapsed

FRESH: Final = 1.0
SLOWEST: Final = 0.05
LOOK_EVERY: Final = 10.0
"""Seconds."""

_MOST: Final = 4096


@frozen
class _Sample:
    offset: float  # the server's milliseconds minus ours, at least
    taken: float


class Known:
    """The time of each server, and which scans were looked at."""

    def __init__(self) -> None:
        self._samples: dict[str, _Sample] = {}
        self._looks: dict[str, tuple[bool, float]] = {}

    def learn(self, server: str, now: int, sent: float) -> None:
        """Take in that the server's clock showed ``now`` somewhere between ``sent`` and here."""
        received = elapsed()
        if received - sent > SLOWEST:
            return
        least, most = now - received * 1000, now + 1 - sent * 1000
        before = self._samples.get(server)
        if before is not None and least < before.offset <= most:
            least = before.offset
        self._samples[server] = _Sample(least, received)

    def now(self, server: str) -> int:
        """Give the server's time, as well as it is known; 0 where it is not."""
        sample = self._samples.get(server)
        if sample is None or elapsed() - sample.taken >= FRESH:
            return 0
        return floor(sample.offset + elapsed() * 1000)

    def looked(self, scan_id: str) -> bool:
        """Tell whether a bare read of a scan will do; if not, it counts as looked at now."""
        now = elapsed()
        there, until = self._looks.get(scan_id, (False, -inf))
        if now < until:
            return there
        if len(self._looks) >= _MOST:
            self._looks.clear()
        self._looks[scan_id] = (True, now + LOOK_EVERY)
        return False

    def missed(self, scan_id: str) -> None:
        """Note that a scan's record was not there: a bare read tells nothing of it."""
        self._looks[scan_id] = (False, elapsed() + LOOK_EVERY)

    def forget(self) -> None:
        """Trust nothing any more: a connection was lost, so the server may be another one."""
        self._samples.clear()
        self._looks.clear()
