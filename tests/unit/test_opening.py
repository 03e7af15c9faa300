"""From a URL to a store, and from settings to a registry: refused before anything is opened."""

from __future__ import annotations

import sys
from math import nan
from pathlib import Path

import pytest

import oppscan
import oppscan.sync
from oppscan import InvalidInput, Limits, LookupStep, MemoryBackend, StorageMisconfigured, TTLPolicy
from oppscan.backends.sqlite import SQLiteBackend
from oppscan.opening import open_store


def test_each_memory_url_is_a_new_store() -> None:
    assert isinstance(open_store("memory:"), MemoryBackend)
    assert isinstance(open_store("memory://"), MemoryBackend)
    assert open_store("memory:") is not open_store("memory:")


def test_sqlite_urls_are_relative_or_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative, absolute = open_store("sqlite:///a%20b.db"), open_store(f"sqlite:///{tmp_path}/c.db")
    assert isinstance(relative, SQLiteBackend)
    assert isinstance(absolute, SQLiteBackend)
    assert relative.path == tmp_path / "a b.db"
    assert absolute.path == tmp_path / "c.db"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379/0",
        "rediss://user:word@localhost",
        "unix:///run/redis.sock?db=1",
        "redis+sentinel://one,two:26379/main/0",
        "rediss+sentinel://one/main",
        "redis+cluster://one,two:7000",
        "rediss+cluster://one",
    ],
)
def test_redis_urls_open_without_connecting(url: str) -> None:
    for connect in (oppscan.connect, oppscan.sync.connect):
        assert "RedisBackend" in repr(connect(url))


def test_a_redis_url_without_the_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(InvalidInput, match=r"pip install 'oppscan\[redis\]'") as refused:
        oppscan.connect("redis://user:secret@localhost")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (7, "must be a str, not int"),
        ("", "names no store; known are memory:, sqlite:"),
        ("memory", "names no store"),
        ("mongodb://x", "names no store"),
        ("redis:", "names no Redis store"),
        ("memory:shared", "takes no address"),
        ("sqlite:a.db", "write sqlite:///relative.db"),
        ("sqlite://a.db", "write sqlite:///relative.db"),
        ("sqlite:///", "write sqlite:///relative.db"),
        ("sqlite:///:memory:", "write sqlite:///relative.db"),
        ("sqlite:///a.db?mode=ro", "without options"),
    ],
)
def test_a_url_that_names_no_store_is_refused(url: object, says: str) -> None:
    for connect in (oppscan.connect, oppscan.sync.connect):
        with pytest.raises(InvalidInput) as refused:
            connect(url)  # type: ignore[arg-type]
        assert says in str(refused.value)


def test_a_refused_url_shows_no_password() -> None:
    with pytest.raises(InvalidInput) as refused:
        oppscan.connect("mysql://me:secret@host/db")
    assert "secret" not in str(refused.value)
    assert "host/db" in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ttl": 60}, "ttl must be a TTLPolicy, not int"),
        ({"limits": {}}, "limits must be a Limits, not dict"),
        ({"namespace": "a/b"}, "namespace must be"),
        ({"op_timeout": 0}, "op_timeout must be between"),
        ({"op_timeout": nan}, "op_timeout must be a finite number"),
        ({"durability": "most"}, "durability must be one of"),
        ({"lookups": ["nowhere"]}, "lookups: 'nowhere'"),
        ({"fallbacks": ["nowhere:"]}, "'nowhere:' names no store"),
        ({"fallbacks": "memory:"}, "fallbacks must be a sequence, not 'memory:'"),
        ({"fallbacks": None}, "fallbacks must be a sequence, not None"),
        ({"lookups": "record"}, "lookups must be a sequence of steps, not 'record'"),
        ({"lookups": 5}, "lookups must be a sequence of steps, not 5"),
        ({"lookups": ["record", LookupStep(3, print)]}, "nor a LookupStep(name, function)"),  # type: ignore[arg-type]
        ({"lookups": ["record", LookupStep("x", 3)]}, "nor a LookupStep(name, function)"),  # type: ignore[arg-type]
        ({"observers": print}, "observers must be a sequence"),
        ({"observers": ["x"]}, "observers must be functions of an Event, not 'x'"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], says: str) -> None:
    for face in (oppscan, oppscan.sync):
        with pytest.raises(InvalidInput) as refused:
            face.ScanRegistry(MemoryBackend(), **settings)
        assert says in str(refused.value)


def test_a_backend_is_a_backend() -> None:
    with pytest.raises(InvalidInput, match="backend must be a StorageBackend, not str"):
        oppscan.ScanRegistry("memory:")  # type: ignore[arg-type]


def test_a_store_without_replicas_refuses_to_promise_them() -> None:
    with pytest.raises(StorageMisconfigured, match="MemoryBackend has no replicas"):
        oppscan.connect("memory:", durability="replicated")


def test_a_registry_takes_what_it_is_given() -> None:
    registry = oppscan.sync.connect(
        "memory:",
        ttl=TTLPolicy(lease=1),
        limits=Limits(max_strategies=1),
        fallbacks=["memory:", MemoryBackend()],
        namespace="mine",
        durability="default",
    )
    with pytest.raises(InvalidInput, match=r"Limits\.max_strategies"):
        registry.start("ann", ["a", "b"])
    assert repr(registry) == "ScanRegistry(MemoryBackend())"
    assert registry.ping() >= 0
