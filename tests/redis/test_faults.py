"""What goes wrong with a server, and what a caller is told: typed, in time, and healthy after."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from typing import Any

import pytest
import redis as redis_py
import redis.asyncio as redis_asyncio
from msgspec.structs import replace

import oppscan
from oppscan import (
    CorruptRecord,
    StorageFull,
    StorageMisconfigured,
    StorageUnavailable,
)
from oppscan.backends.redis import RedisBackend, layout
from oppscan.ops import Applied, Apply, Erase, Point, Request, Resolve, Save
from oppscan.record import after
from tests.redis.asking import SPACE, TIMEOUT, Asker
from tests.redis.proxy import canned, proxy
from tests.redis.servers import Server, running

SCAN = "ab" + "0" * 14 + "-" + "1" * 32
TAG = SCAN[:16]
READ = Resolve(SCAN, TAG)
SAVE = Save(SCAN, "a" * 32, b"head", 60_000, None, (after(60_000),), b"spec")
WRITE = Apply((), (SAVE,))
SLACK = 0.3  # for two shared cores


REPLIES: list[tuple[str, type[Exception]]] = [
    ("-LOADING server is loading the dataset in memory", StorageUnavailable),
    ("-MISCONF errors writing to the AOF file", StorageUnavailable),
    ("-NOREPLICAS Not enough good replicas to write.", StorageUnavailable),
    ("-BUSY a script is running", StorageUnavailable),
    ("-READONLY You can't write against a read only replica.", StorageUnavailable),
    ("-CLUSTERDOWN Hash slot not served", StorageUnavailable),
    ("-MASTERDOWN Link with MASTER is down", StorageUnavailable),
    ("-TRYAGAIN Multiple keys request during rehashing of slot", StorageUnavailable),
    ("-ERR max number of clients reached", StorageUnavailable),
    ("-ERR Error running script: @user_script: 3: -READONLY no", StorageUnavailable),
    ("-OOM command not allowed when used memory > 'maxmemory'.", StorageFull),
    ("-ERR Error running script: @user_script: 3: OOM command not allowed", StorageFull),
    ("-WRONGTYPE Operation against a key holding the wrong kind of value", CorruptRecord),
    ("-NOAUTH Authentication required.", StorageMisconfigured),
    ("-WRONGPASS invalid username-password pair", StorageMisconfigured),
    ("-NOPERM this user has no permissions", StorageMisconfigured),
    ("-ERR unknown command 'EVALSHA'", StorageMisconfigured),
    ("HTTP/1.1 400 Bad Request", StorageMisconfigured),
]


@pytest.mark.parametrize(("reply", "error"), REPLIES, ids=[reply for reply, _ in REPLIES])
@pytest.mark.parametrize("sent", [READ, WRITE], ids=["read", "write"])
def test_each_error_reply_has_its_own_meaning(
    asker: Asker, reply: str, error: type[Exception], sent: Request[Any]
) -> None:
    with canned(reply) as url:
        store = asker.open(url)
        began = time.monotonic()
        with pytest.raises(error) as caught:
            asker.ask(store, sent)
        assert type(caught.value) is error
        assert time.monotonic() - began < TIMEOUT + SLACK


def test_i6_a_refused_connection_is_an_outage(asker: Asker) -> None:
    store = asker.open("redis://127.0.0.1:1/0")
    began = time.monotonic()
    for sent in (READ, WRITE):
        with pytest.raises(StorageUnavailable):
            asker.ask(store, sent)
    assert time.monotonic() - began < TIMEOUT


def test_i6_a_killed_server_is_an_outage_and_its_restart_heals(asker: Asker, own: Server) -> None:
    store = asker.open(own.url)
    asker.ask(store, WRITE)
    own.kill()
    for sent in (READ, WRITE):
        with pytest.raises(StorageUnavailable):
            asker.ask(store, sent)
    own.start()
    assert isinstance(asker.ask(store, WRITE), Applied)


def test_i6_a_frozen_server_is_an_outage_in_time_and_heals(asker: Asker, own: Server) -> None:
    store = asker.open(own.url)
    asker.ask(store, WRITE)
    own.send(signal.SIGSTOP)
    try:
        for sent in (READ, WRITE, READ):
            began = time.monotonic()
            with pytest.raises(StorageUnavailable):
                asker.ask(store, sent, 0.3)
            assert 0.2 < time.monotonic() - began < 0.3 + SLACK
    finally:
        own.send(signal.SIGCONT)
    assert isinstance(asker.ask(store, WRITE), Applied)
    assert asker.ask(store, READ).sighting.head is not None


def test_a_restart_between_operations_is_invisible(asker: Asker, own: Server) -> None:
    async def use(registry: oppscan.ScanRegistry) -> None:
        await registry.start("ann", ["alpha"])
        own.kill()
        own.start()
        assert (await registry.start("ann", ["alpha"])).joined is False
        own.kill()
        own.start()
        assert await registry.has_active_scan("ann") is False

    asker.use(own.url, use)


def test_a_server_that_forgot_the_scripts_is_taught_again(asker: Asker, server: Server) -> None:
    store = asker.open(server.url)
    for sent in (WRITE, READ, WRITE):
        with server.client() as client:
            client.script_flush()
        asker.ask(store, sent)


def test_a_full_server_refuses_writes_and_still_reads(asker: Asker, own: Server) -> None:
    store = asker.open(own.url)
    asker.ask(store, WRITE)
    with own.client() as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(StorageFull):
            asker.ask(store, WRITE)
        assert asker.ask(store, READ).sighting.head.version == "a" * 32
        client.config_set("maxmemory", 0)
    assert isinstance(asker.ask(store, WRITE), Applied)


def test_g11_a_full_server_keeps_no_part_of_a_write(asker: Asker, own: Server) -> None:
    store = asker.open(own.url)
    with own.client() as client:
        asker.ask(store, WRITE)
        before = {key: client.dump(key) for key in client.scan_iter()}
        client.config_set("maxmemory", 1)
        whole = Apply((), (replace(SAVE, data=(b"x",)), _point()))
        with pytest.raises(StorageFull):
            asker.ask(store, whole)
        assert {key: client.dump(key) for key in client.scan_iter()} == before


def _point() -> Point:
    return Point(TAG, "", SCAN, 9_000, 9_000, "take")


@pytest.mark.parametrize("kind", ["r", "d", "i", "o", "q", "u"])
def test_g11_a_key_of_the_wrong_type_is_corrupt_and_nothing_is_written(
    asker: Asker, server: Server, kind: str
) -> None:
    store = asker.open(server.url)
    name = layout.key(SPACE, kind, SCAN if kind in "rd" else TAG)
    if kind == "u":
        name = layout.due_key(SPACE, layout.shard_of(TAG))
    with server.client() as client:
        client.delete(*client.keys() or ["none"])
        asker.ask(store, WRITE)
        client.delete(name)
        client.rpush(name, "junk")
        before = {key: client.dump(key) for key in client.scan_iter()}
        with pytest.raises(CorruptRecord):
            asker.ask(store, Apply((), (SAVE, Erase(SCAN, TAG, ("",)))))
        assert {key: client.dump(key) for key in client.scan_iter()} == before
        client.delete(name)
    assert isinstance(asker.ask(store, WRITE), Applied)


def test_too_few_replicas_are_an_outage(asker: Asker, own: Server) -> None:
    store = asker.open(own.url)
    with own.client() as client:
        client.config_set("min-replicas-to-write", 1)
        with pytest.raises(StorageUnavailable):
            asker.ask(store, WRITE)
        asker.ask(store, READ)  # reading is as ever
        client.config_set("min-replicas-to-write", 0)
    assert isinstance(asker.ask(store, WRITE), Applied)


def test_a_replica_is_no_place_to_write(asker: Asker, own: Server) -> None:
    with running(Server("valkey-9.1", f"replicaof 127.0.0.1 {own.port}")) as (replica,):
        store = asker.open(replica.url)
        for sent in (WRITE, READ):  # nor is it one to read, once it is asked for more than a string
            with pytest.raises(StorageUnavailable, match=r"(?i)read.?only"):
                asker.ask(store, sent)
        with replica.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")
        assert isinstance(asker.ask(store, WRITE), Applied)


def test_a_wrong_password_is_a_setting_and_told_at_once(asker: Asker, own: Server) -> None:
    with own.client() as client:
        client.config_set("requirepass", "right")
    for where in (own.url, own.url.replace("//", "//:wrong@")):
        began = time.monotonic()
        with pytest.raises(StorageMisconfigured) as caught:
            asker.ask(asker.open(where), READ)
        assert time.monotonic() - began < SLACK
        assert "wrong" not in str(caught.value).replace("wrong password", "")
    assert isinstance(asker.ask(asker.open(own.url.replace("//", "//:right@")), WRITE), Applied)


def test_missing_rights_are_a_setting(asker: Asker, own: Server) -> None:
    with own.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all", "-@write")
    store = asker.open(own.url.replace("//", "//reader:pw@"))
    with pytest.raises(StorageMisconfigured):
        asker.ask(store, WRITE)


def test_tls_to_a_plain_port_is_a_setting(asker: Asker, server: Server) -> None:
    with pytest.raises(StorageMisconfigured):
        asker.ask(asker.open(server.url.replace("redis:", "rediss:")), READ, 3.0)


def test_too_many_clients_are_an_outage(asker: Asker, own: Server) -> None:
    with own.client() as client:
        client.config_set("maxclients", 1)
        with pytest.raises(StorageUnavailable):
            asker.ask(asker.open(own.url), READ)


def test_a_host_s_small_pool_makes_callers_wait(server: Server) -> None:
    async def use() -> None:
        client = redis_asyncio.Redis(port=server.port, max_connections=2)
        store = RedisBackend(client)
        requests = [Resolve(f"{TAG}-{n:032x}", TAG) for n in range(100)]
        asked = (store.execute(request, SPACE, 5.0) for request in requests)
        assert len(await asyncio.gather(*asked)) == len(requests)
        await store.aclose()
        assert await client.ping()  # the host's client stays open
        await client.aclose()

    asyncio.run(use())


def test_a_host_s_small_pool_makes_threads_wait(server: Server) -> None:
    client = redis_py.Redis(port=server.port, max_connections=2)
    store = RedisBackend(client)
    failed: list[Exception] = []

    def use() -> None:
        try:
            for _ in range(20):
                store.execute_blocking(READ, SPACE, 5.0)
        except Exception as error:  # noqa: BLE001 - told by the main thread
            failed.append(error)

    threads = [threading.Thread(target=use) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    assert failed == []


@pytest.mark.parametrize("verdict", ["drop", "reset"])
def test_g11_a_write_whose_reply_was_lost_is_an_outage_to_this_store(
    asker: Asker, server: Server, verdict: str
) -> None:
    """The store does not repeat it; who knows its ids does."""
    with proxy(server.port, lambda request: verdict if b"EVAL" in request else "pass") as before:
        store = asker.open(before.url)
        with pytest.raises(StorageUnavailable):
            asker.ask(store, WRITE)
        assert before.lost == 1
