"""The blocking face: the names of `oppscan`, for threads, forked workers and scripts.

Both faces run the same flows over the same stores; a blocking poll needs no event loop and no
other thread. Safe in threads and after ``fork``; a claim does not cross a fork. In a thread that
runs an event loop, calls that wait for longer than ``op_timeout`` raise `InvalidInput`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from oppscan.backends.base import StorageBackend
from oppscan.errors import (
    ClaimLost,
    CorruptRecord,
    DurabilityNotConfirmed,
    InvalidInput,
    OppscanError,
    ScanAlreadyClaimed,
    ScanCancelled,
    ScanExpired,
    ScanFailed,
    ScanFinished,
    ScanLost,
    ScanNotFinished,
    ScanNotFound,
    StorageError,
    StorageFull,
    StorageMisconfigured,
    StorageUnavailable,
    TooManyScans,
)
from oppscan.inputs import Limits, request_key
from oppscan.lazily import load_lazily
from oppscan.lookup import LookupStep
from oppscan.model import (
    Event,
    LookupStepTrace,
    LookupTrace,
    OutcomeState,
    Page,
    Progress,
    Reuse,
    ScanResults,
    ScanState,
    ScanStatus,
    StrategyOutcome,
    Ticket,
)
from oppscan.sync.claim import ScanClaim
from oppscan.sync.registry import OwnerScans, ScanRegistry, connect
from oppscan.ttl import TTLPolicy

if TYPE_CHECKING:
    from oppscan.backends.memory import MemoryBackend
    from oppscan.runner.strategies import ScanContext, Strategy, strategy
    from oppscan.sync.runner import StrategyRunner

__all__ = [
    "ClaimLost",
    "CorruptRecord",
    "DurabilityNotConfirmed",
    "Event",
    "InvalidInput",
    "Limits",
    "LookupStep",
    "LookupStepTrace",
    "LookupTrace",
    "MemoryBackend",
    "OppscanError",
    "OutcomeState",
    "OwnerScans",
    "Page",
    "Progress",
    "Reuse",
    "ScanAlreadyClaimed",
    "ScanCancelled",
    "ScanClaim",
    "ScanContext",
    "ScanExpired",
    "ScanFailed",
    "ScanFinished",
    "ScanLost",
    "ScanNotFinished",
    "ScanNotFound",
    "ScanRegistry",
    "ScanResults",
    "ScanState",
    "ScanStatus",
    "StorageBackend",
    "StorageError",
    "StorageFull",
    "StorageMisconfigured",
    "StorageUnavailable",
    "Strategy",
    "StrategyOutcome",
    "StrategyRunner",
    "TTLPolicy",
    "Ticket",
    "TooManyScans",
    "connect",
    "request_key",
    "strategy",
]

# Many hosts only follow scans, and each has one kind of store.
__getattr__: Callable[[str], object] = load_lazily(
    __name__,
    {
        "MemoryBackend": "oppscan.backends.memory",
        "ScanContext": "oppscan.runner.strategies",
        "Strategy": "oppscan.runner.strategies",
        "StrategyRunner": "oppscan.sync.runner",
        "strategy": "oppscan.runner.strategies",
    },
)
