"""URLs of Redis stores: what they mean, and that none of them shows its password."""

from __future__ import annotations

import pytest

from oppscan import InvalidInput
from oppscan.backends.redis import RedisBackend, address

SECRET = "s3cret"  # noqa: S105 - nobody's


@pytest.mark.parametrize(
    "url",
    [
        "redis:",
        "http://localhost",
        "redis://localhost:notaport/0",
        "redis+sentinel://localhost:26379",
        "redis+sentinel://localhost/main/zero",
        "redis+cluster://localhost/3",
        "redis+cluster://,localhost",
        f"redis+cluster://user:{SECRET}@local host:x",
    ],
)
def test_what_names_no_store_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        RedisBackend(url)
    assert SECRET not in str(caught.value)


def test_a_sentinel_url_names_hosts_service_and_database() -> None:
    url = f"redis+sentinel://user:{SECRET}@one:1,two/main/3?ssl_cert_reqs=none&sentinel_password=x"
    found = address.parse(url)
    assert found.hosts == (("one", 1), ("two", 26379))
    assert (found.service, found.sentinel) == ("main", {"password": "x"})
    assert found.base == f"redis://user:{SECRET}@one:1/3?ssl_cert_reqs=none"


def test_a_cluster_url_names_hosts() -> None:
    found = address.parse("rediss+cluster://one,[::1]:7001")
    assert found.hosts == (("one", 6379), ("::1", 7001))
    assert found.base == "rediss://one:6379/0"


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "redis+cluster"])
def test_no_store_shows_its_password(scheme: str) -> None:
    tail = "/main" if "sentinel" in scheme else ""
    store = RedisBackend(f"{scheme}://user:{SECRET}@localhost:1{tail}?password={SECRET}")
    assert SECRET not in repr(store)
    assert SECRET not in repr(store.__dict__["_address"])
    assert "localhost" in repr(store)


def test_what_is_neither_url_nor_client_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not int"):
        RedisBackend(6379)
