"""The clients of a store: one for all threads, only of the kind that was given, closed in time."""

# ruff: noqa: ANN401 - the clients and replies of redis-py are typed as they come

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
import redis.exceptions
from fakeredis import FakeAsyncRedis, FakeServer, FakeStrictRedis

from oppscan import StorageMisconfigured, StorageUnavailable
from oppscan.backends.redis import RedisBackend, clients, clock, faces
from oppscan.backends.redis.address import parse
from oppscan.backends.redis.clock import Known
from oppscan.backends.redis.faces import AsyncFace, BlockingFace
from oppscan.clock import elapsed
from oppscan.ops import Resolve
from tests.redis.asking import SPACE, Asker

SCAN = "ab" + "0" * 14 + "-" + "1" * 32
READ = Resolve(SCAN, SCAN[:16])
MINUTE = 60.0


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """List the clients that stores make for themselves: of one fake server, whatever the URL."""
    server = FakeServer()
    made: list[Any] = []

    def making(kind: Callable[..., Any]) -> Callable[[object], Any]:
        def make(_: object) -> Any:
            made.append(kind(server=server))
            return made[-1]

        return make

    monkeypatch.setattr(clients, "make_async", making(FakeAsyncRedis))
    monkeypatch.setattr(clients, "make_blocking", making(FakeStrictRedis))
    return made


# --- Which client -------------------------------------------------------------------------------


class _Together:
    """A lock that nobody gets before ``count`` threads want it."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count)
        self._lock = threading.Lock()
        self.release = self._lock.release

    def acquire(self, timeout: float) -> bool:
        self._barrier.wait(MINUTE)
        return self._lock.acquire(timeout=timeout)


def test_threads_that_come_together_share_one_client(
    made: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RedisBackend("redis://nowhere")
    monkeypatch.setattr(store, "_lock", _Together(8))
    failed: list[Exception] = []

    def use() -> None:
        try:
            store.execute_blocking(READ, SPACE, MINUTE)
        except Exception as error:  # noqa: BLE001 - told by the main thread
            failed.append(error)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(made) == 1


def test_i6_a_client_that_another_thread_is_still_connecting_is_an_outage_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def make(_: object) -> Any:
        begun.set()
        assert go_on.wait(MINUTE)
        return FakeStrictRedis()

    monkeypatch.setattr(clients, "make_blocking", make)
    store = RedisBackend("redis://nowhere")
    first = threading.Thread(target=store.execute_blocking, args=(READ, SPACE, MINUTE))
    first.start()
    assert begun.wait(MINUTE)
    with pytest.raises(StorageUnavailable, match="another thread"):
        store.execute_blocking(READ, SPACE, 0.01)
    go_on.set()
    first.join()
    assert store.execute_blocking(READ, SPACE, MINUTE).sighting is not None
    store.close()


def test_a_face_without_a_client_of_its_kind_is_a_setting() -> None:
    blocking = RedisBackend(FakeAsyncRedis())
    with pytest.raises(StorageMisconfigured, match="no client of redis,"):
        blocking.execute_blocking(READ, SPACE, MINUTE)
    awaiting = RedisBackend(FakeStrictRedis())
    with pytest.raises(StorageMisconfigured, match=r"no client of redis\.asyncio,"):
        asyncio.run(awaiting.execute(READ, SPACE, MINUTE))


@pytest.mark.parametrize(("major", "option"), [(5, "cluster_error_retry_attempts"), (6, "retry")])
@pytest.mark.parametrize("kind", ["RedisCluster", "AsyncRedisCluster"])
def test_a_cluster_client_of_any_version_tries_once_more(
    monkeypatch: pytest.MonkeyPatch, kind: str, major: int, option: str
) -> None:
    monkeypatch.setattr(clients, "_MAJOR", major)
    monkeypatch.setattr(clients, kind, dict)
    make = clients.make_blocking if kind == "RedisCluster" else clients.make_async
    options = make(parse("redis+cluster://one"))
    assert {"cluster_error_retry_attempts", "retry"} & set(options) == {option}
    tries = options[option] if major == 5 else options[option]._retries  # noqa: SLF001
    assert tries == 1
    assert "db" not in options


# --- What goes wrong ----------------------------------------------------------------------------


def test_what_is_no_fault_of_the_store_is_raised_as_it_is(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = RuntimeError("can't start new thread")

    def fail(*_: object, **__: object) -> None:
        raise ours

    for kind in (FakeAsyncRedis, FakeStrictRedis):
        monkeypatch.setattr(kind, "execute_command", fail)
    with pytest.raises(RuntimeError) as caught:
        asker.ask(asker.open(FakeAsyncRedis(), blocking=FakeStrictRedis()), READ)
    assert caught.value is ours
    assert ours.__cause__ is None


def test_i6_more_threads_than_requests_may_be_under_way_is_an_outage_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faces, "CONCURRENCY", 1)
    client = FakeStrictRedis()
    begun, go_on = threading.Event(), threading.Event()
    send: Callable[..., Any] = client.execute_command

    def hang(*command: Any, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(MINUTE)
        return send(*command, **options)

    monkeypatch.setattr(client, "execute_command", hang)
    store = RedisBackend(client)
    first = threading.Thread(target=store.execute_blocking, args=(READ, SPACE, MINUTE))
    first.start()
    assert begun.wait(MINUTE)
    with pytest.raises(StorageUnavailable, match="1 requests"):
        store.execute_blocking(READ, SPACE, 0.01)
    go_on.set()
    first.join()
    assert store.execute_blocking(READ, SPACE, MINUTE).sighting is not None


def test_g2_a_cluster_node_that_takes_no_more_writes_is_not_trusted_for_the_time() -> None:
    """The cluster's client connects anew by itself; there is no pool of ours to empty."""
    cluster = SimpleNamespace(nodes_manager=SimpleNamespace(slots_cache={}), keyslot=len)
    for kind in (AsyncFace, BlockingFace):
        face = kind(cluster, Known(), own=True, confirm=False)
        face.time.learn(face.server("key"), 1, elapsed())
        assert face.time.now("")
        done = face.reconnect()
        if done is not None:
            asyncio.run(done)
        assert not face.time.now("")


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of this process, to be set."""
    instant = [0.0]
    monkeypatch.setattr(clock, "elapsed", lambda: instant[0])
    return instant


def test_g12_what_is_known_of_scans_is_bounded(
    monkeypatch: pytest.MonkeyPatch, instant: list[float]
) -> None:
    del instant
    monkeypatch.setattr(clock, "_MOST", 3)
    known = Known()
    for scan in ("one", "two", "three", "four"):
        assert not known.looked(scan)
    assert known.looked("four")
    assert not known.looked("one")


def test_g4_a_scan_is_looked_at_whole_now_and_then_and_always_where_it_is_missing(
    instant: list[float],
) -> None:
    known = Known()
    assert [known.looked("scan") for _ in range(3)] == [False, True, True]
    instant[0] = clock.LOOK_EVERY
    assert [known.looked("scan") for _ in range(3)] == [False, True, True]
    known.missed("scan")
    assert [known.looked("scan") for _ in range(3)] == [False, False, False]
    instant[0] = clock.LOOK_EVERY * 2
    assert [known.looked("scan") for _ in range(3)] == [False, True, True]


def test_g10_a_time_that_was_long_on_its_way_is_not_trusted(instant: list[float]) -> None:
    known = Known()
    instant[0] = 1.0
    known.learn("", 5000, 1.0 - clock.SLOWEST * 1.01)
    assert known.now("") == 0
    known.learn("", 5000, 1.0 - clock.SLOWEST * 0.99)
    assert known.now("") == 5000
    instant[0] += clock.FRESH * 0.99
    assert known.now("") == 5000 + round(clock.FRESH * 990)
    instant[0] += clock.FRESH * 0.02
    assert known.now("") == 0


@pytest.mark.parametrize(
    ("answer", "plain"),
    [(b"+PONG", True), (b"-NOAUTH", True), (b"", False), (b"HTTP/1.1 400", False)],
)
def test_a_port_that_answers_like_no_server_is_not_taken_for_one_without_tls(
    answer: bytes, plain: bool
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        host, port = listening.getsockname()

        def serve() -> None:
            with listening.accept()[0] as near:
                near.recv(100)
                near.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        assert clients.speaks_plainly(host, port) is plain
        serving.join()
    assert not clients.speaks_plainly(host, port)  # nobody listens any more


# --- Closing ------------------------------------------------------------------------------------


def test_closing_inside_a_running_loop_closes_its_client_soon(made: list[Any]) -> None:
    async def use() -> None:
        store = RedisBackend("redis://nowhere")
        await store.execute(READ, SPACE, MINUTE)
        (client,) = made
        assert client.connection_pool._available_connections  # noqa: SLF001
        others = asyncio.all_tasks()
        store.close()
        await asyncio.wait(asyncio.all_tasks() - others)
        open_still = [
            connection
            for connection in client.connection_pool._available_connections  # noqa: SLF001
            if connection.is_connected
        ]
        assert open_still == []
        await store.execute(READ, SPACE, MINUTE)  # a store that was closed can be used again
        assert len(made) == 2
        await store.aclose()

    asyncio.run(use())


@pytest.mark.parametrize("ending", ["with the loop", "in an outage"])
def test_what_becomes_of_closing_is_no_news(
    made: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    ending: str,
) -> None:
    async def use() -> None:
        store = RedisBackend("redis://nowhere")
        await store.execute(READ, SPACE, MINUTE)
        others = asyncio.all_tasks()
        store.close()
        if ending == "in an outage":
            monkeypatch.setattr(made[0].connection_pool, "disconnect", _is_down)
            await asyncio.wait(asyncio.all_tasks() - others)

    asyncio.run(use())
    gc.collect()  # a task that failed tells so when it goes, if nobody asked
    assert caplog.records == []


async def _is_down(*_: object) -> None:
    raise redis.exceptions.ConnectionError("down")
