"""Reaching a server: by a socket, with the options of a URL, from loops that come and go."""

from __future__ import annotations

import asyncio
import gc
import signal
import warnings

import pytest
import redis.exceptions

import oppscan.sync
from oppscan import (
    ClaimLost,
    DurabilityNotConfirmed,
    InvalidInput,
    ScanRegistry,
    StorageMisconfigured,
    StorageUnavailable,
)
from oppscan.backends.redis import RedisBackend, faults
from oppscan.checkup import check_up
from oppscan.testing import FaultyStore
from tests.redis.asking import Asker
from tests.redis.servers import Server, running, sentinel, wait_until


def test_a_server_at_a_socket_is_reached(asker: Asker) -> None:
    server = Server("valkey-9.1", "unixsocket s")
    with running(server):
        url = f"unix://{server.folder}/s?db=1"

        async def use(registry: ScanRegistry) -> bool:
            ticket = await registry.start("ann", ["alpha"])
            waiting = asyncio.create_task(registry.wait(ticket.scan_id, timeout=10))
            await registry.cancel(ticket.scan_id)
            return (await waiting).done

        assert asker.use(url, use)
        assert "mend" in {finding.severity for finding in check_up(url)}  # without persistence


@pytest.mark.parametrize("option", ["nonsense=1", "health_check_interval=x", "protocol=x"])
def test_an_option_that_the_client_does_not_know_is_refused_at_once(option: str) -> None:
    with pytest.raises(InvalidInput, match=r"redis://host:1/0.* refuses an option"):
        oppscan.connect(f"redis://host:1/0?{option}")


def test_options_of_a_url_count_more_than_ours(asker: Asker, valkey: Server) -> None:
    async def use(registry: ScanRegistry) -> int:
        tickets = [registry.start(f"owner-{number}", ["alpha"]) for number in range(20)]
        return len(await asyncio.gather(*tickets))

    assert asker.use(f"{valkey.url}?max_connections=2&socket_keepalive=no", use) == 20


def test_loops_that_are_over_keep_no_connections(valkey: Server) -> None:
    registry = ScanRegistry(RedisBackend(valkey.url))

    async def use() -> float:
        return await registry.ping()

    def connections() -> int:
        with valkey.client() as client:
            return len(client.client_list())

    before = connections()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # who closes nothing is told so
        for _ in range(20):
            asyncio.run(use())
        gc.collect()
        wait_until(lambda: connections() <= before + 1, "closing")
        asyncio.run(registry.aclose())
        gc.collect()
    wait_until(lambda: connections() <= before, "closing the last one")


def test_g7_who_was_replaced_is_not_told_that_it_wrote() -> None:
    with sentinel("valkey-9.1") as (url, _, replica):
        store = FaultyStore(RedisBackend(url))
        registry = oppscan.sync.ScanRegistry(
            store, durability="replicated", op_timeout=1.5, ttl=oppscan.TTLPolicy(lease=0.2)
        )
        ticket = registry.start("ann", ["alpha"], key="k")
        claim = registry.claim(ticket.scan_id)
        claim.__enter__()
        store.freeze()
        with oppscan.sync.connect(url) as other:
            wait_until(lambda: other.status(ticket.scan_id).stalled, "the end of the lease")
            with other.claim(ticket.scan_id) as taken:
                taken.release()
        replica.send(signal.SIGSTOP)
        with pytest.raises(StorageUnavailable):
            claim.strategy_finished("alpha", [])
        with pytest.raises(DurabilityNotConfirmed):
            registry.start("bob", ["alpha"])
        replica.send(signal.SIGCONT)
        with pytest.raises(ClaimLost):
            claim.strategy_finished("alpha", [])
        claim.__exit__(None, None, None)
        store.thaw()
        registry.close()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Error -2 connecting to ssl-redis.invalid:6379. Name not known.", StorageUnavailable),
        ("Error 111 connecting to certificates:6379. Connection refused.", StorageUnavailable),
        ("Error 1 connecting to x:1. [SSL: WRONG_VERSION_NUMBER] wrong.", StorageMisconfigured),
    ],
)
def test_i6_a_host_s_name_makes_no_outage_a_wrong_setting(text: str, kind: type[Exception]) -> None:
    assert type(faults.translate(redis.exceptions.ConnectionError(text), "it")) is kind
