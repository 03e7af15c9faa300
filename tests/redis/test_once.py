"""G9 and G11 on a server: writes whose replies are lost, and starts that race."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Iterator
from typing import TypeVar

import pytest

import oppscan.sync
from oppscan import ScanRegistry
from oppscan.backends.redis import RedisBackend
from oppscan.backends.redis.scripts import APPLY
from oppscan.testing.faces import awaitable
from oppscan.testing.world import FACES
from tests.redis.proxy import Proxy, proxy
from tests.redis.servers import Server

T = TypeVar("T")

LOSSES = 250
"""Lost replies to writes, for each face and server."""

ODDS = 1 / 3
"""Of losing a reply, that of a repeated write included."""


class _Loser:
    """Drops the replies to some writes, and counts what kind of write they were."""

    def __init__(self) -> None:
        self.chance = random.Random(11)
        self.lock = threading.Lock()
        self.kind = ""
        self.lost: Counter[str] = Counter()

    def __call__(self, request: bytes) -> str:
        if not self.kind or APPLY.sha.encode() not in request:
            return "pass"
        with self.lock:
            if self.chance.random() > ODDS:
                return "pass"
            self.lost[self.kind] += 1
            return self.chance.choice(("drop", "reset"))


@pytest.fixture(params=["valkey", "redis_6"])
def losing(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    server: Server = request.getfixturevalue(request.param)
    with proxy(server.port, _Loser()) as before:
        yield before


@pytest.fixture(params=FACES)
def registry(request: pytest.FixtureRequest, losing: Proxy) -> ScanRegistry:
    """Give a registry of each face behind the proxy; the blocking one is only called awaited."""
    store, namespace = RedisBackend(losing.url), f"once-{request.param}-{losing.target}"
    if request.param == "async":
        return ScanRegistry(store, namespace=namespace, op_timeout=10)
    return awaitable(oppscan.sync.ScanRegistry(store, namespace=namespace, op_timeout=10), None)


async def _every_write(registry: ScanRegistry, owner: str, loser: _Loser) -> list[object]:
    """Make every kind of write once; give what came of them."""

    async def write(kind: str, call: Awaitable[T]) -> T:
        loser.kind = kind
        try:
            return await call
        finally:
            loser.kind = ""

    ticket = await write("start", registry.start(owner, ["found", "empty", "bad", "left"]))
    assert (ticket.joined, ticket.must_run) == (False, True)
    first = registry.claim(ticket.scan_id, owner=owner)
    held = await write("claim", first.__aenter__())
    await write("started", held.strategy_started("found"))
    await write("finished", held.strategy_finished("found", [{"n": 1}, {"n": 2}]))
    await write("release", held.release())
    await first.__aexit__(None, None, None)
    async with registry.claim(ticket.scan_id, owner=owner) as claim:
        await write("empty", claim.strategy_finished("empty", []))
        await write("heartbeat", claim.heartbeat())
        await write("failed", claim.strategy_failed("bad", "no feed", opportunities=[{"n": 3}]))
        await write("skipped", claim.strategy_skipped("left", "no need"))
        await write("complete", claim.complete({"all": True}))
    await write("extend", registry.extend(ticket.scan_id, 5000))
    status = await registry.status(ticket.scan_id, owner=owner)
    results = await registry.results(ticket.scan_id, owner=owner)
    assert [item["n"] for item in results.opportunities] == [1, 2, 3]
    assert results.summary == {"all": True}
    posted = await registry.start(owner, ["one"], key="posted")
    async with registry.claim(posted.scan_id) as claim:
        await write("update", claim.update({"opportunities": [{"n": 4}]}))
        await write("fail", claim.fail("no more"))
    broken = await registry.status(posted.scan_id)
    other = await registry.start(owner, ["one"], key="cancelled")
    cancelled = await write("cancel", registry.cancel(other.scan_id))
    await write("forget", registry.forget(other.scan_id))
    shown = [
        (seen.state, seen.revision, seen.attempts, seen.progress)
        for seen in (status, broken, cancelled)
    ]
    return [*shown, [seen.scan_id for seen in await registry.history(owner)].index(ticket.scan_id)]


def test_g11_every_kind_of_write_is_applied_once_when_replies_are_lost(
    registry: ScanRegistry, losing: Proxy
) -> None:
    loser = losing.verdict
    assert isinstance(loser, _Loser)

    async def use(loser: _Loser) -> None:
        quiet = _Loser()
        truth = await _every_write(registry, "undisturbed", quiet)
        number = 0
        while sum(loser.lost.values()) < LOSSES:
            assert await _every_write(registry, f"owner-{number}", loser) == truth
            number += 1
        await registry.aclose()

    asyncio.run(use(loser))
    assert losing.lost == sum(loser.lost.values())
    assert len(loser.lost) == len(WRITES)
    assert min(loser.lost.values()) > LOSSES / len(WRITES) / 3


WRITES = frozenset(
    {
        "start", "claim", "started", "finished", "release", "empty", "heartbeat", "failed",
        "skipped", "complete", "extend", "update", "fail", "cancel", "forget",
    }
)  # fmt: skip


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
