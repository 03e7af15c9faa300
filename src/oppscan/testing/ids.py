"""`SequentialIds`: ids that tell the order in which they were drawn."""

from __future__ import annotations

from itertools import count


class SequentialIds:
    """An id source that counts. ``worker`` keeps the ids of several registries apart."""

    def __init__(self, worker: int = 0) -> None:
        self._worker = worker
        self._numbers = count(1)

    def scan_suffix(self) -> str:
        """Give 32 hex digits: the worker's number, then the count."""
        return f"{self._worker:08x}{next(self._numbers):024x}"

    def operation(self) -> str:
        """Give 16 hex digits: the worker's number, then the count."""
        return f"{self._worker:04x}{next(self._numbers):012x}"
