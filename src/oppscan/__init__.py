"""Long pieces of work that can be followed.

A *scan* runs some number of *strategies* for an owner. It is started once, seen alike from every
worker, never "not found" while it lives, never 0/0 when it is done, resumed when a worker dies,
and its results are there as long as promised. `connect` gives a `ScanRegistry`; ``oppscan.sync``
has the same names for callers that block.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from oppscan.backends.base import StorageBackend
from oppscan.claim import ScanClaim
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
from oppscan.registry import OwnerScans, ScanRegistry, connect
from oppscan.ttl import TTLPolicy

if TYPE_CHECKING:
    from oppscan.backends.memory import MemoryBackend
    from oppscan.runner.asynchronous import StrategyRunner
    from oppscan.runner.strategies import ScanContext, Strategy, strategy

__version__ = "0.1.0"

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

logging.getLogger("oppscan").addHandler(logging.NullHandler())

# Many hosts only follow scans, and each has one kind of store.
__getattr__: Callable[[str], object] = load_lazily(
    __name__,
    {
        "MemoryBackend": "oppscan.backends.memory",
        "ScanContext": "oppscan.runner.strategies",
        "Strategy": "oppscan.runner.strategies",
        "StrategyRunner": "oppscan.runner.asynchronous",
        "strategy": "oppscan.runner.strategies",
    },
)
