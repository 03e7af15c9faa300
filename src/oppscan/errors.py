"""Everything that oppscan raises on purpose.

::

    OppscanError
    ├── InvalidInput            (also a ValueError) what was given is refused; nothing changed
    ├── ScanNotFound            never existed, not yours, or forgotten: these look alike
    ├── ScanExpired             it was there; .status is how it ended, .expired_at when it went
    ├── ScanLost                the store lost it, or a part of it, before its time
    ├── ScanNotFinished         results were asked of a live scan; .status
    ├── ScanFailed              results were asked of a failed scan; .status
    ├── ScanCancelled           results were asked of a cancelled scan; .status
    ├── ScanFinished            a finished scan cannot be claimed; .status
    ├── ScanAlreadyClaimed      another worker holds it; .retry_after seconds
    ├── ClaimLost               this claim may write no more; nothing was written
    ├── TooManyScans            the owner's limit of live scans is reached; .limit
    ├── CorruptRecord           stored bytes make no sense to this version
    └── StorageError
        ├── StorageUnavailable      no answer in time; a write may or may not be applied later
        ├── StorageFull             the store refuses writes for want of room
        ├── StorageMisconfigured    asking again cannot help: address, rights, settings
        └── DurabilityNotConfirmed  applied, but not confirmed by as many replicas as asked

What is raised is exactly the type named: siblings never stand in for one another. Each error
carries ``.scan_id`` (or None) and survives pickling, so that it can cross process pools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from datetime import datetime

    from oppscan.model import ScanStatus


class OppscanError(Exception):
    """The root of all errors that oppscan raises on purpose."""

    scan_id: str | None

    def __init__(self, message: str, *, scan_id: str | None = None) -> None:
        super().__init__(message)
        self.scan_id = scan_id

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by attributes: subclasses have arguments of their own."""
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(cls: type[OppscanError], args: tuple[object, ...], state: dict[str, object]) -> object:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidInput(OppscanError, ValueError):
    """What was given is refused; the message names the value, the limit and the rule."""


class ScanNotFound(OppscanError):
    """No such scan for this caller: it never existed, is another owner's, or was forgotten."""

    @classmethod
    def of(cls, scan_id: str | None, why: str = "") -> Self:
        """Build the error for ``scan_id``, with the same text whatever the reason for the miss."""
        subject = f"no scan {scan_id!r} is known here" if scan_id else "no scan matches"
        return cls(f"{subject}{why}; it never existed, or it was forgotten", scan_id=scan_id)


class ScanExpired(OppscanError):
    """The scan's time to live is over; ``.status`` is its last status, ``.expired_at`` when."""

    status: ScanStatus
    expired_at: datetime

    def __init__(self, status: ScanStatus) -> None:
        super().__init__(
            f"scan {status.scan_id} ({status.state}, {status.progress}) expired at "
            f"{status.expires_at.isoformat()}; start it again, or raise the TTLs of TTLPolicy",
            scan_id=status.scan_id,
        )
        self.status = status
        self.expired_at = status.expires_at


class ScanLost(OppscanError):
    """The store lost the scan, or a part of it, before its time (eviction, a torn failover)."""

    strategies: tuple[str, ...]

    def __init__(self, message: str, *, scan_id: str, strategies: tuple[str, ...] = ()) -> None:
        super().__init__(message, scan_id=scan_id)
        self.strategies = strategies


class _WithStatus(OppscanError):
    status: ScanStatus

    def __init__(self, message: str, status: ScanStatus) -> None:
        super().__init__(f"scan {status.scan_id} {message}", scan_id=status.scan_id)
        self.status = status


class ScanNotFinished(_WithStatus):
    """The scan is live; wait for it, or ask with ``partial=True``."""


class ScanFailed(_WithStatus):
    """The scan failed; ``partial=True`` still reads what it found."""


class ScanCancelled(_WithStatus):
    """The scan was cancelled; ``partial=True`` still reads what it found."""


class ScanFinished(_WithStatus):
    """The scan is finished, so it cannot be claimed."""


class ScanAlreadyClaimed(OppscanError):
    """Another worker holds the scan; its lease ends in ``.retry_after`` seconds at the earliest."""

    retry_after: float

    def __init__(self, message: str, *, scan_id: str, retry_after: float) -> None:
        super().__init__(message, scan_id=scan_id)
        self.retry_after = retry_after


class ClaimLost(OppscanError):
    """This claim may write no more: ended, released, taken over, forked, or its scan is gone."""


class TooManyScans(OppscanError):
    """The owner has as many live scans as ``Limits.max_live_per_owner`` allows."""

    limit: int

    def __init__(self, message: str, *, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class CorruptRecord(OppscanError):
    """Stored bytes make no sense to this version of oppscan."""


class StorageError(OppscanError):
    """The store, not the scan, is what went wrong."""


class StorageUnavailable(StorageError):
    """The store did not answer in time. A write may have been applied, or may yet be."""


class StorageFull(StorageError):
    """The store refuses writes for want of room; reads may still work."""


class StorageMisconfigured(StorageError):
    """Asking again cannot help: the address, the rights or the settings are wrong."""


class DurabilityNotConfirmed(StorageError):
    """Applied, but not confirmed by as many replicas as were asked for."""
