"""A store's clients over their life: loops, forks, threads, cancellation, failover."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from contextlib import suppress

import pytest
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster

import oppscan.sync
from oppscan import ScanRegistry, StorageMisconfigured, StorageUnavailable
from oppscan.backends.redis import RedisBackend
from tests.redis.servers import Server, sentinel, wait_until

CHILD_FINE = 0


def test_one_store_serves_many_loops_one_after_the_other(url: str) -> None:
    store = RedisBackend(url)
    registry = ScanRegistry(store, namespace="loops")

    async def use(owner: str) -> str:
        ticket = await registry.start(owner, ["alpha"])
        status = await registry.status(ticket.scan_id)
        await registry.forget(ticket.scan_id)
        await registry.aclose()
        return status.owner

    assert [asyncio.run(use(f"owner-{n}")) for n in range(3)] == [f"owner-{n}" for n in range(3)]


def test_one_store_serves_both_faces_and_many_threads(url: str) -> None:
    store = RedisBackend(url)
    blocking = oppscan.sync.ScanRegistry(store, namespace="threads")
    scans = [blocking.start(f"owner-{n}", ["alpha"]).scan_id for n in range(8)]
    wrong: list[object] = []

    def poll(scan_id: str) -> None:
        try:
            seen = [blocking.status(scan_id).scan_id for _ in range(50)]
            wrong.extend(other for other in seen if other != scan_id)
        except Exception as error:  # noqa: BLE001 - told by the main thread
            wrong.append(error)

    threads = [threading.Thread(target=poll, args=(scan_id,)) for scan_id in scans]
    for thread in threads:
        thread.start()

    async def use() -> None:
        registry = ScanRegistry(store, namespace="threads")
        statuses = await asyncio.gather(*(registry.status(scan_id) for scan_id in scans))
        assert [status.scan_id for status in statuses] == scans
        await store.aclose()

    asyncio.run(use())
    for thread in threads:
        thread.join()
    blocking.close()
    assert wrong == []


def test_a_forked_child_uses_connections_of_its_own(url: str) -> None:
    store = RedisBackend(url)
    registry = oppscan.sync.ScanRegistry(store, namespace="fork")
    scan_id = registry.start("ann", ["alpha"]).scan_id
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                for _ in range(50):
                    assert registry.status(scan_id).scan_id == scan_id
                os._exit(CHILD_FINE)
            os._exit(1)
        children.append(child)
    for _ in range(50):
        assert registry.status(scan_id).scan_id == scan_id
    assert [os.waitpid(child, 0)[1] for child in children] == [CHILD_FINE] * 4
    registry.forget(scan_id)
    registry.close()


def test_cancelled_polls_cross_no_replies(url: str) -> None:
    async def use() -> int:
        store = RedisBackend(url)
        registry = ScanRegistry(store, namespace="cancel")
        scans = [(await registry.start(f"owner-{n}", ["alpha"])).scan_id for n in range(20)]
        crossed = 0

        async def poll(scan_id: str) -> None:
            nonlocal crossed
            crossed += (await registry.status(scan_id)).scan_id != scan_id

        for _ in range(60):
            tasks = [asyncio.create_task(poll(scan_id)) for scan_id in scans]
            await asyncio.sleep(random.random() * 0.004)
            for task in random.sample(tasks, 10):
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} <= {asyncio.CancelledError, type(None)}
        await asyncio.gather(*(poll(scan_id) for scan_id in scans))
        await store.aclose()
        return crossed

    assert asyncio.run(use()) == 0


def test_a_cluster_is_learnt_though_the_first_to_ask_left(
    valkey_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn, learning = AsyncRedisCluster.initialize, 0

    async def use() -> None:
        may_go_on = asyncio.Event()

        async def slowly(client: AsyncRedisCluster) -> AsyncRedisCluster:
            nonlocal learning
            learning += 1
            await may_go_on.wait()
            return await learn(client)

        monkeypatch.setattr(AsyncRedisCluster, "initialize", slowly)
        async with ScanRegistry(RedisBackend(valkey_cluster), op_timeout=0.05) as registry:
            with pytest.raises(StorageUnavailable):
                await registry.latest("ann")
        assert learning == 1
        async with ScanRegistry(RedisBackend(valkey_cluster)) as registry:
            first = asyncio.create_task(registry.start("ann", ["alpha"]))
            await asyncio.sleep(0)
            first.cancel()
            second = asyncio.create_task(registry.start("ann", ["alpha"]))
            await asyncio.sleep(0)
            may_go_on.set()
            assert (await second).must_run
        assert learning == 2

    asyncio.run(use())


def test_more_callers_than_connections_wait_their_turn(server: Server) -> None:
    async def use() -> None:
        async with ScanRegistry(RedisBackend(server.url), namespace="crowd") as registry:
            tickets = await asyncio.gather(*(registry.start(f"o-{n}", ["a"]) for n in range(300)))
            await asyncio.gather(*(registry.forget(ticket.scan_id) for ticket in tickets))
        with server.client() as client:
            wait_until(lambda: client.info("clients")["connected_clients"] < 5, "connections")

    asyncio.run(use())


@pytest.mark.parametrize("version", ["valkey-9.1", "redis-6.2"])
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGSTOP])
def test_a_sentinel_s_failover_is_a_short_outage(version: str, stop: int) -> None:
    with sentinel(version) as (url, master, _):

        async def use() -> tuple[int, int]:
            outages = done = 0
            registry = ScanRegistry(RedisBackend(url), op_timeout=1.0)
            ticket = await registry.start("ann", ["alpha", "beta"])
            await asyncio.sleep(0.5)  # until the replica has it: replication is asynchronous
            if stop == signal.SIGKILL:
                master.kill()
            else:
                master.send(stop)
            while done < 5 and outages < 30:
                try:
                    await registry.status(ticket.scan_id)
                    await registry.start(f"owner-{done}", ["alpha"])
                    done += 1
                except StorageUnavailable:
                    outages += 1
                    await asyncio.sleep(0.1)
            await registry.aclose()
            return done, outages

        done, outages = asyncio.run(use())
        blocking = oppscan.sync.ScanRegistry(RedisBackend(url))
        assert blocking.latest("owner-4").owner == "owner-4"
        blocking.close()
        if stop == signal.SIGSTOP:
            master.send(signal.SIGCONT)
    assert done == 5
    assert 0 < outages < 30


def test_durability_is_confirmed_by_a_replica_or_not_at_all() -> None:
    with (
        sentinel("valkey-9.1") as (url, _, replica),
        oppscan.sync.ScanRegistry(RedisBackend(url), durability="replicated") as registry,
    ):
        assert registry.start("ann", ["alpha"]).must_run
        replica.send(signal.SIGSTOP)
        with pytest.raises(oppscan.DurabilityNotConfirmed):
            registry.start("bob", ["alpha"])
        replica.send(signal.SIGCONT)
        assert registry.start("cid", ["alpha"]).must_run


def test_what_is_over_is_swept_with_writes_confirmed_too() -> None:
    short = oppscan.TTLPolicy(pending_ttl=0.05, lookup_margin=0.05)
    with (
        sentinel("valkey-9.1") as (url, _, _),
        oppscan.sync.ScanRegistry(RedisBackend(url), durability="replicated") as registry,
    ):
        forgetful = oppscan.sync.ScanRegistry(RedisBackend(url), ttl=short)
        for number in range(3):
            forgetful.start("ann", ["alpha"], key=str(number))
        forgetful.close()
        kept = registry.start("ann", ["alpha"])
        wait_until(lambda: len(registry.history("ann")) == 1, "expiry")
        assert registry.purge() == 3
        assert registry.status(kept.scan_id).state == "pending"


def test_a_cluster_confirms_no_writes(valkey_cluster: str) -> None:
    with pytest.raises(StorageMisconfigured):
        ScanRegistry(RedisBackend(valkey_cluster), durability="replicated")
