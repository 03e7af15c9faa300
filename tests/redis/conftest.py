"""Servers that the tests of the Redis store share, one of each kind for the whole run.

All that needs one is marked ``server``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from oppscan.testing.contract import StoreContract
from oppscan.testing.world import FACES
from tests.redis.asking import Asker
from tests.redis.servers import Server, cluster, running, sentinel

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a real server: what is here and does not run on the fake."""
    for item in items:
        if HERE in item.path.parents and "fake" not in item.nodeid.lower():
            item.add_marker(pytest.mark.server)
            case = item.getparent(pytest.Class)
            if case is not None and issubclass(case.obj, StoreContract):
                item.add_marker(pytest.mark.again)


@pytest.fixture(scope="session")
def shared() -> list[Server]:
    """List the servers that run for the whole session."""
    return []


@pytest.fixture(autouse=True)
def no_key_stays_for_ever(shared: list[Server]) -> Iterator[None]:
    """G12, after each test: every key that it left will go. Then the servers are emptied."""
    yield
    left = {server.url: server.keys_for_ever() for server in shared}
    for server in shared:
        server.empty()
    assert {url: keys for url, keys in left.items() if keys} == {}


def _shared(server: Server, shared: list[Server]) -> Iterator[Server]:
    with running(server):
        shared.append(server)
        yield server
        shared.remove(server)


@pytest.fixture(scope="session")
def valkey(shared: list[Server]) -> Iterator[Server]:
    yield from _shared(Server("valkey-9.1"), shared)


@pytest.fixture(scope="session")
def redis_8(shared: list[Server]) -> Iterator[Server]:
    yield from _shared(Server("redis-8.2"), shared)


@pytest.fixture(scope="session")
def redis_6(shared: list[Server]) -> Iterator[Server]:
    yield from _shared(Server("redis-6.2"), shared)


@pytest.fixture(scope="session")
def valkey_cluster(shared: list[Server]) -> Iterator[str]:
    with cluster("valkey-9.1") as (url, nodes):
        shared += nodes
        yield url
        shared[:] = [server for server in shared if server not in nodes]


@pytest.fixture(scope="session")
def valkey_sentinel(shared: list[Server]) -> Iterator[str]:
    with sentinel("valkey-9.1") as (url, master, _):
        shared.append(master)
        yield url
        shared.remove(master)


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that a test may ruin."""
    with running(server := Server("valkey-9.1")):
        yield server


@pytest.fixture(params=FACES)
def asker(request: pytest.FixtureRequest) -> Iterator[Asker]:
    """Each of the faces in turn."""
    asker = Asker(request.param)
    yield asker
    asker.close()


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
