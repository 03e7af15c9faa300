"""Looks at the servers of a Redis store, and gathers the facts that `health` judges.

Laws
- Nothing is changed but one key of its own, which ends by itself.
- What a user may not ask is not known, and no fault: only the rights that the store needs count.
"""

# ruff: noqa: ANN401 - the clients and replies of redis-py are typed as they come

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from attrs import frozen
from redis import exceptions

from oppscan.backends.redis import faults
from oppscan.backends.redis.health import Facts, ServerFacts
from oppscan.backends.redis.requests import SHARDS
from oppscan.backends.redis.scripts import APPLY, READ, REHEARSE, SWEEP
from oppscan.clock import RandomIds, SystemClock, elapsed
from oppscan.errors import StorageMisconfigured

IN_SCRIPTS: Final = (
    "SET  PX 2000", "TIME", "TYPE", "EXISTS", "GET", "GETRANGE 0 1", "STRLEN", "SETRANGE 0 x",
    "APPEND x", "PTTL", "PEXPIRE 2000", "HGET x", "HSET x x", "HDEL x", "HLEN", "HGETALL",
    "ZADD 1 x", "ZSCORE x", "ZREM x", "ZCARD", "ZCOUNT 0 1", "ZRANGE 0 1", "ZREVRANGE 0 1",
    "ZRANGEBYSCORE 0 1", "ZREVRANGEBYSCORE 1 0", "PEXPIREAT 1", "DEL",
)  # fmt: skip
"""What the scripts call, the key left out, with arguments that do no harm to a key of one's own."""

BARE: Final = ("GET", "MGET", "HGET x", "ZRANGEBYSCORE 0 1")
"""What is sent by itself, to a key."""

SAMPLES: Final = 5
HEARING: Final = 1.0
"""Seconds in which a server must have confirmed that it will tell of news."""

PAGE: Final = 1000
MOST_PAGES: Final = 200
"""How much of a server is looked through for keys without TTL: its first 200,000 keys or so."""


def gather(client: Any, namespace: str, deadline: float) -> Facts:
    """Ask all servers that are written to; until ``deadline`` on the clock of `elapsed`."""
    servers, keys, whole = [], 0, True
    endless: list[str] = []
    for node in _servers(client, namespace):
        servers.append(_look_at(node))
        seen, without, all_seen = _endless(node.client, f"{{{namespace}:*", deadline)
        keys, whole = keys + seen, whole and all_seen
        endless += without
    cluster = hasattr(client, "nodes_manager")
    return Facts(
        tuple(servers),
        keys,
        tuple(endless),
        whole,
        _allowed(client.cluster_info) if cluster else None,
        None if cluster else _sentinels(client.connection_pool),
    )


@frozen
class _Server:
    name: str  # of a node of a cluster
    client: Any
    key: str | None


def _servers(client: Any, namespace: str) -> Iterator[_Server]:
    """List the servers that are written to, each with a key that lies there."""
    keys = [f"{{{namespace}:{shard}}}doctor-{RandomIds().operation()}" for shard in SHARDS]
    if not hasattr(client, "nodes_manager"):
        yield _Server("", client, keys[0])
        return
    homes = {client.get_node_from_key(key).name: key for key in keys}
    for node in client.get_primaries():
        yield _Server(node.name, client.get_redis_connection(node), homes.get(node.name))


def _allowed(ask: Callable[[], Any]) -> Any:
    """Ask what may be forbidden; None then."""
    try:
        return ask()
    except exceptions.ResponseError as error:  # who is not let in at all meets a ConnectionError
        if isinstance(faults.translate(error, ""), StorageMisconfigured):
            return None
        raise


def _look_at(server: _Server) -> ServerFacts:
    ahead, round_trip = _allowed(lambda: _time(server.client)) or (None, None)
    save = _allowed(lambda: server.client.config_get("save"))
    scripts = _allowed(lambda: server.client.script_exists(APPLY.sha, READ.sha, SWEEP.sha))
    return ServerFacts(
        server.name,
        _allowed(server.client.info),
        None if save is None else str(save.get("save", "")),
        ahead,
        round_trip,
        None if scripts is None else sum(map(bool, scripts)),
        () if server.key is None else tuple(_refused(server.client, server.key)),
        "" if server.key is None else _deaf(server),
    )


def _time(client: Any) -> tuple[int, float]:
    """Give by how much the server's clock is ahead, as the quickest of some round trips tells."""
    samples = []
    for _ in range(SAMPLES):
        began = elapsed()
        seconds, micros = client.execute_command("TIME")
        took = elapsed() - began
        here = SystemClock().now() - round(took * 500)
        samples.append((took, int(seconds) * 1000 + int(micros) // 1000, here))
    _, now, here = min(samples)
    return now - here, sorted(sample[0] for sample in samples)[SAMPLES // 2]


def _refused(client: Any, key: str) -> list[str]:
    """Try all commands of the store; give those that fail, and why."""
    words: list[str | int] = []
    for line in IN_SCRIPTS:
        command = line.split(" ")
        words += [len(command), *command]
    tried: list[tuple[str, Callable[[], Any]]] = [
        ("EVAL", lambda: client.execute_command("EVAL", REHEARSE.text, 1, key, *words)),
        ("EVALSHA", lambda: client.execute_command("EVALSHA", REHEARSE.sha, 1, key, *words)),
        ("SCAN", lambda: client.execute_command("SCAN", 0, "MATCH", key, "COUNT", 1)),
    ]
    for line in BARE:
        name, *rest = line.split(" ")
        tried.append((name, partial(client.execute_command, name, key, *rest)))
    refused: list[str] = []
    for name, attempt in tried:
        try:
            reply = attempt()
        except exceptions.ResponseError as error:
            refused.append(f"{name}: {error}")
        else:
            if name == "EVAL":
                refused += [_text(line) for line in reply]
    return refused


def _deaf(server: _Server) -> str:
    """Try to tell and to be told of news; give why that fails, ``""`` where it works."""
    listener = server.client.pubsub()
    try:
        if server.name:
            listener.ssubscribe(server.key)
            server.client.execute_command("SPUBLISH", server.key, "")
        else:
            listener.subscribe(server.key)
            server.client.execute_command("PUBLISH", server.key, "")
        listener.get_message(timeout=HEARING)
    except exceptions.ResponseError as error:
        return str(error)
    finally:
        listener.close()
    return ""


def _endless(client: Any, pattern: str, deadline: float) -> tuple[int, list[str], bool]:
    """Count the keys of a namespace, list those that never end; tell whether all were seen."""
    seen, endless, cursor = 0, list[str](), 0
    half = elapsed() + (deadline - elapsed()) / 2
    for _ in range(MOST_PAGES):
        page = _allowed(partial(client.scan, cursor, pattern, PAGE))
        if page is None or elapsed() > half:
            return seen, endless, False
        cursor, keys = page
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.pttl(key)
        left = _allowed(pipe.execute)
        if left is None:
            return seen, endless, False
        seen += len(keys)
        endless += [_text(key) for key, ttl in zip(keys, left, strict=True) if ttl == -1]
        if cursor == 0:
            return seen, endless, True
    return seen, endless, False


def _text(item: Any) -> str:
    return item.decode(errors="replace") if isinstance(item, bytes) else str(item)


def _sentinels(pool: Any) -> int | None:
    """Count the Sentinels that watch the master; None where there are none, or they won't say."""
    manager = getattr(pool, "sentinel_manager", None)
    if manager is None:
        return None
    others = [
        _allowed(partial(at.execute_command, "SENTINEL", "SENTINELS", pool.service_name))
        for at in manager.sentinels
    ]
    known = [len(found) + 1 for found in others if found is not None]
    return max(known, default=None)
