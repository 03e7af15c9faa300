"""Corners that only bad luck reaches: races, collisions, cancellations at the wrong moment."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import TypeVar

import pytest

import oppscan
import oppscan.sync
from oppscan import (
    MemoryBackend,
    ScanNotFound,
    ScanRegistry,
    StorageBackend,
    StorageMisconfigured,
    StorageUnavailable,
)
from oppscan.backends.sqlite import SQLiteBackend
from oppscan.changing import TRIES
from oppscan.drafting import Heartbeat, Report, Started
from oppscan.driver import drive_blocking
from oppscan.opening import BaseRegistry
from oppscan.ops import Apply, Request, Resolve
from oppscan.testing import Fault, FaultyStore, lose
from tests.unit.made import LIMITS, NAMES, POLICY, SCAN_ID, a_shop, finished

R = TypeVar("R")


class Sluggish(MemoryBackend):
    """A store that blocks its caller for longer than an operation may take."""

    def execute_blocking(self, request: Request[R], namespace: str, timeout: float) -> R:
        reply = super().execute_blocking(request, namespace, timeout)
        if isinstance(request, Resolve):
            threading.Event().wait(0.06)
        return reply


def test_i6_time_that_a_first_request_used_up_is_not_given_twice() -> None:
    store = Sluggish()
    ticket = oppscan.sync.ScanRegistry(store).start("ann", NAMES)
    with pytest.raises(StorageUnavailable, match=r"gave no answer within 0\.05 s"):
        oppscan.sync.ScanRegistry(store, op_timeout=0.05).cancel(ticket.scan_id)


@pytest.mark.asyncio
async def test_i6_time_that_a_first_request_used_up_is_not_given_twice_awaited() -> None:
    store = Sluggish()
    ticket = await ScanRegistry(store).start("ann", NAMES)
    with pytest.raises(StorageUnavailable, match=r"gave no answer within 0\.05 s"):
        await ScanRegistry(store, op_timeout=0.05).cancel(ticket.scan_id)


def test_g6_the_record_has_the_last_word_on_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two owners whose hashes collide still see nothing of each other."""
    shop = a_shop()
    monkeypatch.setattr("oppscan.operations.owner_tag", lambda _: "a" * 16)
    monkeypatch.setattr("oppscan.changing.owner_tag", lambda _: "a" * 16)
    monkeypatch.setattr("oppscan.listing.owner_tag", lambda _: "a" * 16)
    monkeypatch.setattr("oppscan.sightings.owner_tag", lambda _: "a" * 16)
    scan_id = finished(shop)
    for read in (shop.registry.status, shop.registry.results, shop.registry.cancel):
        with pytest.raises(ScanNotFound):
            read(scan_id, owner="bob")
    assert shop.registry.history("bob").items == ()
    assert not shop.registry.has_active_scan("bob")
    shop.registry.forget(scan_id, owner="bob")
    lose(shop.backend, "oppscan", "head", scan_id)
    lose(shop.backend, "oppscan", "data", scan_id)
    shop.registry.forget(scan_id, owner="bob")
    assert shop.registry.explain(scan_id, owner="bob").answer == "unknown"
    assert shop.registry.explain(scan_id, owner="ann").answer == "lost"


def test_a_start_that_is_overtaken_every_time_gives_up() -> None:
    shop = a_shop(op_timeout=9)
    rival = oppscan.sync.ScanRegistry(shop.backend, ttl=POLICY)
    base = BaseRegistry(shop.backend, ttl=POLICY)
    stores, operations = base._stores, base._operations  # noqa: SLF001

    def another() -> None:
        """Start an equal scan, held and asked to stop: nobody may join it."""
        ticket = rival.start("ann", NAMES, key="k")
        drive_blocking(operations.claim(ticket.scan_id, None), stores)
        rival.cancel(ticket.scan_id)

    for _ in range(TRIES):
        shop.store.before(another, on=Apply)
    with pytest.raises(StorageUnavailable, match=r"start for owner 'ann': .* 64 times in a row"):
        shop.registry.start("ann", NAMES, key="k")


def test_a_request_to_cancel_that_meets_a_commit_is_made_again() -> None:
    shop = a_shop()
    ticket = shop.registry.start("ann", NAMES)
    shop.claim(ticket.scan_id)
    rival = oppscan.sync.ScanRegistry(shop.backend, ttl=POLICY)
    shop.store.before(lambda: rival.extend(ticket.scan_id, 500), on=Apply)
    assert shop.registry.cancel(ticket.scan_id).cancel_requested


def test_a_copy_of_what_is_forgotten_meanwhile_is_not_made() -> None:
    old = a_shop()
    new = FaultyStore(MemoryBackend(old.clock))
    registry = oppscan.sync.ScanRegistry(new, ttl=POLICY, fallbacks=[old.store])
    scan_id = finished(old)
    old.store.before(lambda: None, on=Resolve)
    rival = oppscan.sync.ScanRegistry(old.backend, ttl=POLICY)
    old.store.before(lambda: rival.forget(scan_id), on=Resolve)
    assert registry.status(scan_id).state == "complete"
    with pytest.raises(ScanNotFound):
        registry.status(scan_id)
    assert new.counts["Apply"] == 0


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="there are no links here")
def test_a_path_that_leads_nowhere_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StorageMisconfigured):
        oppscan.sync.ScanRegistry(SQLiteBackend(tmp_path / "loop" / "a.db")).start("ann", NAMES)


@pytest.mark.asyncio
async def test_a_task_cancelled_while_it_claims_lets_go_of_what_it_took() -> None:
    store = FaultyStore(MemoryBackend())
    registry = ScanRegistry(store, ttl=POLICY)
    ticket = await registry.start("ann", NAMES)
    store.plan(Fault.SLOW, on=Apply)
    entering = asyncio.create_task(registry.claim(ticket.scan_id).__aenter__())
    await asyncio.sleep(0.02)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    status = await registry.status(ticket.scan_id)
    assert status.state == "pending" or status.stalled


@pytest.mark.asyncio
@pytest.mark.parametrize("first", ["the holder", "its write"])
async def test_g13_a_loop_that_cancels_everything_in_mid_write_releases_its_scans(
    first: str,
) -> None:
    backend = MemoryBackend()
    silent = FaultyStore(backend)
    store = FaultyStore(silent)
    registry = ScanRegistry(store, ttl=POLICY)
    ticket = await registry.start("ann", NAMES)
    before, writing = asyncio.all_tasks(), asyncio.Event()

    async def work() -> None:
        async with registry.claim(ticket.scan_id) as scan:
            store.before(writing.set, on=Apply)
            silent.plan(Fault.HANG, on=Apply)
            await scan.strategy_finished("alpha", [{}])

    holder = asyncio.create_task(work())
    await writing.wait()
    tasks = sorted(asyncio.all_tasks() - before, key=lambda task: task is not holder)
    for task in tasks if first == "the holder" else reversed(tasks):
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holder
    reader = oppscan.sync.ScanRegistry(backend, ttl=POLICY)
    assert reader.status(ticket.scan_id).stalled
    with reader.claim(ticket.scan_id) as scan:
        assert scan.remaining == NAMES


class Forwarding(StorageBackend):
    """A store that does no more than it must: it has no ``aclose`` of its own."""

    def __init__(self) -> None:
        self.inner = MemoryBackend()
        self.closed = 0

    async def execute(self, request: Request[R], namespace: str, timeout: float) -> R:
        return await self.inner.execute(request, namespace, timeout)

    def execute_blocking(self, request: Request[R], namespace: str, timeout: float) -> R:
        return self.inner.execute_blocking(request, namespace, timeout)

    def close(self) -> None:
        self.closed += 1


@pytest.mark.asyncio
async def test_a_store_that_can_close_can_be_closed_from_both_faces() -> None:
    store = Forwarding()
    async with ScanRegistry(store) as registry:
        assert (await registry.start("ann", NAMES)).must_run
    assert store.closed == 1
    with oppscan.sync.ScanRegistry(store) as blocking:
        assert blocking.has_active_scan("ann")
    assert store.closed == 2


@pytest.mark.parametrize("module", [oppscan, oppscan.sync])
def test_every_name_that_is_promised_is_there_and_no_other(module: object) -> None:
    for name in module.__all__:  # type: ignore[attr-defined]
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing  # type: ignore[attr-defined]


def test_an_unknown_id_has_a_trace_of_what_was_asked() -> None:
    shop = a_shop()
    trace = shop.registry.explain(SCAN_ID)
    assert [(step.name, step.saw) for step in trace.steps] == [
        ("record", "unknown"),
        ("result", "unknown"),
        ("owner_index", "unknown"),
    ]
    assert LIMITS.max_attempts == 3


def test_a_long_index_is_walked_in_steps() -> None:
    shop = a_shop()
    started = [shop.registry.start("ann", [], reuse=oppscan.Reuse.NEVER).scan_id for _ in range(70)]
    lose(shop.backend, "oppscan", "latest", started[-1])
    assert shop.registry.latest("ann", key=started[0]).scan_id == started[0]
    lose(shop.backend, "oppscan", "pointer", started[0])
    assert shop.registry.latest("ann", key=started[0]).scan_id == started[0]
    assert [s.scan_id for s in shop.registry.history("ann", limit=70)] == started[::-1]


def test_g4_lost_entries_come_back_with_the_next_write_in_their_order() -> None:
    shop = a_shop()
    first, second = (shop.registry.start("ann", [], key=key).scan_id for key in "ab")
    lose(shop.backend, "oppscan", "entry", first)
    assert [s.scan_id for s in shop.registry.history("ann")] == [second]
    lose(shop.backend, "oppscan", "index", second)
    shop.registry.extend(first, 500)
    shop.registry.extend(second, 500)
    assert [s.scan_id for s in shop.registry.history("ann")] == [second, first]


def test_g9_single_flight_survives_the_loss_of_its_pointer() -> None:
    shop = a_shop()
    ticket = shop.registry.start("ann", NAMES)
    shop.registry.start("ann", NAMES, key="other")
    lose(shop.backend, "oppscan", "pointer", ticket.scan_id)
    again = shop.registry.start("ann", NAMES)
    assert (again.scan_id, again.joined) == (ticket.scan_id, True)


def test_g12_live_scans_are_remembered_whatever_the_limit() -> None:
    shop = a_shop(limits=oppscan.Limits(max_remembered=1))
    started = [shop.registry.start("ann", [], key=key).scan_id for key in "abc"]
    assert [s.scan_id for s in shop.registry.history("ann")] == started[::-1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_store_that_was_never_used_may_be_used_in_a_child(tmp_path: Path) -> None:
    registry = oppscan.sync.ScanRegistry(SQLiteBackend(tmp_path / "a.db"))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            registry.start("ann", NAMES)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert registry.latest("ann").state == "pending"
    registry.close()


@pytest.mark.asyncio
async def test_reports_that_leave_together_get_a_verdict_each() -> None:
    registry = ScanRegistry(MemoryBackend(), ttl=POLICY)
    ticket = await registry.start("ann", NAMES)
    async with registry.claim(ticket.scan_id) as scan:
        reports: list[Report] = [Heartbeat(), Started(0), Started(1), Started(2)]
        assert await scan.submit_all(reports) == [None] * 4
        status = await registry.status(ticket.scan_id, outcomes=False)
        assert status.outcomes == ()
        states = [o.state for o in (await registry.status(ticket.scan_id)).outcomes]
        assert states == ["running"] * 3
    blocking = oppscan.sync.ScanRegistry(MemoryBackend(), ttl=POLICY)
    ticket = blocking.start("ann", NAMES)
    with blocking.claim(ticket.scan_id) as held:
        assert held.submit_all([Heartbeat(), Started(0)]) == [None, None]
        assert blocking.status(ticket.scan_id).outcome("alpha").state == "running"


@pytest.mark.asyncio
async def test_a_watcher_of_nothing_new_stays_silent() -> None:
    registry = ScanRegistry(MemoryBackend(), ttl=POLICY)
    ticket = await registry.start("ann", NAMES)
    task = asyncio.create_task(_states(registry, ticket.scan_id))
    await asyncio.sleep(0.1)
    await registry.cancel(ticket.scan_id)
    assert await task == ["pending", "cancelled"]


async def _states(registry: ScanRegistry, scan_id: str) -> list[str]:
    return [status.state async for status in registry.watch(scan_id)]
