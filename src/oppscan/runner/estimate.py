"""How long a scan will still take: from what its strategies took, in this scan and before. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_WEIGHT: Final = 0.3
"""Of the newest duration in the moving average: a trend shows after a few scans."""


class Durations:
    """What each strategy took in earlier scans of one runner: a moving average, in seconds."""

    def __init__(self) -> None:
        self._average: dict[str, float] = {}

    def observe(self, name: str, took: float) -> None:
        """Take in one duration."""
        before = self._average.get(name, took)
        self._average[name] = before + _WEIGHT * (took - before)

    def expected(self, name: str) -> float | None:
        """Give what a strategy may take; None for one that was never seen."""
        return self._average.get(name)


class Estimate:
    """The time left of one scan; every step is O(1)."""

    def __init__(self, names: Iterable[str], durations: Durations, concurrency: int) -> None:
        self._durations = durations
        self._concurrency = concurrency
        self._open = {name: durations.expected(name) for name in names}
        self._known = sum(value for value in self._open.values() if value is not None)
        self._unknown = sum(value is None for value in self._open.values())
        self._seen = 0
        self._took = 0.0

    def finish(self, name: str, took: float) -> None:
        """Note that a strategy is through."""
        expected = self._open.pop(name)
        if expected is None:
            self._unknown -= 1
        else:
            self._known -= expected
        self._seen += 1
        self._took += took
        self._durations.observe(name, took)

    @property
    def left(self) -> float:
        """Seconds until all are through, as far as can be told; ask after the first `finish`."""
        mean = self._took / max(1, self._seen)
        work = max(0.0, self._known) + self._unknown * mean
        return work / max(1, min(self._concurrency, len(self._open)))
