"""The stores that hosts are tried on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.redis.servers import Server, running


@pytest.fixture(scope="session")
def valkey() -> Iterator[Server]:
    with running(server := Server("valkey-9.1")):
        yield server
        ours = [key for key in server.keys_for_ever() if key.startswith(b"{")]
        server.empty()  # queues keep lists of their own for ever
        assert ours == []


@pytest.fixture
def redis_url(valkey: Server) -> str:
    """Give the URL of an empty Redis store."""
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    return valkey.url


@pytest.fixture(params=["sqlite", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of an empty store that several processes can share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'scans.db'}"
    return str(request.getfixturevalue("redis_url"))
