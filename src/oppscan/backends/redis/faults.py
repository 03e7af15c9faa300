"""What redis-py raises, as our errors. Pure.

Law: an outage, a full store and a wrong setting are three different things to a caller; none of
them is ever an absence.
"""

from __future__ import annotations

import re
import ssl
from typing import Final

from redis import exceptions

from oppscan.errors import (
    CorruptRecord,
    OppscanError,
    StorageFull,
    StorageMisconfigured,
    StorageUnavailable,
)

_PREFIXES: Final[dict[str, type[OppscanError]]] = {
    "OOM": StorageFull,
    "WRONGTYPE": CorruptRecord,
    "MISCONF": StorageUnavailable,
    "NOREPLICAS": StorageUnavailable,
    "BUSY": StorageUnavailable,
    "UNKILLABLE": StorageUnavailable,
    "LOADING": StorageUnavailable,
    "READONLY": StorageUnavailable,
    "MASTERDOWN": StorageUnavailable,
    "CLUSTERDOWN": StorageUnavailable,
    "TRYAGAIN": StorageUnavailable,
    "MOVED": StorageUnavailable,
    "ASK": StorageUnavailable,
    "NOGOODSLAVE": StorageUnavailable,
    "NOAUTH": StorageMisconfigured,
    "WRONGPASS": StorageMisconfigured,
    "NOPERM": StorageMisconfigured,
}
"""The first word of an error reply; older servers hide it in the report of a script's error."""

_PREFIX: Final = re.compile(r"\b(" + "|".join(_PREFIXES) + r")\b")

_TEXTS: Final[tuple[tuple[str, type[OppscanError]], ...]] = (
    ("max number of clients", StorageUnavailable),
    ("non local key", StorageUnavailable),  # a slot on the move, in the middle of a script
    ("can't run this command", StorageMisconfigured),
    ("invalid password", StorageMisconfigured),
    ("unknown command", StorageMisconfigured),
    ("out of range", StorageMisconfigured),
    ("cluster support disabled", StorageMisconfigured),
    ("[ssl: ", StorageMisconfigured),  # as Python names TLS faults; a host's name may hold "ssl"
)

_CLASSES: Final[tuple[tuple[type[BaseException], type[OppscanError]], ...]] = (
    (exceptions.OutOfMemoryError, StorageFull),
    (exceptions.ReadOnlyError, StorageUnavailable),
    (exceptions.ClusterDownError, StorageUnavailable),
    (exceptions.ClusterError, StorageUnavailable),  # a slot on the move, for too long
    (exceptions.MasterDownError, StorageUnavailable),
    (exceptions.TryAgainError, StorageUnavailable),
    (exceptions.AskError, StorageUnavailable),  # MovedError is one
    (exceptions.ExecAbortError, StorageUnavailable),
    (exceptions.AuthenticationError, StorageMisconfigured),
    (exceptions.AuthorizationError, StorageMisconfigured),
    (exceptions.InvalidResponse, StorageMisconfigured),
    (exceptions.ResponseError, StorageMisconfigured),
    (exceptions.RedisError, StorageUnavailable),
    (exceptions.RedisClusterException, StorageUnavailable),
    (ssl.SSLError, StorageMisconfigured),
    (OSError, StorageUnavailable),  # TimeoutError is one
    (RuntimeError, StorageMisconfigured),
)

FAULTS: Final = tuple(kind for kind, _ in _CLASSES)
"""All that redis-py may raise when it is used rightly. RuntimeError: from a second event loop."""


def translate(error: BaseException, store: str) -> OppscanError:
    """Give our error for one of redis-py's, naming the store."""
    text = str(error) or type(error).__name__
    found = _PREFIX.search(text) if isinstance(error, exceptions.ResponseError) else None
    kind = _PREFIXES[found[1]] if found else _by_text(text) or _by_class(error)
    return kind(f"{store}: {text}")


def _by_text(text: str) -> type[OppscanError] | None:
    low = text.lower()
    return next((kind for part, kind in _TEXTS if part in low), None)


def _by_class(error: BaseException) -> type[OppscanError]:
    return next(ours for theirs, ours in _CLASSES if isinstance(error, theirs))


def stale(error: BaseException) -> bool:
    """Tell whether to connect anew.

    Either the server is no longer the one that takes writes; or it was sent what it calls too
    large, and hangs up on us.
    """
    text = str(error)
    return isinstance(error, exceptions.ReadOnlyError) or any(word in text for word in _STALE)


def no_script(error: BaseException) -> bool:
    """Tell whether the server does not have the script (yet, or since a restart)."""
    return isinstance(error, exceptions.NoScriptError) or str(error).startswith("NOSCRIPT")


def pool_exhausted(error: BaseException) -> bool:
    """Tell whether the host's own pool had no connection left: nothing was sent."""
    kind = getattr(exceptions, "MaxConnectionsError", None)
    if kind is not None and isinstance(error, kind):
        return True
    return isinstance(error, exceptions.ConnectionError) and str(error) in _POOL_TEXTS


_STALE: Final = ("READONLY", "Protocol error")
_POOL_TEXTS: Final = frozenset({"Too many connections", "No connection available."})
