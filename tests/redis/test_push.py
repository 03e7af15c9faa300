"""News: whoever watches is told at once, and what is lost on the way costs a pause, no answer."""

# ruff: noqa: ANN401, SLF001 - what comes off a connection; and bells are looked into

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.exceptions

import oppscan.sync
from oppscan import ScanNotFound, ScanRegistry, ScanStatus, Ticket, watching
from oppscan.backends.redis import RedisBackend, bells
from oppscan.clock import elapsed
from oppscan.testing.faces import awaitable
from tests.redis.asking import Asker
from tests.redis.servers import Server, running, wait_until

NEVER = 3600.0
"""Seconds between two looks, so that only news can be why somebody looked."""

PATIENCE = 20.0

Body = Callable[[ScanRegistry], Coroutine[Any, Any, Any]]


@pytest.fixture
def only_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LONGEST_PAUSE", NEVER)


def use(asker: Asker, url: str, body: Body) -> Any:
    async def bounded(registry: ScanRegistry) -> Any:
        async with asyncio.timeout(PATIENCE):
            return await body(registry)

    return asker.use(url, bounded)


@asynccontextmanager
async def watched(registry: ScanRegistry, *scans: str) -> AsyncIterator[list[ScanStatus]]:
    """Watch scans until they are through; every bell listens before the block begins."""
    seen: list[ScanStatus] = []

    async def watch(scan_id: str) -> None:
        async for status in registry.watch(scan_id):
            seen.append(status)  # noqa: PERF401 - as it comes

    watchers = [asyncio.create_task(watch(scan_id)) for scan_id in scans]
    await _until(lambda: all_listen(len(scans)))
    await asyncio.sleep(0.1)  # for the look after which nothing but news wakes them
    yield seen
    await asyncio.gather(*watchers)


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - it is another thread's doing
        await asyncio.sleep(0.01)


def all_listen(count: int) -> bool:
    found = [
        item for item in gc.get_objects() if isinstance(item, (bells.LoopBell, bells.ThreadBell))
    ]
    return sum(bell.listening for bell in found) >= count


async def run_to_the_end(registry: ScanRegistry, ticket: Ticket) -> None:
    async with registry.claim(ticket.scan_id) as claim:
        await claim.strategy_started("alpha")
        await claim.strategy_finished("alpha", [{"n": 1}])


def test_news_wakes_whoever_watches(asker: Asker, url: str, only_news: None) -> None:
    async def body(registry: ScanRegistry) -> list[str]:
        ticket = await registry.start("ann", ["alpha"])
        async with watched(registry, ticket.scan_id) as seen:
            await run_to_the_end(registry, ticket)
        return [f"{status.state} {status.progress}" for status in seen]

    states = use(asker, url, body)
    assert states[0] == "pending 0/1"
    assert states[-1] == "complete 1/1"


def test_news_wakes_whoever_waits(asker: Asker, url: str, only_news: None) -> None:
    async def body(registry: ScanRegistry) -> ScanStatus:
        ticket = await registry.start("ann", ["alpha"])
        waiting = asyncio.create_task(registry.wait(ticket.scan_id))
        await _until(lambda: all_listen(1))
        await asyncio.sleep(0.1)
        await registry.cancel(ticket.scan_id)
        return await waiting

    assert use(asker, url, body).state == "cancelled"


def test_forgetting_is_news(asker: Asker, valkey: Server, only_news: None) -> None:
    async def body(registry: ScanRegistry) -> None:
        ticket = await registry.start("ann", ["alpha"])
        with pytest.raises(ScanNotFound):
            async with watched(registry, ticket.scan_id):
                await registry.forget(ticket.scan_id)

    use(asker, valkey.url, body)


def test_without_news_nobody_looks(
    asker: Asker, valkey: Server, only_news: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positive control: where no message comes, whoever only hears of news sees nothing."""
    monkeypatch.setattr(bells.Line, "_take", _deaf(bells.Line._take))
    monkeypatch.setattr(bells.ThreadBell, "_take", _deaf(bells.ThreadBell._take))

    async def body(registry: ScanRegistry) -> None:
        ticket = await registry.start("ann", ["alpha"])
        waiting = asyncio.create_task(registry.wait(ticket.scan_id))
        await _until(lambda: all_listen(1))
        await asyncio.sleep(0.1)
        await registry.cancel(ticket.scan_id)
        done, _ = await asyncio.wait({waiting}, timeout=0.5)
        assert not done
        with valkey.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        assert (await waiting).done  # for who hears nothing any more looks at once

    use(asker, valkey.url, body)


def _deaf(take: Callable[..., Any]) -> Callable[..., Any]:
    def taken(bell: Any, message: Any) -> Any:
        return False if message[0] == b"message" else take(bell, message)

    return taken


def test_a_heartbeat_is_no_news(asker: Asker, valkey: Server) -> None:
    async def body(registry: ScanRegistry) -> None:
        ticket = await registry.start("ann", ["alpha"])
        async with registry.claim(ticket.scan_id) as claim:
            with valkey.client() as client, client.pubsub() as listener:
                listener.psubscribe("*")
                await claim.heartbeat()
                await claim.strategy_finished("alpha", [])
                kinds = [listener.get_message(timeout=5) for _ in range(2)]
                assert [kind and kind["type"] for kind in kinds] == ["psubscribe", "pmessage"]
                assert listener.get_message() is None

    use(asker, valkey.url, body)


def listener_ids(server: Server) -> set[str]:
    """Name the connections that are subscribed to something."""
    with server.client() as client:
        found: Any = client.client_list(_type="pubsub")
        return {item["id"] for item in found}


def listeners(server: Server) -> int:
    """Count them."""
    return len(listener_ids(server))


@pytest.mark.asyncio
async def test_watchers_of_one_loop_share_a_connection(valkey: Server, only_news: None) -> None:
    async with ScanRegistry(RedisBackend(valkey.url)) as registry:
        tickets = [await registry.start(f"owner-{number}", ["alpha"]) for number in range(20)]
        scans = [ticket.scan_id for ticket in tickets]
        async with watched(registry, *scans, *scans[:10]):
            assert listeners(valkey) == 1
            for ticket in tickets[1:]:
                await run_to_the_end(registry, ticket)
            assert listeners(valkey) == 1
            await run_to_the_end(registry, tickets[0])
    wait_until(lambda: listeners(valkey) == 0, "hanging up")


@pytest.mark.asyncio
async def test_closing_hangs_up_on_those_who_still_watch(valkey: Server) -> None:
    registry = ScanRegistry(RedisBackend(valkey.url))
    ticket = await registry.start("ann", ["alpha"])
    follow = registry.watch(ticket.scan_id)
    await anext(follow)
    looking = asyncio.ensure_future(anext(follow))
    await _until(lambda: all_listen(1))
    await registry.cancel(ticket.scan_id)
    assert (await looking).done
    assert listeners(valkey) == 1  # it was not left: it waits for its consumer
    await registry.aclose()
    wait_until(lambda: listeners(valkey) == 0, "hanging up")
    await follow.aclose()


def test_so_many_blocking_watchers_have_a_connection(valkey: Server) -> None:
    store = RedisBackend(valkey.url)
    with oppscan.sync.ScanRegistry(store) as registry:
        ticket = registry.start("ann", ["alpha"])
        made = [store.bell_blocking("oppscan", ticket.scan_id) for _ in range(40)]
        for bell in made:
            bell.wait(0.02)
        assert sum(bell.listening for bell in made) == listeners(valkey) == bells.MOST_BLOCKING
        for bell in made:
            bell.close()
        wait_until(lambda: listeners(valkey) == 0, "hanging up")
        again = store.bell_blocking("oppscan", ticket.scan_id)
        again.wait(0.02)
        assert again.listening
        again.close()


def test_a_watcher_whose_connection_is_lost_listens_again(
    asker: Asker, own: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bells, "RETRY", 0.1)

    async def body(registry: ScanRegistry) -> ScanStatus:
        ticket = await registry.start("ann", ["alpha"])
        waiting = asyncio.create_task(registry.wait(ticket.scan_id))
        await _until(lambda: all_listen(1))
        before = listener_ids(own)
        with own.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await _until(lambda: bool(listener_ids(own) - before))
        await _until(lambda: all_listen(1))
        await registry.cancel(ticket.scan_id)
        return await waiting

    assert use(asker, own.url, body).state == "cancelled"


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections, and does not answer there."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"


def test_a_silent_server_holds_no_bell_up(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "CONNECTING", 0.05)
    store = RedisBackend(silent)
    bell = store.bell_blocking("oppscan", "0" * 16 + "-" + "0" * 32)
    bell.wait(0.2)
    assert not bell.listening
    bell.close()

    async def on_a_loop() -> None:
        bell = store.bell("oppscan", "0" * 16 + "-" + "0" * 32)
        await bell.wait(0.2)
        assert not bell.listening
        bell.close()
        await store.aclose()

    asyncio.run(on_a_loop())


class Wire:
    """A connection that is lost when a test says so."""

    is_connected = False

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault

    def connect(self) -> None:
        return None

    def send_command(self, *_: object) -> None:
        return None

    def can_read(self, _: float) -> bool:
        return True

    def read_response(self, **_: object) -> Any:
        raise self.fault or AssertionError

    def disconnect(self) -> None:
        return None


def test_a_connection_that_cannot_be_made_holds_no_turn_and_no_bell() -> None:
    def find() -> Any:
        raise redis.exceptions.ConnectionError("no topology yet")

    turns = threading.Semaphore(1)
    bell = bells.ThreadBell(find, turns)
    bell.wait(0.01)
    assert not bell.listening
    assert turns.acquire(blocking=False)

    async def on_a_loop() -> None:
        line = bells.Line(find, sharded=True)
        bell = bells.LoopBell(lambda: (line, b"channel"))
        await bell.wait(0.01)
        assert not bell.listening
        bell.close()

    asyncio.run(on_a_loop())


def test_a_connection_that_is_lost_before_it_listens_costs_the_pause() -> None:
    fault = redis.exceptions.ConnectionError("lost")
    bell = bells.ThreadBell(lambda: (Wire(fault), b"channel", False), threading.Semaphore(1))
    began = elapsed()
    bell.wait(0.05)
    assert elapsed() - began >= 0.05
    assert not bell.listening


def test_nothing_is_sent_where_nothing_is_connected() -> None:
    line = bells.Line(Wire, sharded=False)
    asyncio.run(line._tell(Wire(), "SUBSCRIBE", b"channel"))  # redis-py would connect anew


def test_a_bell_outlives_its_loop_quietly(valkey: Server) -> None:
    store = RedisBackend(valkey.url)

    async def leave() -> bells.LoopBell:
        bell = store.bell("oppscan", "0" * 16 + "-" + "0" * 32)
        await bell.wait(0.05)
        return bell

    asyncio.run(leave()).close()
    store.close()


def test_both_faces_are_told_of_what_the_other_writes(valkey: Server, only_news: None) -> None:
    async def body() -> None:
        async with ScanRegistry(RedisBackend(valkey.url)) as here:
            blocking = oppscan.sync.ScanRegistry(RedisBackend(valkey.url))
            there = awaitable(blocking, None)
            ticket = await here.start("ann", ["alpha"])
            async with watched(there, ticket.scan_id), watched(here, ticket.scan_id):
                await run_to_the_end(there, ticket)
            blocking.close()

    asyncio.run(asyncio.wait_for(body(), PATIENCE))


def test_news_follows_a_slot_that_moves(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher whose channel is dropped by the server looks, and finds the new one."""
    monkeypatch.setattr(bells, "RETRY", 0.1)
    with running(server := Server("valkey-9.1")):

        async def body(registry: ScanRegistry) -> ScanStatus:
            ticket = await registry.start("ann", ["alpha"])
            waiting = asyncio.create_task(registry.wait(ticket.scan_id))
            await _until(lambda: all_listen(1))
            found = [
                item
                for item in gc.get_objects()
                if isinstance(item, (bells.Line, bells.ThreadBell)) and not _closed(item)
            ]
            message = [
                b"sunsubscribe",
                f"{{oppscan:{ticket.scan_id[:2]}}}n:{ticket.scan_id}".encode(),
                0,
            ]
            for item in found:
                if isinstance(item, bells.Line):
                    item._take(message)
                else:
                    with pytest.raises(oppscan.StorageUnavailable):
                        item._take(message)
            await registry.cancel(ticket.scan_id)
            return await waiting

        assert use(asker, server.url, body).state == "cancelled"


def _closed(item: bells.Line | bells.ThreadBell) -> bool:
    return isinstance(item, bells.ThreadBell) and not item.listening
