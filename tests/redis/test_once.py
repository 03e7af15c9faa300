"""G9 and G11 on a server: writes whose replies are lost, and starts that race."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import random
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

import oppscan.sync
from oppscan import ScanRegistry, ScanState
from tests.redis.proxy import Proxy, proxy
from tests.redis.servers import Server
from tests.redis.store.redis import RedisBackend

ROUNDS = int(os.environ.get("OPPSCAN_ROUNDS", "1"))
"""How much longer than usual to look."""


class _Loser:
    """Drops the replies of some scripts: every ``nth``, counted over all connections."""

    def __init__(self, nth: int) -> None:
        self.nth = nth
        self.seen = itertools.count(1)
        self.lock = threading.Lock()

    def __call__(self, request: bytes) -> str:
        if b"EVAL" not in request:
            return "pass"
        with self.lock:
            lose = next(self.seen) % self.nth == 0
        return ("drop", "reset")[random.randrange(2)] if lose else "pass"


@pytest.fixture(params=["valkey", "redis_6"])
def losing(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    server: Server = request.getfixturevalue(request.param)
    with proxy(server.port, _Loser(3)) as before:
        yield before


async def _whole_scan(registry: ScanRegistry, owner: str) -> int:
    """Make every kind of write once; give how many there were."""
    ticket = await registry.start(owner, ["found", "empty", "failed", "skipped"])
    async with registry.claim(ticket.scan_id, owner=owner) as claim:
        await claim.strategy_started("found")
        await claim.strategy_finished("found", [{"n": 1}, {"n": 2}])
        await claim.strategy_finished("empty", [])
        await claim.heartbeat()
        await claim.strategy_failed("failed", "no feed", opportunities=[{"n": 3}])
        await claim.strategy_skipped("skipped", "no need")
        await claim.complete({"all": True})
    await registry.extend(ticket.scan_id, 5000)
    status = await registry.status(ticket.scan_id, owner=owner)
    assert status.state is ScanState.COMPLETE
    assert status.attempts == 1
    assert str(status.progress.percentage) == "100.0"
    assert status.progress.opportunities_found == 3
    results = await registry.results(ticket.scan_id, owner=owner)
    assert [item["n"] for item in results.opportunities] == [1, 2, 3]
    assert results.summary == {"all": True}
    assert [s.scan_id for s in await registry.history(owner)] == [ticket.scan_id]
    cancelled = await registry.start(owner, ["one"], key="cancelled")
    assert (await registry.cancel(cancelled.scan_id)).state is ScanState.CANCELLED
    await registry.forget(cancelled.scan_id)
    assert len(await registry.history(owner)) == 1
    return 12


def test_g11_every_kind_of_write_is_applied_once_when_replies_are_lost(losing: Proxy) -> None:
    async def use() -> int:
        writes = 0
        store = RedisBackend(losing.url)
        async with ScanRegistry(store, namespace=f"once-{losing.target}") as registry:
            for number in range(8 * ROUNDS):
                writes += await _whole_scan(registry, f"owner-{number}")
        return writes

    writes = asyncio.run(use())
    assert losing.lost > writes // 4


def _race(url: str, gate: object, owners: int, rounds: int, out: object) -> None:
    """Start the same scans as all other processes, in an order of one's own."""
    won: list[tuple[int, str]] = []
    seen: list[tuple[int, str]] = []
    store = RedisBackend(url)
    registry = oppscan.sync.ScanRegistry(store, namespace="race", op_timeout=10)
    gate.wait()  # type: ignore[attr-defined]
    for _ in range(rounds):
        order = list(range(owners))
        random.shuffle(order)
        for owner in order:
            ticket = registry.start(f"owner-{owner}", ["alpha"], params={"of": owner})
            seen.append((owner, ticket.scan_id))
            if not ticket.joined:
                won.append((owner, ticket.scan_id))
    registry.close()
    out.put((won, seen))  # type: ignore[attr-defined]


def test_g9_racing_processes_start_each_scan_once(url: str) -> None:
    processes, owners, rounds = 8, 100, 5
    context = multiprocessing.get_context("spawn")
    gate, out = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_race, args=(url, gate, owners, rounds, out))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    told = [out.get(timeout=100) for _ in workers]
    for worker in workers:
        worker.join()
    won = [item for winners, _ in told for item in winners]
    seen = {item for _, all_seen in told for item in all_seen}
    assert len(won) == owners
    assert Counter(owner for owner, _ in won).most_common(1)[0][1] == 1
    assert seen == set(won)
    store = RedisBackend(url)
    registry = oppscan.sync.ScanRegistry(store, namespace="race")
    for _, scan_id in won:
        registry.forget(scan_id)
    registry.close()
