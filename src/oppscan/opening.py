"""From a URL to a store, and from settings to what the registries share. No I/O.

===============================  ====================================================
URL                              store
===============================  ====================================================
``memory:``                      a new `MemoryBackend`, each time
``sqlite:///a.db``               `SQLiteBackend`, relative to the working directory
``sqlite:////x/a.db``            `SQLiteBackend`, absolute
``redis:`` ``rediss:`` ``unix:``  `RedisBackend`: one server; over TLS; at a socket
``redis+sentinel:``              the master that Sentinels name (``rediss+sentinel:``)
``redis+cluster:``               a cluster (``rediss+cluster:``)
===============================  ====================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar, cast

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


def _open_redis(url: str, rest: str) -> StorageBackend:
    del rest
    try:
        import redis.asyncio  # noqa: F401 - to tell what is missing from what is broken
    except ImportError as error:
        msg = f"{_without_secrets(url)!r} needs an extra: pip install 'oppscan[redis]'"
        raise InvalidInput(msg) from error
    from oppscan.backends.redis import RedisBackend

    return RedisBackend(url)


_OPENERS: Final[dict[str, Callable[[str, str], StorageBackend]]] = {
    "memory": _open_memory,
    "sqlite": _open_sqlite,
    "redis": _open_redis,
    "rediss": _open_redis,
    "unix": _open_redis,
    "redis+sentinel": _open_redis,
    "rediss+sentinel": _open_redis,
    "redis+cluster": _open_redis,
    "rediss+cluster": _open_redis,
}


def _without_secrets(url: str) -> str:
    """Drop user and password from a URL that will be shown."""
    scheme, slashes, rest = url.partition("//")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"


class BaseRegistry:
    """What registries of both faces are made of: their stores, settings and operations."""

    def __init__(
        self,
        backend: StorageBackend,
        *,
        ttl: TTLPolicy | None = None,
        limits: Limits | None = None,
        fallbacks: Sequence[Fallback] = (),
        lookups: Sequence[str | LookupStep] | None = None,
        namespace: str = "oppscan",
        observers: Sequence[Observer] = (),
        op_timeout: float = OP_TIMEOUT,
        durability: str = "default",
        ids: IdSource | None = None,
    ) -> None:
        if not isinstance(backend, StorageBackend):
            msg = f"backend must be a StorageBackend, not {type(backend).__name__}"
            raise InvalidInput(msg)
        if durability not in DURABILITIES:
            msg = f"durability must be one of {DURABILITIES}, not {durability!r}"
            raise InvalidInput(msg)
        backend.require(durability)
        policy, bounds = _instance(ttl, TTLPolicy, "ttl"), _instance(limits, Limits, "limits")
        backends = (backend, *map(_fallback, _listed(fallbacks, "fallbacks")))
        told = tuple(_observer(item) for item in _listed(observers, "observers"))
        sources = Sources(len(backends), check_steps(lookups), bounds.max_remembered)
        timeout = duration(op_timeout, "op_timeout")
        self._stores = Stores(backends, check_namespace(namespace), timeout, told)
        self._operations = Operations(Scope(sources, policy, bounds, ids or RandomIds(), Near()))
        self._first = backend
        self._clock = backend.clock

    def __repr__(self) -> str:
        """Name the store."""
        return f"{type(self).__name__}({self._stores.backends[0]!r})"


def _instance(value: T | None, kind: type[T], what: str) -> T:
    if value is not None and not isinstance(value, kind):
        msg = f"{what} must be a {kind.__name__}, not {type(value).__name__}"
        raise InvalidInput(msg)
    return kind() if value is None else value


def _listed(items: object, what: str) -> Iterable[Any]:
    if isinstance(items, str) or not isinstance(items, Iterable):
        msg = f"{what} must be a sequence, not {items!r}"
        raise InvalidInput(msg)
    return items


def _observer(item: object) -> Observer:
    if not callable(item):
        msg = f"observers must be functions of an Event, not {item!r}"
        raise InvalidInput(msg)
    return cast("Observer", item)


def _fallback(item: Fallback) -> StorageBackend:
    return item if isinstance(item, StorageBackend) else open_store(item)
