"""What a look at a store finds: one line for each thing looked at. Pure.

A store says more about itself by having ``examine``; one without is only asked whether it answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

from attrs import frozen

Severity = Literal["fine", "note", "mend"]
"""``note``: good to know; ``mend``: scans may be lost or refused if it stays so."""


@frozen
class Finding:
    """One thing that was looked at: what was found ``where``, and what to do about it."""

    check: str
    severity: Severity
    told: str
    advice: str = ""
    where: str = ""


@runtime_checkable
class Examined(Protocol):
    """A store that can look at itself. Optional."""

    def examine(self, namespace: str, timeout: float) -> Sequence[Finding]:
        """Look at the store, blocking, for at most ``timeout`` seconds; it stays as it is.

        Raises `StorageUnavailable` and `StorageMisconfigured`, as requests do.
        """
        ...
