"""How a block that holds a scan was left, and what that means for the scan. Pure.

==========================================  ===============================================
left by                                     the scan is
==========================================  ===============================================
its end                                     finished, by the rule of finishing
an ``Exception``                            failed, with its text
a cancelled task, Ctrl-C, an exit           released: resumable at once
a store that is down or full                released, as far as that can still be written
the same, but cancellation was asked for    finished: cancelled
==========================================  ===============================================
"""

from __future__ import annotations

from typing import Final

from oppscan.drafting import Ending, Letting, Report
from oppscan.errors import StorageFull, StorageUnavailable
from oppscan.inputs import describe_error

INTERRUPTED: Final = "the write was interrupted; it may have been applied"

BEATS_PER_LEASE: Final = 4
"""Heartbeats in one lease: two may be late or lost before anybody else takes the scan over."""


def farewell(error: BaseException | None) -> Report:
    """Give the last report of a block that was left by ``error``."""
    if error is None:
        return Ending()
    if isinstance(error, Exception) and not _is_outage(error):
        return Ending(describe_error(error, "error"))
    return Letting()


def _is_outage(error: BaseException) -> bool:
    """Tell whether the store is to blame, and nothing else, in a task group either."""
    if isinstance(error, BaseExceptionGroup):
        return error.split((StorageUnavailable, StorageFull))[1] is None
    return isinstance(error, (StorageUnavailable, StorageFull))
