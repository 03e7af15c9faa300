"""The contract of a store, kept by Redis and Valkey: one server, a cluster, and the fast fake."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis, FakeServer, FakeStrictRedis

from oppscan.backends.base import StorageBackend
from oppscan.backends.redis import RedisBackend
from oppscan.testing.clock import ManualClock
from oppscan.testing.contract import StoreContract
from oppscan.testing.world import LoseKey, OpenStore
from tests.redis.losing import lose
from tests.redis.servers import Server
from tests.redis.stepped import own_clocks_stand_still, step_server


class _RedisContract(StoreContract):
    """The scripts of a store are told the time, so that no case waits and none is left out."""

    @pytest.fixture
    def lose_key(self) -> LoseKey:
        return lose


Opener = Callable[[str, str], OpenStore]


@pytest.fixture
def opener(monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Give what opens the stores at two URLs on a manual clock."""

    def of(first: str, second: str) -> OpenStore:
        def opened(manual: ManualClock, name: str) -> StorageBackend:
            step_server(monkeypatch, manual)
            made = RedisBackend({"first": first, "second": second}[name])
            made.clock = manual
            return made

        return opened

    return of


class TestValkey(_RedisContract):
    @pytest.fixture
    def open_store(self, opener: Opener, valkey: Server) -> OpenStore:
        return opener(valkey.url, valkey.url.replace("/0", "/1"))


class TestRedis8(_RedisContract):
    @pytest.fixture
    def open_store(self, opener: Opener, redis_8: Server) -> OpenStore:
        return opener(redis_8.url, redis_8.url.replace("/0", "/1"))


class TestRedis6(_RedisContract):
    @pytest.fixture
    def open_store(self, opener: Opener, redis_6: Server) -> OpenStore:
        return opener(redis_6.url, redis_6.url.replace("/0", "/1"))


class TestCluster(_RedisContract):
    @pytest.fixture
    def open_store(self, opener: Opener, valkey_cluster: str, valkey: Server) -> OpenStore:
        return opener(valkey_cluster, valkey.url)


class TestSentinel(_RedisContract):
    @pytest.fixture
    def open_store(self, opener: Opener, valkey_sentinel: str) -> OpenStore:
        return opener(valkey_sentinel, valkey_sentinel.replace("/0", "/1"))


class TestFake(_RedisContract):
    """The fast loop: no server, the same scripts."""

    @pytest.fixture
    def open_store(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenStore]:
        servers = {"first": FakeServer(), "second": FakeServer()}

        def opened(manual: ManualClock, name: str) -> StorageBackend:
            monkeypatch.setattr(time, "time", lambda: manual.now() / 1000)  # the fake's own
            own_clocks_stand_still(monkeypatch, manual)
            server = servers[name]
            made = RedisBackend(
                FakeAsyncRedis(server=server), blocking=FakeStrictRedis(server=server)
            )
            made.clock = manual
            return made

        yield opened
        for server in servers.values():
            client: Any = FakeStrictRedis(server=server)
            assert [key for key in client.scan_iter() if client.pttl(key) == -1] == []
