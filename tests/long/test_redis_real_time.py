"""The contract of a store, kept by a server with nothing replaced: time is real, so it waits."""

from __future__ import annotations

from typing import ClassVar

import pytest

from oppscan.backends.redis import RedisBackend
from oppscan.testing.contract import StoreContract
from oppscan.testing.world import LoseKey, OpenStore
from tests.redis.losing import lose
from tests.redis.servers import Server


class TestValkeyInRealTime(StoreContract):
    real_time: ClassVar[bool] = True
    unit: ClassVar[float] = 0.1

    @pytest.fixture
    def lose_key(self) -> LoseKey:
        return lose

    @pytest.fixture
    def open_store(self, valkey: Server) -> OpenStore:
        urls = {"first": valkey.url, "second": valkey.url.replace("/0", "/1")}
        return lambda _manual, name: RedisBackend(urls[name])
