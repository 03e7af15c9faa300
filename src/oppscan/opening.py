"""From a URL to a store, and from settings to what the registries share. No I/O.

=====================  ====================================================
URL                    store
=====================  ====================================================
``memory:``            a new `MemoryBackend`, each time
``sqlite:///a.db``     `SQLiteBackend`, relative to the working directory
``sqlite:////x/a.db``  `SQLiteBackend`, absolute
=====================  ====================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from msgspec import Struct

from oppscan.backends.base import StorageBackend
from oppscan.clock import IdSource, RandomIds
from oppscan.driver import Observer, Stores
from oppscan.errors import InvalidInput
from oppscan.inputs import Limits, check_namespace
from oppscan.lookup import LookupStep, Sources, check_steps
from oppscan.near import Near
from oppscan.operations import Operations
from oppscan.reading import Scope
from oppscan.ttl import TTLPolicy, duration

T = TypeVar("T")

Fallback = str | StorageBackend
DURABILITIES: Final = ("default", "replicated")
OP_TIMEOUT: Final = 3.0


def open_store(url: object) -> StorageBackend:
    """Make the store that a URL names; it connects when it is first used."""
    if not isinstance(url, str):
        msg = f"a store's URL must be a str, not {type(url).__name__}"
        raise InvalidInput(msg)
    scheme, colon, rest = url.partition(":")
    opener = _OPENERS.get(scheme)
    if opener is None or not colon:
        known = ", ".join(f"{name}:" for name in _OPENERS)
        msg = f"{_without_secrets(url)!r} names no store; known are {known}"
        raise InvalidInput(msg)
    return opener(url, rest)


def _open_memory(url: str, rest: str) -> StorageBackend:
    from oppscan.backends.memory import MemoryBackend

    if rest not in {"", "//"}:
        msg = f"{url!r}: a memory: store takes no address; each memory: is a new store"
        raise InvalidInput(msg)
    return MemoryBackend()


def _open_sqlite(url: str, rest: str) -> StorageBackend:
    from urllib.parse import unquote

    from oppscan.backends.sqlite import SQLiteBackend

    path = unquote(rest.removeprefix("///"))
    if not rest.startswith("///") or not path or path == ":memory:" or "?" in rest:
        msg = f"{url!r}: write sqlite:///relative.db or sqlite:////absolute.db, without options"
        raise InvalidInput(msg)
    return SQLiteBackend(path)


_OPENERS: Final[dict[str, Callable[[str, str], StorageBackend]]] = {
    "memory": _open_memory,
    "sqlite": _open_sqlite,
}


def _without_secrets(url: str) -> str:
    """Drop user and password from a URL that will be shown."""
    scheme, slashes, rest = url.partition("//")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"


class Settings(Struct, frozen=True, kw_only=True):
    """How a registry is set up; the arguments of ``connect``."""

    ttl: TTLPolicy | None = None
    limits: Limits | None = None
    fallbacks: Sequence[Fallback] = ()
    lookups: Sequence[str | LookupStep] | None = None
    namespace: str = "oppscan"
    observers: Sequence[Observer] = ()
    op_timeout: float = OP_TIMEOUT
    durability: str = "default"
    ids: IdSource | None = None

    def prepare(self, backend: StorageBackend) -> tuple[Stores, Operations]:
        """Check the settings, and give what the two faces work with."""
        if not isinstance(backend, StorageBackend):
            msg = f"backend must be a StorageBackend, not {type(backend).__name__}"
            raise InvalidInput(msg)
        if self.durability not in DURABILITIES:
            msg = f"durability must be one of {DURABILITIES}, not {self.durability!r}"
            raise InvalidInput(msg)
        policy = _instance(self.ttl, TTLPolicy, "ttl")
        limits = _instance(self.limits, Limits, "limits")
        backends = (backend, *(_fallback(item) for item in self.fallbacks))
        backend.require(self.durability)
        timeout = duration(self.op_timeout, "op_timeout")
        stores = Stores(backends, check_namespace(self.namespace), timeout, tuple(self.observers))
        steps = check_steps(self.lookups)
        sources = Sources(len(backends), steps, limits.max_remembered)
        scope = Scope(sources, policy, limits, self.ids or RandomIds(), Near())
        return stores, Operations(scope)


def _instance(value: T | None, kind: type[T], what: str) -> T:
    if value is not None and not isinstance(value, kind):
        msg = f"{what} must be a {kind.__name__}, not {type(value).__name__}"
        raise InvalidInput(msg)
    return kind() if value is None else value


def _fallback(item: Fallback) -> StorageBackend:
    return item if isinstance(item, StorageBackend) else open_store(item)
