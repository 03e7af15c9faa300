"""Servers that the tests of the Redis store share, one of each kind for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis.servers import Server, cluster, running, sentinel


@pytest.fixture(scope="session")
def valkey() -> Iterator[Server]:
    with running(server := Server("valkey-9.1")):
        yield server


@pytest.fixture(scope="session")
def redis_8() -> Iterator[Server]:
    with running(server := Server("redis-8.2")):
        yield server


@pytest.fixture(scope="session")
def redis_6() -> Iterator[Server]:
    with running(server := Server("redis-6.2")):
        yield server


@pytest.fixture(scope="session")
def valkey_cluster() -> Iterator[str]:
    with cluster("valkey-9.1") as url:
        yield url


@pytest.fixture(scope="session")
def valkey_sentinel() -> Iterator[str]:
    with sentinel("valkey-9.1") as (url, _, _):
        yield url


@pytest.fixture(params=["valkey", "redis_8", "redis_6"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of the servers in turn."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Server)
    return found


@pytest.fixture(params=["valkey", "redis_8", "redis_6", "valkey_cluster"])
def url(request: pytest.FixtureRequest) -> str:
    """Each of the servers in turn, and a cluster."""
    found = request.getfixturevalue(request.param)
    return found.url if isinstance(found, Server) else str(found)
