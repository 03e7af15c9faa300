"""How often a store is spoken to: counted on the connections, for each operation."""

# ruff: noqa: ANN401 - commands and replies of any kind

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest
import redis
import redis.asyncio as redis_asyncio

import oppscan
import oppscan.sync
from oppscan import Reuse
from oppscan.backends.redis import layout
from tests.redis.asking import Asker
from tests.redis.servers import Server

Body = Callable[[oppscan.ScanRegistry], Coroutine[Any, Any, Any]]


class _Count:
    """How many times something was sent."""

    sent = 0


def _pool_of(server: Server, *, blocking: bool, count: _Count) -> Any:
    if blocking:

        class Counted(redis.Connection):
            def send_packed_command(self, *args: Any, **options: Any) -> Any:
                count.sent += 1
                send: Any = super().send_packed_command
                return send(*args, **options)

        return redis.ConnectionPool(connection_class=Counted, port=server.port, protocol=2)

    class CountedAsync(redis_asyncio.Connection):
        async def send_packed_command(self, *args: Any, **options: Any) -> Any:
            count.sent += 1
            return await super().send_packed_command(*args, **options)

    return redis_asyncio.ConnectionPool(connection_class=CountedAsync, port=server.port, protocol=2)


async def _every_operation(registry: oppscan.ScanRegistry, count: _Count) -> dict[str, int]:
    """Make each operation; give how often something was sent for it."""
    costs: dict[str, int] = {}

    async def cost(name: str, call: Any) -> Any:
        before = count.sent
        answer = await call
        costs[name] = count.sent - before
        return answer

    ticket = await cost("start", registry.start("ann", ["alpha", "beta", "gamma"]))
    await cost("a start of its own", registry.start("ann", ["alpha"], reuse=Reuse.NEVER))
    await cost("join", registry.start("ann", ["alpha", "beta", "gamma"]))
    claim = registry.claim(ticket.scan_id)
    held = await cost("claim", claim.__aenter__())
    await cost("started", held.strategy_started("alpha"))
    await cost("finished", held.strategy_finished("alpha", [{"n": 1}]))
    await cost("failed", held.strategy_failed("beta", "no feed"))
    await cost("skipped", held.strategy_skipped("gamma", "no need"))
    await cost("heartbeat", held.heartbeat())
    for number in range(20):  # more than look at the owner's index
        await cost(f"status {number}", registry.status(ticket.scan_id))
    await cost("partial", registry.results(ticket.scan_id, partial=True))
    await cost("latest", registry.latest("ann"))
    await cost("active", registry.has_active_scan("ann"))
    await cost("history", registry.history("ann"))
    await cost("complete", held.complete())
    await claim.__aexit__(None, None, None)
    await cost("results", registry.results(ticket.scan_id))
    await cost("finished status", registry.status(ticket.scan_id))
    await cost("extend", registry.extend(ticket.scan_id, 9000))
    return costs


def _use_counted(asker: Asker, server: Server, count: _Count, use: Body) -> Any:
    """Run a body over a pool that counts."""
    pool = _pool_of(server, blocking=asker.runner is None, count=count)

    async def then_close(registry: oppscan.ScanRegistry) -> Any:
        answer = await use(registry)
        closing = pool.disconnect()
        if closing is not None:
            await closing
        return answer

    return asker.use(pool, then_close)


@pytest.fixture
def count() -> _Count:
    return _Count()


def test_round_trips_of_each_operation(asker: Asker, server: Server, count: _Count) -> None:
    async def use(registry: oppscan.ScanRegistry) -> dict[str, int]:
        await _every_operation(registry, count)  # connects, and teaches the scripts
        await registry.forget((await registry.latest("ann")).scan_id)
        with server.client() as client:
            client.flushall()
        return await _every_operation(registry, count)

    costs = _use_counted(asker, server, count, use)
    two = {"join", "claim", "extend"}
    assert costs == {name: 2 if name in two else 1 for name in costs}


def test_a_poll_that_needs_a_fallback_is_one_round_trip_too_but_for_the_first(
    asker: Asker, server: Server, count: _Count
) -> None:
    async def use(registry: oppscan.ScanRegistry) -> list[int]:
        live = await registry.start("ann", ["alpha"])
        ended = await registry.start("ann", ["beta"])
        async with registry.claim(ended.scan_id) as claim:
            await claim.strategy_finished("beta", [{"n": 1}])
        with server.client() as client:
            for ticket in (live, ended):
                assert client.delete(layout.key("oppscan", "r", ticket.scan_id)) == 1
        sent = [count.sent]
        for _ in range(4):
            with pytest.raises(oppscan.ScanLost):
                await registry.status(live.scan_id)
            sent.append(count.sent)
        assert (await registry.status(ended.scan_id)).done
        sent.append(count.sent)
        assert (await registry.status(ended.scan_id)).done
        sent.append(count.sent)
        return [after - before for before, after in pairwise(sent)]

    missed = 2  # a bare read met no record, so the script was asked
    heals = 1  # it was put back from its results, once
    lost = [1, 1, 1, 1]  # it was never read before, or else the first would be one that missed
    assert _use_counted(asker, server, count, use) == [*lost, missed + heals, 1]


def test_a_start_walks_neither_all_live_nor_all_finished_scans(server: Server) -> None:
    """4,000 live ones, over the limit of what is remembered: a start still makes few calls."""
    with oppscan.sync.connect(server.url) as registry, server.client() as client:
        first = registry.start("ann", ["alpha"], key="first")
        tag, later = first.scan_id[:16], int(time.time() * 1000) + 3_600_000
        entry = b"".join(number.to_bytes(6) for number in (1, later, later, 1)) + b"\4name\0body"
        pipe = client.pipeline(transaction=False)
        for number in range(1, 4_000):
            scan = number.to_bytes(16)
            pipe.hset(layout.key("oppscan", "i", tag), scan, number.to_bytes(6) + entry[6:])
            pipe.zadd(layout.key("oppscan", "o", tag), {scan: -number})
        pipe.execute()
        client.config_resetstat()
        assert registry.start("ann", ["alpha"], key="another").must_run
        stats: Any = client.info("commandstats")
        assert sum(stat["calls"] for stat in stats.values()) < 150
        assert client.hlen(layout.key("oppscan", "i", tag)) == 4_001
