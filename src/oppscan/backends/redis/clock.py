"""What a process knows of its stores' time, without asking at each read.

Each script's reply tells the server's time. Between two of them it is extrapolated by this
process's monotonic clock, and errs on the early side only, by less than a round trip; a sample
is trusted for `FRESH`, so that a server whose clock is set, or another server after a failover,
is soon believed. No I/O.
"""

from __future__ import annotations

from math import floor
from typing import Final

from attrs import frozen

from oppscan.clock import elapsed

FRESH: Final = 1.0
"""Seconds."""

LOOKS: Final = 8
"""Reads per owner and `FRESH` that look at the owner's index too. Whoever polls faster than that
polls for what changes in the scan."""

_MOST: Final = 4096


@frozen
class _Sample:
    offset: float  # the server's milliseconds minus ours, at least
    taken: float


class KnownTime:
    """The time of each server, and which owners' indexes were looked at."""

    def __init__(self) -> None:
        self._samples: dict[str, _Sample] = {}
        self._looks: dict[str, tuple[float, int]] = {}

    def learn(self, server: str, now: int, sent: float) -> None:
        """Take in that the server's clock showed ``now`` somewhere between ``sent`` and here."""
        received = elapsed()
        least, most = now - received * 1000, now + 1 - sent * 1000
        before = self._samples.get(server)
        if before is not None and least < before.offset <= most:
            least = before.offset
        self._samples[server] = _Sample(least, received)

    def now(self, server: str) -> int:
        """Give the server's time, as well as it is known; 0 where it is not."""
        sample = self._samples.get(server)
        return 0 if sample is None else floor(sample.offset + elapsed() * 1000)

    def fresh(self, server: str) -> bool:
        """Tell whether the server's time was learnt lately."""
        sample = self._samples.get(server)
        return sample is not None and elapsed() - sample.taken < FRESH

    def looked(self, owner: str) -> bool:
        """Tell whether this owner's index was looked at lately; if not, count a look."""
        now = elapsed()
        began, looks = self._looks.get(owner, (now, 0))
        if now - began >= FRESH:
            began, looks = now, 0
        if looks >= LOOKS:
            return True
        if len(self._looks) >= _MOST:
            self._looks.clear()
        self._looks[owner] = (began, looks + 1)
        return False

    def forget(self) -> None:
        """Trust nothing any more: a connection was lost, so the server may be another one."""
        self._samples.clear()
        self._looks.clear()
