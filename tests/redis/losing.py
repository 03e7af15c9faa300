"""The keys of a Redis store seen from outside: losing one, as eviction does; finding leaks."""

from __future__ import annotations

from typing import Any, Final

from oppscan.backends.base import StorageBackend
from oppscan.backends.redis import RedisBackend, layout
from oppscan.testing.loss import Kind

WHOLE: Final[dict[str, str]] = {"head": "r", "spec": "r", "events": "r", "data": "d"}
"""The logical parts of a scan, and the key that each lies under: a record is lost as a whole."""


def lose(backend: StorageBackend, namespace: str, kind: Kind, scan_id: str) -> None:
    """Take away what holds one logical key of a scan."""
    assert isinstance(backend, RedisBackend)
    client: Any = backend._blocking_face().client  # noqa: SLF001
    tag, scan = scan_id.partition("-")[0], layout.short(scan_id)
    if kind in WHOLE:
        client.delete(layout.key(namespace, WHOLE[kind], scan_id))
    elif kind == "due":
        client.zrem(layout.due_key(namespace, layout.shard_of(tag)), layout.due_member(scan_id))
    elif kind == "latest":
        client.hdel(layout.key(namespace, "q", tag), "")
    elif kind == "pointer":
        name = layout.key(namespace, "q", tag)
        for pointer, value in client.hgetall(name).items():
            if pointer and value[12:] == scan:
                client.hdel(name, pointer)
    elif kind == "index":
        for letter in "io":
            client.delete(layout.key(namespace, letter, tag))
    else:
        client.hdel(layout.key(namespace, "i", tag), scan)
        client.zrem(layout.key(namespace, "o", tag), scan)


def keys_of(backend: RedisBackend, namespace: str) -> list[str]:
    """List the keys of a namespace, on all nodes."""
    client: Any = backend._blocking_face().client  # noqa: SLF001
    nodes = {"target_nodes": "primaries"} if hasattr(client, "nodes_manager") else {}
    return [key.decode() for key in client.scan_iter(f"{{{namespace}:*", 1000, **nodes)]


def keys_without_ttl(backend: RedisBackend, namespace: str) -> list[str]:
    """List the keys of a namespace that would stay for ever."""
    client: Any = backend._blocking_face().client  # noqa: SLF001
    return [key for key in keys_of(backend, namespace) if client.pttl(key) == -1]
