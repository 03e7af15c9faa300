"""Faults of a cluster, of Sentinels and of what is too large: typed, in time, and healthy after."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Sequence

import pytest

import oppscan
from oppscan import CorruptRecord, StorageError, StorageUnavailable
from oppscan.ops import Applied, Apply, Resolve, Save
from oppscan.record import after
from tests.redis.asking import Asker
from tests.redis.servers import Server, cluster, running, sentinel, wait_until

TIMEOUT = 0.5
SLACK = 0.4  # for two shared cores
SHARDS = ("ab", "0c", "71", "f3", "5e", "92")  # of all three nodes
SCANS = tuple(shard + "0" * 14 + "-" + "1" * 32 for shard in SHARDS)


def write_of(scan_id: str, *data: bytes) -> Apply:
    save = Save(scan_id, "a" * 32, b"head", 60_000, None, (after(60_000),), b"spec", data=data)
    return Apply((), (save,))


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[tuple[str, Sequence[Server]]]:
    """A cluster that tests may ruin, if they mend it."""
    with cluster("valkey-9.1") as (url, nodes):
        yield url, nodes


def _ask_all(asker: Asker, url: str) -> set[type]:
    """Read and write on all nodes; give what came, each in time."""
    store, seen = asker.stores[-1] if asker.stores else asker.open(url), set[type]()
    for scan_id in SCANS:
        for sent in (Resolve(scan_id, scan_id[:16]), write_of(scan_id)):
            began = time.monotonic()
            try:
                seen.add(type(asker.ask(store, sent, TIMEOUT)))
            except StorageError as error:
                seen.add(type(error))
            assert time.monotonic() - began < TIMEOUT + SLACK
    return seen


def _whole_again(asker: Asker, url: str) -> bool:
    return StorageUnavailable not in _ask_all(asker, url)


def test_i6_a_cluster_that_lost_a_node_is_an_outage_and_heals(
    asker: Asker, own_cluster: tuple[str, Sequence[Server]]
) -> None:
    url, nodes = own_cluster
    wait_until(lambda: _whole_again(asker, url), "cluster")
    fine = _ask_all(asker, url)
    assert StorageUnavailable not in fine
    nodes[1].kill()
    assert _ask_all(asker, url) - fine == {StorageUnavailable}
    nodes[1].start()
    wait_until(lambda: _whole_again(asker, url), "cluster")


def test_i6_a_cluster_with_a_frozen_node_is_an_outage_in_time_and_heals(
    asker: Asker, own_cluster: tuple[str, Sequence[Server]]
) -> None:
    url, nodes = own_cluster
    wait_until(lambda: _whole_again(asker, url), "cluster")
    fine = _ask_all(asker, url)
    nodes[2].send(signal.SIGSTOP)
    try:
        assert _ask_all(asker, url) - fine == {StorageUnavailable}
    finally:
        nodes[2].send(signal.SIGCONT)
    wait_until(lambda: _whole_again(asker, url), "cluster")


def test_i6_a_cluster_without_a_node_is_an_outage_and_heals(
    asker: Asker, own_cluster: tuple[str, Sequence[Server]]
) -> None:
    url, nodes = own_cluster
    wait_until(lambda: _whole_again(asker, url), "cluster")
    for node in nodes:
        node.kill()
    assert _ask_all(asker, url) == {StorageUnavailable}
    asker.open(url)  # one that never saw it whole
    assert _ask_all(asker, url) == {StorageUnavailable}
    for node in nodes:
        node.start()
    wait_until(lambda: _whole_again(asker, url), "cluster")


def test_a_master_that_no_sentinel_knows_is_an_outage(asker: Asker, valkey_sentinel: str) -> None:
    store = asker.open(valkey_sentinel.replace("/main/", "/other/"))
    with pytest.raises(StorageUnavailable):
        asker.ask(store, write_of(SCANS[0]))


def test_no_sentinel_is_an_outage(asker: Asker) -> None:
    store = asker.open("redis+sentinel://127.0.0.1:1,127.0.0.1:2/main")
    began = time.monotonic()
    with pytest.raises(StorageUnavailable):
        asker.ask(store, write_of(SCANS[0]))
    assert time.monotonic() - began < TIMEOUT


def test_g2_no_read_is_answered_by_a_replica(asker: Asker) -> None:
    """A replica that lags by 20 ms would answer "not found" of what was just started."""
    with sentinel("valkey-9.1") as (url, master, replica):

        async def use(registry: oppscan.ScanRegistry) -> None:
            for number in range(30):
                ticket = await registry.start(f"owner-{number}", ["alpha"])
                assert (await registry.status(ticket.scan_id)).scan_id == ticket.scan_id

        asker.use(url, use)
        reading = {"cmdstat_evalsha", "cmdstat_get", "cmdstat_mget"}
        with replica.client() as client:
            assert not reading & set(client.info("commandstats"))
        with master.client() as client:
            assert reading & set(client.info("commandstats"))


def test_what_the_server_calls_too_large_is_typed_and_the_next_is_healthy(
    asker: Asker, own: Server
) -> None:
    store = asker.open(own.url)
    small, large = write_of(SCANS[0]), os.urandom(3_000_000)
    asker.ask(store, small)
    with own.client() as client:
        client.config_set("proto-max-bulk-len", 1_048_576)
        with pytest.raises(StorageError) as caught:
            asker.ask(store, write_of(SCANS[0], large))
        assert not isinstance(caught.value, CorruptRecord)
        for _ in range(3):
            assert isinstance(asker.ask(store, small), Applied)
        seen = asker.ask(store, Resolve(SCANS[0], SCANS[0][:16], "", frozenset({"data"})))
        assert seen.sighting.head is not None
        assert seen.sighting.data.items == ()


def test_a_second_event_loop_finds_a_healthy_store(server: Server) -> None:
    asker = Asker("async")
    store = asker.open(server.url)
    asker.ask(store, write_of(SCANS[0]))

    async def use() -> object:
        reply = await store.execute(write_of(SCANS[0]), "faults", TIMEOUT)
        await store.aclose()
        return reply

    assert isinstance(asyncio.run(use()), Applied)
    assert isinstance(asker.ask(store, write_of(SCANS[0])), Applied)
    asker.close()


def test_a_replica_that_became_a_master_is_followed(asker: Asker, own: Server) -> None:
    """A client that keeps its connections to the old master is told READONLY, and connects anew."""
    with running(Server("valkey-9.1")) as (other,):
        store = asker.open(own.url)
        asker.ask(store, write_of(SCANS[0]))
        with own.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", other.port)
            with pytest.raises(StorageUnavailable):
                asker.ask(store, write_of(SCANS[0]))
            client.execute_command("REPLICAOF", "NO", "ONE")
        assert isinstance(asker.ask(store, write_of(SCANS[0])), Applied)
