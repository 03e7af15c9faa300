"""What lies in Redis: keys that end, keys that were declared, and how little a poll moves."""

# ruff: noqa: ANN401 - requests and replies of any kind

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import oppscan
import oppscan.sync
from oppscan import OppscanError, ScanState, TTLPolicy
from tests.redis.losing import keys_of, keys_without_ttl
from tests.redis.proxy import proxy
from tests.redis.servers import Server, running
from tests.redis.store import redis_requests
from tests.redis.store.redis import RedisBackend

NAMES = tuple(f"strategy-{number}" for number in range(14))


@pytest.fixture
def registry(url: str) -> Iterator[oppscan.sync.ScanRegistry]:
    registry = oppscan.sync.ScanRegistry(RedisBackend(url), namespace="keys")
    yield registry
    registry.close()


def run_scan(
    registry: oppscan.sync.ScanRegistry, owner: str, size: int = 10, text: str = "x"
) -> str:
    """Run a scan of 14 strategies to its end."""
    ticket = registry.start(owner, NAMES, params={"symbols": ["BTC"]})
    with registry.claim(ticket.scan_id) as claim:
        for number, name in enumerate(NAMES):
            claim.strategy_started(name)
            claim.strategy_finished(name, [{"symbol": text * size, "n": number}])
    return ticket.scan_id


def test_g12_every_key_ends(registry: oppscan.sync.ScanRegistry, url: str) -> None:
    store = RedisBackend(url)
    ended = run_scan(registry, "ann")
    live = registry.start("ann", NAMES, key="live")
    registry.claim(live.scan_id).__enter__()  # held for good, as by a dead worker
    cancelled = registry.start("bob", NAMES)
    registry.cancel(cancelled.scan_id)
    registry.extend(ended, 9000)
    registry.forget(run_scan(registry, "cid"))
    registry.purge()
    assert len(keys_of(store, "keys")) >= 10
    assert keys_without_ttl(store, "keys") == []
    store.close()


def test_g12_all_that_a_scan_left_goes_by_itself(server: Server) -> None:
    ttl = TTLPolicy(
        pending_ttl=0.3, running_ttl=0.3, result_ttl=0.3, lookup_margin=0.1, lease=0.2,
        claim_within=0.2,
    )  # fmt: skip
    store = RedisBackend(server.url)
    with oppscan.sync.ScanRegistry(store, namespace="gone", ttl=ttl) as registry:
        run_scan(registry, "ann")
        registry.start("ann", NAMES, key="never claimed")
        assert keys_of(store, "gone")
        threading.Event().wait(2.0)  # the server's clock cannot be stepped
        assert keys_of(store, "gone") == []


def test_a_script_that_writes_touches_only_the_keys_it_declares(server: Server) -> None:
    store = RedisBackend(server.url)
    seen: list[dict[str, Any]] = []
    with oppscan.sync.ScanRegistry(store, namespace="declared") as registry:
        run_scan(registry, "bob")  # from here on, no script goes over as text
    with server.client() as client, client.monitor() as monitor:
        with oppscan.sync.ScanRegistry(store, namespace="declared") as registry:
            run_scan(registry, "ann")
            registry.cancel(registry.start("ann", NAMES, key="more").scan_id)
            registry.forget(registry.latest("ann").scan_id)
        with server.client() as other:
            other.echo("the end")
        listen: Callable[[], dict[str, Any]] = monitor.next_command  # pyright: ignore[reportAssignmentType]
        while "the end" not in (command := listen())["command"]:
            seen.append(command)
    declared: set[str] = set()
    inner = 0
    for command in seen:
        words = command["command"].split(" ")  # no key of ours holds one
        if words[0].upper() == "EVALSHA":
            writing = words[1] == redis_requests.APPLY.sha
            declared = set(words[3 : 3 + int(words[2])]) if writing else set()
        elif command["client_type"] == "lua" and declared and words[0].upper() != "TIME":
            touched = words[1:] if words[0].upper() == "DEL" else words[1:2]
            assert set(touched) <= declared, command
            inner += 1
    assert inner > 200


def test_a_poll_moves_no_results(server: Server) -> None:
    with proxy(server.port, lambda _: "pass") as before:
        noise = "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=14_500))
        with oppscan.sync.ScanRegistry(RedisBackend(before.url), namespace="poll") as registry:
            scan_id = run_scan(registry, "ann", 1, noise)
            assert len(str(registry.results(scan_id).opportunities)) > 200_000
            moved, states = [], set()
            for _ in range(20):
                start = before.moved
                states.add(registry.status(scan_id).state)
                moved.append(before.moved - start)
            assert states == {ScanState.COMPLETE}
            assert max(moved) < 1500, moved


@pytest.mark.parametrize("when", ["pending", "running", "complete"])
def test_g4_any_one_key_may_vanish(
    registry: oppscan.sync.ScanRegistry, url: str, when: str
) -> None:
    """Whatever is lost, answers are this scan's or typed errors; and a new scan can start."""
    store = RedisBackend(url)
    client: Any = store._blocking_face().client  # noqa: SLF001
    lost = 0
    while True:
        owner = f"owner-{when}-{lost}"
        scan_id, held = _scan_until(registry, owner, when)
        tag = scan_id.partition("-")[0]
        keys = sorted(key for key in keys_of(store, "keys") if tag in key or "}due" in key)
        if lost == len(keys):
            break
        client.delete(keys[lost])
        _look_at(registry, owner, scan_id, when)
        if held is not None:
            _typed(held.heartbeat)
            _typed(held.complete)
        assert registry.start(owner, NAMES, key="another").status.owner == owner
        lost += 1
    store.close()
    assert lost >= 5


def _scan_until(registry: oppscan.sync.ScanRegistry, owner: str, when: str) -> tuple[str, Any]:
    if when == "complete":
        return run_scan(registry, owner), None
    ticket = registry.start(owner, NAMES)
    if when == "pending":
        return ticket.scan_id, None
    claim = registry.claim(ticket.scan_id).__enter__()  # ended by the test
    claim.strategy_finished(NAMES[0], [{"n": 1}])
    return ticket.scan_id, claim


def _look_at(registry: oppscan.sync.ScanRegistry, owner: str, scan_id: str, when: str) -> None:
    status = _typed(lambda: registry.status(scan_id, owner=owner))
    assert isinstance(status, oppscan.ScanLost) or status.state == when
    results = _typed(lambda: registry.results(scan_id, owner=owner, partial=True))
    if not isinstance(results, oppscan.ScanLost):
        assert len(results.opportunities) == {"pending": 0, "running": 1, "complete": 14}[when]
    newest = _typed(lambda: registry.latest(owner))
    assert isinstance(newest, oppscan.ScanLost) or newest.scan_id == scan_id
    listed = registry.history(owner)
    assert {item.scan_id for item in listed} <= {scan_id}


def _typed(call: Any) -> Any:
    try:
        return call()
    except oppscan.ScanNotFound:
        raise
    except OppscanError as error:
        return error


def test_g2_polls_that_come_together_share_a_command(valkey: Server) -> None:
    async def use() -> tuple[int, int]:
        store = RedisBackend(valkey.url)
        async with oppscan.ScanRegistry(store, namespace="batch") as registry:
            scans = [(await registry.start(f"owner-{n}", ["alpha"])).scan_id for n in range(50)]
            for _ in range(10):  # until no look at an index is due any more
                for scan_id in scans:
                    await registry.status(scan_id)
            with valkey.client() as client:
                before = client.info("stats")["total_commands_processed"]
                polled = await asyncio.gather(
                    *(registry.status(s) for s in scans for _ in range(4))
                )
                after = client.info("stats")["total_commands_processed"]
            assert [status.scan_id for status in polled] == [s for s in scans for _ in range(4)]
            return len(polled), after - before

    polls, commands = asyncio.run(use())
    assert polls == 200
    assert commands < 20


def test_memory_of_a_scan(own_memory: dict[str, float]) -> None:
    """A scan of 14 strategies with 2 kB of results, its share of the owner's index included."""
    assert own_memory["oppscan"] < 2.5 * own_memory["five keys"]


@pytest.fixture(scope="module")
def own_memory() -> Iterator[dict[str, float]]:
    with running(server := Server("valkey-9.1")), server.client() as client:
        store = RedisBackend(server.url)
        with oppscan.sync.ScanRegistry(store, namespace="oppscan") as registry:
            run_scan(registry, "first", 120)
            used = client.info("memory")["used_memory"]
            for number in range(100):
                run_scan(registry, f"owner-{number % 10}", 120)
            mine = (client.info("memory")["used_memory"] - used) / 100
        yield {"oppscan": mine, "five keys": 3576}
