"""Tasks cancelled at awkward moments: the async face alone (G11, G13)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from oppscan import MemoryBackend, ScanRegistry, StorageBackend, TTLPolicy
from oppscan.backends.sqlite import SQLiteBackend
from oppscan.ops import Apply
from oppscan.testing import Fault, FaultyStore

NAMES = ["a", "b", "c"]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FaultyStore]:
    inner: StorageBackend = MemoryBackend()
    if request.param == "sqlite":
        inner = SQLiteBackend(tmp_path / "a.db")
    yield FaultyStore(inner)
    inner.close()


@pytest.mark.asyncio
async def test_g13_a_task_cancelled_in_a_write_releases_its_scan(store: FaultyStore) -> None:
    registry = ScanRegistry(store)
    ticket = await registry.start("ann", NAMES)
    entered = asyncio.Event()

    async def work() -> None:
        async with registry.claim(ticket.scan_id) as scan:
            await scan.strategy_finished("a", [{"n": 1}])
            store.plan(Fault.SLOW, on=Apply)
            entered.set()
            await scan.strategy_finished("b", [{"n": 2}])

    task = asyncio.create_task(work())
    await entered.wait()
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    status = await registry.status(ticket.scan_id)
    assert status.state == "running"
    assert status.stalled
    async with registry.claim(ticket.scan_id) as scan:
        for name in scan.remaining:
            await scan.strategy_finished(name, [{"n": name}])
    results = await registry.results(ticket.scan_id)
    assert len(results.opportunities) == 3
    await registry.aclose()


@pytest.mark.asyncio
async def test_g13_a_task_cancelled_while_it_claims_holds_nothing_up(store: FaultyStore) -> None:
    registry = ScanRegistry(store, ttl=TTLPolicy(lease=60))
    for fault in (Fault.SLOW, Fault.DROP_AND_HANG):
        ticket = await registry.start("ann", NAMES, key=fault.name)
        store.plan(fault, on=Apply)

        async def work(scan_id: str) -> None:
            async with registry.claim(scan_id):
                await asyncio.sleep(60)

        task = asyncio.create_task(work(ticket.scan_id))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.1)
        async with registry.claim(ticket.scan_id) as scan:
            assert scan.remaining == ("a", "b", "c")
    await registry.aclose()


@pytest.mark.asyncio
async def test_a_burst_survives_the_cancellation_of_one_of_its_tasks(store: FaultyStore) -> None:
    registry = ScanRegistry(store)
    ticket = await registry.start("ann", NAMES)
    async with registry.claim(ticket.scan_id) as scan:
        store.plan(Fault.SLOW, on=Apply)
        writes = [asyncio.create_task(scan.strategy_finished(name, [{}])) for name in NAMES]
        await asyncio.sleep(0.01)
        writes[0].cancel()
        verdicts = await asyncio.gather(*writes, return_exceptions=True)
        assert isinstance(verdicts[0], asyncio.CancelledError)
        assert verdicts[1:] == [None, None]
    status = await registry.status(ticket.scan_id)
    assert {o.name for o in status.outcomes if o.state == "found"} >= {"b", "c"}
    await registry.aclose()


@pytest.mark.asyncio
async def test_cancelled_reads_cross_no_replies(store: FaultyStore) -> None:
    registry = ScanRegistry(store)
    ids = [(await registry.start(f"owner {n}", NAMES)).scan_id for n in range(5)]
    for turn in range(60):
        reads = [asyncio.create_task(registry.status(scan_id)) for scan_id in ids]
        for _ in range(turn % 4):
            await asyncio.sleep(0)
        reads[turn % 5].cancel()
        answers = await asyncio.gather(*reads, return_exceptions=True)
        for scan_id, answer in zip(ids, answers, strict=True):
            if not isinstance(answer, asyncio.CancelledError):
                assert getattr(answer, "scan_id", None) == scan_id
    await registry.aclose()


def test_one_registry_serves_several_event_loops(store: FaultyStore) -> None:
    registry = ScanRegistry(store)
    ticket = asyncio.run(_start(registry))
    for _ in range(3):
        assert asyncio.run(_read(registry, ticket)) == ticket
    asyncio.run(registry.aclose())


async def _start(registry: ScanRegistry) -> str:
    return (await registry.start("ann", NAMES)).scan_id


async def _read(registry: ScanRegistry, scan_id: str) -> str:
    return (await registry.status(scan_id)).scan_id
