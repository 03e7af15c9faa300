"""What a poller must never see: a scan that goes back, or one that is not there.

Pure: it is shown one poll after the other and keeps count.
"""

from __future__ import annotations

from typing import Final

from attrs import define

from oppscan import ScanStatus
from oppscan.demo.wire import Scan, Sighting, Strategy

_ORDER: Final = {"pending": 0, "running": 1, "complete": 2, "failed": 2, "cancelled": 2}


def sketch(status: ScanStatus) -> Scan:
    """Take from a status what the demonstration shows."""
    return Scan(
        state=status.state.value,
        revision=status.revision,
        completed=status.progress.strategies_completed,
        total=status.progress.total_strategies,
        found=status.progress.opportunities_found,
        stalled=status.stalled,
        done=status.done,
        error=status.error,
        strategies=tuple(
            Strategy(
                name=outcome.name,
                state=outcome.state.value,
                found=outcome.found,
                duration=outcome.duration,
                error=outcome.error,
                done=outcome.state.done,
            )
            for outcome in status.outcomes
        ),
    )


def went_back(before: Scan, now: Scan) -> bool:
    """Tell whether anything that may only grow is less than it was, or a final state changed."""
    return (
        now.revision < before.revision
        or now.completed < before.completed
        or now.found < before.found
        or now.total != before.total
        or _ORDER[now.state] < _ORDER[before.state]
        or (before.done and now.state != before.state)
    )


@define
class Witness:
    """The polls of one process; ``last`` is what the latest one that was answered showed."""

    last: Scan | None = None
    polls: int = 0
    steps_back: int = 0
    missing: int = 0

    @property
    def finished(self) -> bool:
        """Whether the scan was seen finished."""
        return self.last is not None and self.last.done

    def saw(self, scan: Scan) -> None:
        """Count a poll that was answered."""
        self.polls += 1
        self.steps_back += self.last is not None and went_back(self.last, scan)
        self.last = scan

    def missed(self) -> None:
        """Count a poll that was told that there is no such scan, or no more."""
        self.polls += 1
        self.missing += 1

    def sighting(self, opportunities: list[dict[str, object]] | None = None) -> Sighting:
        """Put it in words for the parent."""
        return Sighting(
            scan=self.last,
            polls=self.polls,
            steps_back=self.steps_back,
            missing=self.missing,
            opportunities=opportunities,
        )
