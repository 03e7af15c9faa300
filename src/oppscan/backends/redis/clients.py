"""redis-py clients as this store needs them, one for each process and event loop.

Laws
- Nothing is retried below us: every retry is the driver's, who repeats with the same ids.
- RESP2: its replies mean the same in all versions, and no push message is ever taken for one.
- A blocking connection waits no longer than the call that uses it may take; an awaiting one has
  no limits of its own, its caller's timeout cancels it and the connection is dropped.
"""

# ruff: noqa: ANN401 - the clients and replies of redis-py are typed as they come

from __future__ import annotations

import socket
from contextlib import suppress
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any, Final

import redis
import redis.asyncio
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.asyncio.connection import (
    UnixDomainSocketConnection as AsyncUnixDomainSocketConnection,
)
from redis.asyncio.connection import parse_url as parse_async_url
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import (
    Sentinel,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from oppscan.backends.redis.address import Address
from oppscan.clock import elapsed
from oppscan.errors import InvalidInput

CONCURRENCY: Final = 32
"""How many requests of one process and loop are under way at once; the others wait."""

ONE_NODE: Final = 0.5
"""The part of a call's time that is spent on one silent node of a cluster: there must be time to
ask another one who took over."""

_ALIKE: Final = 0.005
"""Seconds by which a wait may be off; setting a socket's timeout is a system call."""

HANDSHAKE: Final = 1.0
"""Seconds for a TLS handshake; a plain port never answers one, and there must be time to say so."""

_POOL: Final = CONCURRENCY * 2
_AT_SOCKETS: Final = (
    redis.UnixDomainSocketConnection,
    AsyncUnixDomainSocketConnection,
)
_FOREVER: Final = 2**31
DEADLINE: Final[ContextVar[float | None]] = ContextVar("DEADLINE", default=None)
"""When the blocking call under way must have ended, on the clock of `elapsed`."""

# redis-py tells each server its version, for which it parses its own metadata: up to 3 ms for
# each connection, and two round trips.
_UNNAMED: Final[dict[str, Any]] = (
    {"driver_info": None}
    if find_spec("redis.driver_info") is not None
    else {"lib_name": None, "lib_version": None}
)
_SETTINGS: Final[dict[str, Any]] = {
    "protocol": 2,
    "health_check_interval": 0,
    "socket_keepalive": True,
    "decode_responses": False,
    **_UNNAMED,
}
_UNBOUND: Final[dict[str, Any]] = {"socket_timeout": None, "socket_connect_timeout": None}


class _Bounded:
    """Mixed into redis-py's blocking connections: each wait ends with the call's deadline."""

    _sock: Any
    part = 1.0

    def _bound(self) -> float | None:
        deadline = DEADLINE.get()
        if deadline is None:
            return None
        left = deadline - elapsed()
        if left <= 0:
            raise redis.TimeoutError("the time for this operation is over")
        return left * self.part

    def _connect(self) -> Any:
        left = self._bound()
        if left is not None:
            self.socket_connect_timeout = self.socket_timeout = left
            if isinstance(self, redis.SSLConnection):
                self.socket_connect_timeout = self.socket_timeout = min(left, HANDSHAKE)
        return super()._connect()  # type: ignore[misc]

    def _bound_socket(self) -> None:
        left = self._bound()
        if self._sock is None or left is None:
            return
        now = self._sock.gettimeout()  # calls alike need not set it anew, twice for each
        if now is None or abs(now - left) > _ALIKE:
            self._sock.settimeout(left)

    def send_packed_command(self, *args: Any, **options: Any) -> Any:
        self._bound_socket()
        return super().send_packed_command(*args, **options)  # type: ignore[misc]

    def read_response(self, *args: Any, **options: Any) -> Any:
        self._bound_socket()
        return super().read_response(*args, **options)  # type: ignore[misc]


def _bounded(kind: type, part: float = 1.0) -> type:
    return type(f"Bounded{kind.__name__}", (_Bounded, kind), {"part": part})


def _untyped(callee: Any) -> Any:
    """Call what redis-py left without types."""
    return callee


def _retry(times: int) -> Retry:
    return Retry(_untyped(NoBackoff)(), times)


def make_blocking(address: Address) -> Any:
    """Make a blocking client; it connects when it is first used."""
    options = _blocking_options(address)
    if address.kind == "single":
        kind = _bounded(options.pop("connection_class", redis.Connection))
        pool = redis.ConnectionPool(connection_class=kind, **options)
        return redis.Redis(connection_pool=pool)
    options = _without_place(options)
    if address.kind == "sentinel":
        quiet = {**_SETTINGS, "retry": _retry(0), **address.sentinel}
        secure = options.pop("connection_class", None) is not None
        managed = SentinelManagedSSLConnection if secure else SentinelManagedConnection
        sentinel = _untyped(Sentinel)(
            [],
            sentinel_kwargs=quiet,
            connection_class=_bounded(managed),
            **options,
        )
        kind = _bounded(redis.Connection)
        sentinel.sentinels = [
            redis.Redis(
                connection_pool=redis.ConnectionPool(
                    connection_class=kind, host=host, port=port, **quiet
                )
            )
            for host, port in address.hosts
        ]
        return sentinel.master_for(address.service)
    return _untyped(RedisCluster)(
        url=address.base,
        startup_nodes=[_untyped(ClusterNode)(host, port) for host, port in address.hosts],
        connection_class=_bounded(options.pop("connection_class", redis.Connection), ONE_NODE),
        **_cluster_options(options, _retry(1)),
    )


def make_async(address: Address) -> Any:
    """Make an awaiting client for the running loop; it connects when it is first used."""
    patient = {**_UNBOUND, "retry": AsyncRetry(_untyped(NoBackoff)(), 0)}
    quiet = {**_SETTINGS, **patient}
    options = _options(patient, {**parse_async_url(address.base)})
    if address.kind == "single":
        if issubclass(options.get("connection_class", object), redis.asyncio.SSLConnection):
            options["socket_connect_timeout"] = HANDSHAKE
        pool = redis.asyncio.ConnectionPool(**options)
        return redis.asyncio.Redis(connection_pool=pool)
    options = _without_place(options)
    if address.kind == "sentinel":
        secure = options.pop("connection_class", None) is not None
        sentinel = _untyped(AsyncSentinel)(
            list(address.hosts),
            sentinel_kwargs={**quiet, **address.sentinel},
            ssl=secure,
            **options,
        )
        return sentinel.master_for(address.service)
    secure = options.pop("connection_class", None) is not None
    return AsyncRedisCluster(
        startup_nodes=[AsyncClusterNode(host, port) for host, port in address.hosts],
        ssl=secure,
        **_cluster_options(
            {**options, "max_connections": _FOREVER}, AsyncRetry(_untyped(NoBackoff)(), 1)
        ),
    )


def _blocking_options(address: Address) -> dict[str, Any]:
    return _options({"retry": _retry(0)}, _untyped(parse_url)(address.base))


def _options(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Give the options of connections: those of a URL count more than ours."""
    options = {**_SETTINGS, "max_connections": _POOL, **ours, **theirs}
    if issubclass(options.get("connection_class", object), _AT_SOCKETS):
        del options["socket_keepalive"]  # TCP's
    return options


def check(address: Address) -> None:
    """Refuse what redis-py does not know as an option, by making a connection; no I/O."""
    if address.kind != "single":
        return
    try:
        options = _blocking_options(address)
        del options["max_connections"]
        options.pop("connection_class", redis.Connection)(**options)
    except Exception as error:  # each version of redis-py has its own words for it
        raise InvalidInput(f"{address.shown}: redis-py refuses an option: {error}") from error


def speaks_plainly(host: str, port: int) -> bool:
    """Tell whether a port that would not shake hands over TLS answers without."""
    with suppress(OSError), socket.create_connection((host, port), _PROBE) as plain:
        plain.settimeout(_PROBE)
        plain.sendall(b"PING\r\n")
        return plain.recv(1) in {b"+", b"-"}
    return False


_PROBE: Final = 0.2


def _without_place(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in {"host", "port"}}


def _cluster_options(options: dict[str, Any], retry: Any) -> dict[str, Any]:
    """Give the options of a cluster client: it has no databases, and its own idea of retrying.

    It follows slots that moved; after an error it asks for the topology and tries once more.
    """
    options = {
        name: value for name, value in options.items() if name not in {"db", "retry", *_UNNAMED}
    }
    if _MAJOR < _RETRY_OBJECTS:
        return {**options, "cluster_error_retry_attempts": 1}
    return {**options, "retry": retry}


_MAJOR: Final = int(redis.__version__.partition(".")[0])
_RETRY_OBJECTS: Final = 6
"""The major version of redis-py whose cluster clients take a `Retry`."""
