"""When a watcher has something to tell, and how long it pauses between looks.

Polling is what `watch` and `wait` stand on: a store that can push only makes them quicker.
"""

from __future__ import annotations

from typing import Final

from oppscan.model import ScanStatus
from oppscan.ttl import duration

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.5
_GROWTH: Final = 1.5


class Watch:
    """One watcher of one scan: what it told last, and its next pause, in seconds."""

    def __init__(self) -> None:
        self.told: ScanStatus | None = None
        self.pause: float = FIRST_PAUSE

    def tells(self, status: ScanStatus) -> bool:
        """Tell whether this status is news; it never goes back behind what was told."""
        told = self.told
        if told is not None:
            news = status.revision > told.revision
            news = news or (status.revision == told.revision and status.stalled != told.stalled)
            if not news:
                self.pause = min(LONGEST_PAUSE, self.pause * _GROWTH)
                return False
        self.told = status
        self.pause = FIRST_PAUSE
        return True

    def next_pause(self, *, listening: bool) -> float:
        """Give the seconds until the next look; a long pause where news would end it."""
        return LONGEST_PAUSE if listening else self.pause

    def deadline(self, timeout: object, now: float) -> float | None:
        """Give the instant at which a wait is over; `InvalidInput` for what is no duration."""
        return None if timeout is None else now + duration(timeout, "timeout", least=0.0)

    def until(
        self, deadline: float | None, now: float, status: ScanStatus, *, listening: bool
    ) -> float:
        """Give the next pause of a wait; `TimeoutError` when its time is over."""
        pause = self.next_pause(listening=listening)
        if deadline is None:
            return pause
        if now >= deadline:
            msg = f"scan {status.scan_id} is still {status.state} ({status.progress})"
            raise TimeoutError(msg)
        return min(pause, deadline - now)
