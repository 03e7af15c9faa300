"""Where a Redis store is, read from a URL. Pure.

=============================================  ==================================================
URL                                            store
=============================================  ==================================================
``redis://user:word@host:6379/0``              one server; ``rediss:`` over TLS; ``unix:`` a socket
``redis+sentinel://host:26379,host2/name/0``   the master called ``name``, found by Sentinels
``redis+cluster://host:7000,host2:7001``       a cluster; ``rediss+cluster:`` over TLS
=============================================  ==================================================

Sentinel's own password goes in the query: ``?sentinel_password=…``; other options are those of
redis-py's connections.
"""

from __future__ import annotations

from typing import Any, Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from attrs import field, frozen

from oppscan.errors import InvalidInput

Kind = Literal["single", "sentinel", "cluster"]
SCHEMES: Final[dict[str, Kind]] = {
    "redis": "single",
    "rediss": "single",
    "unix": "single",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
_PORTS: Final[dict[Kind, int]] = {"single": 6379, "sentinel": 26379, "cluster": 6379}


@frozen
class Address:
    """Where to connect to. ``base`` is a URL that redis-py reads: options, user and password."""

    kind: Kind
    base: str = field(repr=False)
    hosts: tuple[tuple[str, int], ...]
    service: str = ""
    sentinel: dict[str, Any] = field(factory=dict, repr=False)
    shown: str = ""

    @property
    def first(self) -> tuple[str, int]:
        """The host and port that are asked first."""
        parts = urlsplit(self.base)
        return parts.hostname or "localhost", parts.port or _PORTS["single"]


def parse(url: str) -> Address:
    """Read a URL; `InvalidInput` for one that names no store."""
    scheme, _, rest = url.partition(":")
    kind = SCHEMES.get(scheme)
    shown = f"{scheme}://{rest.removeprefix('//').rpartition('@')[2].partition('?')[0]}"
    if kind is None or not rest.startswith("//"):
        raise InvalidInput(f"{shown!r} names no Redis store; known are {', '.join(SCHEMES)}")
    if kind == "single":
        _place(urlsplit(url).netloc.rpartition("@")[2] or "localhost", kind, shown)
        return Address(kind, url, (), shown=shown)
    authority, _, tail = rest[2:].partition("/")
    if "?" in authority:
        authority, _, query = authority.partition("?")
        tail = f"?{query}"
    path, _, query = tail.partition("?")
    user, at, hosts = authority.rpartition("@")
    places = tuple(_place(host, kind, shown) for host in hosts.split(","))
    service, db = "", path.strip("/")
    if kind == "sentinel":
        service, _, db = db.partition("/")
        if not service:
            raise InvalidInput(f"{shown!r}: name the master: redis+sentinel://host,host/NAME/0")
    if (db and not db.isdecimal()) or (kind == "cluster" and db not in {"", "0"}):
        raise InvalidInput(f"{shown!r}: the database must be a number, and 0 in a cluster")
    own, foreign = _split_query(query)
    host, port = places[0]
    shown_host = f"[{host}]" if ":" in host else host
    base = f"{scheme.partition('+')[0]}://{user}{at}{shown_host}:{port}/{db or 0}{own}"
    return Address(kind, base, places, unquote(service), foreign, shown)


def _place(text: str, kind: Kind, shown: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInput(f"{shown!r}: {error}") from error
    if not host:
        raise InvalidInput(f"{shown!r} names no host")
    return host, port or _PORTS[kind]


def _split_query(query: str) -> tuple[str, dict[str, Any]]:
    """Part the options of the master's connections from those of the Sentinels' own."""
    prefix = "sentinel_"
    pairs = [pair for pair in query.split("&") if pair]
    own = "&".join(pair for pair in pairs if not pair.startswith(prefix))
    foreign = parse_qs("&".join(pair for pair in pairs if pair.startswith(prefix)))
    options = {name.removeprefix(prefix): values[-1] for name, values in foreign.items()}
    return (f"?{own}" if own else ""), options
