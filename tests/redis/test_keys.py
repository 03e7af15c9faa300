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
from oppscan.backends.redis import RedisBackend, layout
from oppscan.backends.redis.scripts import APPLY, READ
from tests.benchmarks import redis_memory
from tests.redis.asking import Asker
from tests.redis.losing import keys_of, keys_without_ttl
from tests.redis.proxy import proxy
from tests.redis.servers import Server

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


def _look_everywhere(registry: oppscan.sync.ScanRegistry, owner: str) -> None:
    """Read the owner's newest scan in every way, and change it in those that end it."""
    scan_id = registry.latest(owner).scan_id
    registry.status(scan_id)
    registry.results(scan_id)
    registry.history(owner)
    registry.has_active_scan(owner)
    registry.extend(scan_id, 9000)
    registry.cancel(registry.start(owner, NAMES, key="more").scan_id)
    registry.forget(registry.latest(owner).scan_id)


def test_scripts_touch_only_declared_keys_of_one_slot(server: Server) -> None:
    """100 scans: writes touch what they declare; reads also the scans that those keys lead to."""
    store = RedisBackend(server.url)
    seen: list[dict[str, Any]] = []
    with oppscan.sync.ScanRegistry(store, namespace="declared") as registry:
        run_scan(registry, "bob")  # from here on, no script goes over as text
        _look_everywhere(registry, "bob")
        for number in range(100):
            with server.client() as client, client.monitor() as monitor:
                run_scan(registry, f"owner-{number}")
                _look_everywhere(registry, f"owner-{number}")
                client.echo("the end")
                listen: Callable[[], dict[str, Any]] = monitor.next_command  # pyright: ignore[reportAssignmentType]
                while "the end" not in (command := listen())["command"]:
                    seen.append(command)
    declared: set[str] = set()
    scripts: list[str] = []
    inner = 0
    for command in seen:
        words = command["command"].split(" ")  # no key of ours holds one
        name = words[0].upper()
        if name == "EVALSHA":
            scripts.append(words[1])
            declared = set(words[3 : 3 + int(words[2])])
            assert len({layout.hash_tag(key) for key in declared}) == 1
        elif command["client_type"] == "lua" and name != "TIME":
            inner += 1
            touched = set(words[1:] if name in {"DEL", "EXISTS"} else words[1:2])
            made = scripts[-1] == READ.sha and name in {"GET", "GETRANGE"}
            if made or name == "PUBLISH":  # a channel is no key
                assert {layout.hash_tag(key) for key in touched} <= {layout.hash_tag(min(declared))}
            else:
                assert touched <= declared, command
    assert set(scripts) == {APPLY.sha, READ.sha}
    assert inner > 20_000


def test_a_poll_moves_no_results(server: Server, asker: Asker) -> None:
    noise = "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=14_500))
    with oppscan.sync.ScanRegistry(RedisBackend(server.url), namespace="poll") as registry:
        scan_id = run_scan(registry, "ann", 1, noise)

    async def use(registry: oppscan.ScanRegistry) -> None:
        assert len(str((await registry.results(scan_id)).opportunities)) > 200_000
        moved = []
        for _ in range(20):
            start = before.moved
            assert (await registry.status(scan_id)).state is ScanState.COMPLETE
            moved.append(before.moved - start)
        assert max(moved) < 1500, moved

    with proxy(server.port, lambda _: "pass") as before:
        asker.use(before.url, use, namespace="poll")


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


def test_500_polls_at_once_raise_nothing(url: str) -> None:
    async def use() -> None:
        async with oppscan.ScanRegistry(RedisBackend(url), namespace="crowd") as registry:
            scans = [(await registry.start(f"owner-{n}", ["alpha"])).scan_id for n in range(50)]
            for _ in range(3):
                asked = [scans[number % 50] for number in range(500)]
                polled = await asyncio.gather(*(registry.status(scan_id) for scan_id in asked))
                assert [status.scan_id for status in polled] == asked

    asyncio.run(use())


def test_memory_of_a_scan() -> None:
    """A scan of 14 strategies with 2 kB of results, its share of the owner's index included."""
    found = redis_memory.measure("valkey-9.1")
    assert found["oppscan"] < 2800
    assert found["oppscan"] < 0.52 * found["five keys"]
