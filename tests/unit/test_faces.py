"""Both faces, from outside: the same names do the same, awaited or blocking."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest

import oppscan
import oppscan.sync
from oppscan import (
    ClaimLost,
    InvalidInput,
    MemoryBackend,
    Page,
    ScanAlreadyClaimed,
    ScanFinished,
    ScanNotFound,
    StorageUnavailable,
    TTLPolicy,
)
from oppscan.ops import Apply
from oppscan.testing import Fault, FaultyStore, ManualClock
from oppscan.testing.faces import awaitable
from oppscan.testing.world import FACES, Face
from tests.unit.made import SCAN_ID

QUICK = TTLPolicy(lease=0.2, near_ttl=10)
NAMES = ["alpha", "beta"]


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryBackend())


@pytest.fixture
def registry(store: FaultyStore) -> oppscan.ScanRegistry:
    return oppscan.ScanRegistry(store, ttl=QUICK, op_timeout=0.3)


@pytest.fixture
def blocking(store: FaultyStore) -> Iterator[oppscan.sync.ScanRegistry]:
    with oppscan.sync.ScanRegistry(store, ttl=QUICK, op_timeout=0.3) as opened:
        yield opened


@pytest.mark.asyncio
async def test_a_scan_from_start_to_results_awaited(registry: oppscan.ScanRegistry) -> None:
    mine = registry.for_owner("ann")
    assert mine.owner == "ann"
    ticket = await mine.start(NAMES, params={"a": 1}, metadata={"b": 2}, key="k")
    followed = asyncio.create_task(_follow(mine, ticket.scan_id))
    assert await mine.has_active_scan(key="k")
    async with mine.claim(ticket.scan_id) as scan:
        assert (scan.scan_id, scan.owner, scan.token) == (ticket.scan_id, "ann", 1)
        assert (scan.params, scan.metadata, scan.remaining) == ({"a": 1}, {"b": 2}, tuple(NAMES))
        assert not scan.cancel_requested
        assert not scan.is_interrupted
        await scan.strategy_started("alpha")
        await asyncio.gather(
            scan.strategy_finished("alpha", [{"n": 1}]), scan.strategy_skipped("beta", "no data")
        )
        await scan.heartbeat()
        assert scan.status.progress.strategies_completed == 2
    assert (await mine.wait(ticket.scan_id)).state == "complete"
    assert (await mine.status(ticket.scan_id)).done
    assert (await mine.status(ticket.scan_id)).done
    assert (await mine.results(ticket.scan_id)).opportunities == ({"n": 1},)
    assert (await mine.latest()).scan_id == ticket.scan_id
    assert len(await mine.history()) == 1
    assert len(await mine.history(states=["complete"], after="9" * 16)) == 1  # type: ignore[list-item]
    assert (await mine.explain(ticket.scan_id)).answer == "found"
    assert (await mine.explain()).answer == "found"
    assert (await mine.extend(ticket.scan_id, 9000)).done
    assert (await mine.cancel(ticket.scan_id)).state == "complete"
    states = await followed
    assert states[-1] == "complete"
    await mine.forget(ticket.scan_id)
    with pytest.raises(ScanNotFound):
        await mine.latest()
    assert await registry.stalled() == []
    assert await registry.purge() == 0
    assert await registry.ping() >= 0
    assert "MemoryBackend" in repr(registry)


async def _follow(mine: oppscan.OwnerScans, scan_id: str) -> list[str]:
    return [status.state async for status in mine.watch(scan_id)]


def test_a_scan_from_start_to_results_blocking(blocking: oppscan.sync.ScanRegistry) -> None:
    mine = blocking.for_owner("ann")
    ticket = mine.start(NAMES, params={"a": 1}, metadata={"b": 2}, key="k")
    states: list[str] = []
    follower = threading.Thread(
        target=lambda: states.extend(status.state for status in mine.watch(ticket.scan_id))
    )
    follower.start()
    assert mine.has_active_scan(key="k")
    with mine.claim(ticket.scan_id) as scan:
        assert (scan.scan_id, scan.owner, scan.token) == (ticket.scan_id, "ann", 1)
        assert (scan.params, scan.metadata, scan.remaining) == ({"a": 1}, {"b": 2}, tuple(NAMES))
        assert not scan.cancel_requested
        assert not scan.is_interrupted
        scan.strategy_started("alpha")
        scan.strategy_finished("alpha", [{"n": 1}])
        scan.strategy_skipped("beta", "no data")
        scan.heartbeat()
        assert scan.status.progress.strategies_completed == 2
    assert mine.wait(ticket.scan_id).state == "complete"
    assert mine.status(ticket.scan_id).done
    assert mine.status(ticket.scan_id).done
    assert mine.results(ticket.scan_id).opportunities == ({"n": 1},)
    assert mine.latest().scan_id == ticket.scan_id
    assert len(mine.history()) == 1
    assert mine.explain(ticket.scan_id).answer == "found"
    assert mine.extend(ticket.scan_id, 9000).done
    assert mine.cancel(ticket.scan_id).state == "complete"
    follower.join(10)
    assert states[-1] == "complete"
    mine.forget(ticket.scan_id)
    with pytest.raises(ScanNotFound):
        mine.latest()
    assert blocking.stalled() == []
    assert blocking.purge() == 0


@pytest.mark.asyncio
async def test_every_way_to_end_a_claim_awaited(registry: oppscan.ScanRegistry) -> None:
    for number, (ending, state) in enumerate(
        [
            ("complete", "complete"),
            ("fail", "failed"),
            ("release", "running"),
            ("update", "complete"),
        ]
    ):
        ticket = await registry.start("ann", [], key=str(number))
        async with registry.claim(ticket.scan_id) as scan:
            if ending == "complete":
                await scan.complete({"s": 1})
            elif ending == "fail":
                await scan.fail(ValueError("x"))
            elif ending == "release":
                await scan.release()
            else:
                await scan.update({"opportunities": []}, partial=False)
            assert scan.is_interrupted
            await scan.interrupted()
            with pytest.raises(ClaimLost):
                await scan.heartbeat()
        assert (await registry.status(ticket.scan_id)).state == state


def test_every_way_to_end_a_claim_blocking(blocking: oppscan.sync.ScanRegistry) -> None:
    for number, (ending, state) in enumerate(
        [
            ("complete", "complete"),
            ("fail", "failed"),
            ("release", "running"),
            ("update", "complete"),
        ]
    ):
        ticket = blocking.start("ann", [], key=str(number))
        with blocking.claim(ticket.scan_id) as scan:
            if ending == "complete":
                scan.complete({"s": 1})
            elif ending == "fail":
                scan.fail(ValueError("x"))
            elif ending == "release":
                scan.release()
            else:
                scan.update({"opportunities": []}, partial=False)
            assert scan.is_interrupted
            scan.interrupted()
            with pytest.raises(ClaimLost):
                scan.heartbeat()
        assert blocking.status(ticket.scan_id).state == state


@pytest.mark.asyncio
async def test_an_error_in_the_block_fails_the_scan_and_is_never_hidden(
    registry: oppscan.ScanRegistry, store: FaultyStore
) -> None:
    ticket = await registry.start("ann", NAMES)
    with pytest.raises(ValueError, match="feed"):  # noqa: PT012 - the block is the point
        async with registry.claim(ticket.scan_id) as scan:
            await scan.strategy_failed("alpha", ValueError("x"))
            raise ValueError("feed")
    assert (await registry.status(ticket.scan_id)).error == "ValueError: feed"
    with pytest.raises(ScanFinished):
        await registry.claim(ticket.scan_id).__aenter__()
    ticket = await registry.start("ann", NAMES)
    with pytest.raises(ValueError, match="feed"):  # noqa: PT012 - the block is the point
        async with registry.claim(ticket.scan_id):
            store.always(Fault.FAIL, on=Apply)
            raise ValueError("feed")
    store.clear()
    ticket = await registry.start("bob", NAMES)
    with pytest.raises(StorageUnavailable):
        async with registry.claim(ticket.scan_id):
            store.always(Fault.FAIL, on=Apply)


def test_an_error_in_the_block_fails_the_scan_and_is_never_hidden_blocking(
    blocking: oppscan.sync.ScanRegistry, store: FaultyStore
) -> None:
    ticket = blocking.start("ann", NAMES)
    with pytest.raises(ValueError, match="feed"), blocking.claim(ticket.scan_id) as scan:  # noqa: PT012
        scan.strategy_failed("alpha", ValueError("x"))
        raise ValueError("feed")
    assert blocking.status(ticket.scan_id).error == "ValueError: feed"
    ticket = blocking.start("ann", NAMES)
    with pytest.raises(ValueError, match="feed"), blocking.claim(ticket.scan_id):  # noqa: PT012
        store.always(Fault.FAIL, on=Apply)
        raise ValueError("feed")
    store.clear()
    ticket = blocking.start("bob", NAMES)
    with pytest.raises(StorageUnavailable), blocking.claim(ticket.scan_id):
        store.always(Fault.FAIL, on=Apply)


@pytest.mark.asyncio
async def test_a_lease_is_renewed_while_the_block_runs(
    registry: oppscan.ScanRegistry, store: FaultyStore
) -> None:
    ticket = await registry.start("ann", NAMES)
    async with registry.claim(ticket.scan_id) as scan:
        store.plan(Fault.FULL, on=Apply)
        await asyncio.sleep(0.4)
        with pytest.raises(ScanAlreadyClaimed):
            await registry.claim(ticket.scan_id).__aenter__()
        await registry.cancel(ticket.scan_id)
        await asyncio.wait_for(scan.interrupted(), 5)
        assert scan.cancel_requested
    assert (await registry.status(ticket.scan_id)).state == "cancelled"
    ticket = await registry.start("ann", NAMES)
    async with registry.claim(ticket.scan_id) as scan:
        await registry.forget(ticket.scan_id)
        await asyncio.wait_for(scan.interrupted(), 5)


def test_a_lease_is_renewed_while_the_block_runs_blocking(
    blocking: oppscan.sync.ScanRegistry, store: FaultyStore
) -> None:
    ticket = blocking.start("ann", NAMES)
    with blocking.claim(ticket.scan_id) as scan:
        store.plan(Fault.FULL, on=Apply)
        threading.Event().wait(0.4)
        with pytest.raises(ScanAlreadyClaimed):
            blocking.claim(ticket.scan_id).__enter__()
        blocking.cancel(ticket.scan_id)
        scan.interrupted()
        assert scan.cancel_requested
    assert blocking.status(ticket.scan_id).state == "cancelled"
    ticket = blocking.start("ann", NAMES)
    with blocking.claim(ticket.scan_id) as scan:
        blocking.forget(ticket.scan_id)
        scan.interrupted()


@pytest.mark.asyncio
async def test_a_cancelled_task_releases_the_scan(registry: oppscan.ScanRegistry) -> None:
    ticket = await registry.start("ann", NAMES)
    entered = asyncio.Event()

    async def work() -> None:
        async with registry.claim(ticket.scan_id):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    status = await registry.status(ticket.scan_id)
    assert (status.state, status.stalled) == ("running", True)


@pytest.mark.asyncio
async def test_a_wait_that_is_too_long_is_over(registry: oppscan.ScanRegistry) -> None:
    ticket = await registry.start("ann", NAMES)
    with pytest.raises(TimeoutError):
        await registry.wait(ticket.scan_id, timeout=0.05)


def test_a_wait_that_is_too_long_is_over_blocking(blocking: oppscan.sync.ScanRegistry) -> None:
    ticket = blocking.start("ann", NAMES)
    with pytest.raises(TimeoutError):
        blocking.wait(ticket.scan_id, timeout=0.05)


@pytest.mark.asyncio
async def test_a_claim_is_used_inside_its_block(
    registry: oppscan.ScanRegistry, blocking: oppscan.sync.ScanRegistry
) -> None:
    with pytest.raises(ClaimLost, match="was not entered"):
        await registry.claim(SCAN_ID).heartbeat()
    with pytest.raises(ClaimLost, match="was not entered"):
        blocking.claim(SCAN_ID).heartbeat()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_g7_a_claim_does_not_cross_a_fork(blocking: oppscan.sync.ScanRegistry) -> None:
    ticket = blocking.start("ann", NAMES)
    with blocking.claim(ticket.scan_id) as scan:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                scan.heartbeat()
            except ClaimLost:
                scan.__exit__(None, None, None)
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        scan.heartbeat()


@pytest.mark.asyncio
async def test_what_is_asked_wrongly_is_refused(registry: oppscan.ScanRegistry) -> None:
    with pytest.raises(InvalidInput, match="explain needs a scan_id, or an owner"):
        await registry.explain()
    with pytest.raises(InvalidInput, match="states must be a collection"):
        await registry.history("ann", states="complete")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="is none of pending, running"):
        await registry.history("ann", states=["done"])  # type: ignore[list-item]
    with pytest.raises(InvalidInput, match="cursor of an earlier page"):
        await registry.history("ann", after="x")
    with pytest.raises(InvalidInput, match="key must be a str"):
        await registry.latest("ann", key=7)  # type: ignore[arg-type]
    assert (await registry.explain("x")).answer == "unknown"
    assert (await registry.explain(SCAN_ID)).answer == "unknown"
    assert (await registry.explain(owner="ann", key="k")).answer == "unknown"
    await registry.forget("x")
    await registry.forget(SCAN_ID)
    with pytest.raises(ScanNotFound):
        await registry.status("x")


@pytest.mark.asyncio
@pytest.mark.parametrize("face", FACES)
async def test_g12_purging_takes_as_many_bites_as_there_are(face: Face) -> None:
    clock = ManualClock()
    store = FaultyStore(MemoryBackend(clock))
    registry = oppscan.ScanRegistry(store)
    if face == "blocking":
        registry = awaitable(oppscan.sync.ScanRegistry(store), clock)
    for number in range(300):
        await registry.start("ann", ["alpha"], key=str(number))
    clock.jump(10 * 3600)
    store.reset()
    assert await registry.purge() == 300
    assert store.counts["Purge"] > 1
    assert await registry.history("ann") == Page(())
