"""The contract of a store, kept by Redis and Valkey: one server, a cluster, and the fast fake."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
from fakeredis import FakeAsyncRedis, FakeServer, FakeStrictRedis

from oppscan.backends.base import StorageBackend
from oppscan.testing.clock import ManualClock
from oppscan.testing.contract import StoreContract
from oppscan.testing.world import LoseKey, OpenStore
from tests.redis.losing import lose
from tests.redis.servers import Server
from tests.redis.store.redis import RedisBackend


class _RedisContract(StoreContract):
    """The server's clock is the clock, and time is real."""

    real_time: ClassVar[bool] = True
    unit: ClassVar[float] = 0.05

    @pytest.fixture
    def lose_key(self) -> LoseKey:
        return lose


def _opener(urls: dict[str, str]) -> Callable[[ManualClock, str], StorageBackend]:
    return lambda _clock, name: RedisBackend(urls[name])


class TestValkey(_RedisContract):
    @pytest.fixture
    def open_store(self, valkey: Server) -> OpenStore:
        return _opener({"first": valkey.url, "second": valkey.url.replace("/0", "/1")})


class TestRedis8(_RedisContract):
    @pytest.fixture
    def open_store(self, redis_8: Server) -> OpenStore:
        return _opener({"first": redis_8.url, "second": redis_8.url.replace("/0", "/1")})


class TestRedis6(_RedisContract):
    @pytest.fixture
    def open_store(self, redis_6: Server) -> OpenStore:
        return _opener({"first": redis_6.url, "second": redis_6.url.replace("/0", "/1")})


class TestCluster(_RedisContract):
    @pytest.fixture
    def open_store(self, valkey_cluster: str, valkey: Server) -> OpenStore:
        return _opener({"first": valkey_cluster, "second": valkey.url})


class TestSentinel(_RedisContract):
    @pytest.fixture
    def open_store(self, valkey_sentinel: str) -> OpenStore:
        return _opener({"first": valkey_sentinel, "second": valkey_sentinel.replace("/0", "/1")})


class TestFake(_RedisContract):
    """The fast loop: no server, the same script."""

    @pytest.fixture
    def open_store(self) -> OpenStore:
        servers = {"first": FakeServer(), "second": FakeServer()}

        def opened(clock: ManualClock, name: str) -> StorageBackend:
            server = servers[name]
            return RedisBackend(
                FakeAsyncRedis(server=server), blocking=FakeStrictRedis(server=server)
            )

        return opened
