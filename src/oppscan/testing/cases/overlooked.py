"""Lists stay right: of what lost its place, of what expired, beside what nobody can read."""

# ruff: noqa: D102, S101 - cases, not code

from __future__ import annotations

import pytest

from oppscan import CorruptRecord, Reuse, ScanNotFound, ScanState
from oppscan.ops import SelectDue
from oppscan.testing.cases.base import Cases
from oppscan.testing.cases.costs import _overwrite as overwrite
from oppscan.testing.faults import Fault
from oppscan.testing.loss import Kind
from oppscan.testing.world import World


class OverlookedCases(Cases):
    """What is there is listed, and what is not costs nothing."""

    @pytest.mark.parametrize("kind", ["index", "entry", "latest", "pointer"])
    async def test_g4_an_active_scan_shows_though_its_place_is_lost(
        self, world: World, kind: Kind
    ) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        world.lose(worker.store, kind, ticket.scan_id)
        assert await worker.registry.has_active_scan("ann")
        assert await worker.registry.has_active_scan("ann", key=ticket.key)
        assert [s.scan_id for s in await worker.registry.history("ann")] == [ticket.scan_id]

    async def test_g4_a_live_scan_is_put_back_beside_others(self, world: World) -> None:
        worker = world.worker()
        lost = await world.start(worker, key="lost")
        kept = await world.start(worker, key="kept")
        world.lose(worker.store, "entry", lost.scan_id)
        await worker.registry.status(lost.scan_id)
        listed = {status.scan_id for status in await worker.registry.history("ann")}
        assert listed == {lost.scan_id, kept.scan_id}

    async def test_i8_a_dead_scan_whose_due_time_is_lost_is_listed_once_it_is_read(
        self, world: World
    ) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        await world.dead_claim(ticket.scan_id)
        world.lose(worker.store, "due", ticket.scan_id)
        before = await worker.registry.status(ticket.scan_id)
        assert [s.scan_id for s in await worker.registry.stalled()] == [ticket.scan_id]
        assert await worker.registry.status(ticket.scan_id) == before

    async def test_putting_back_never_fails_the_read(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        world.lose(worker.store, "entry", ticket.scan_id)
        worker.store.plan(Fault.PASS, *[Fault.FAIL] * 50)
        assert await worker.registry.status(ticket.scan_id) == ticket.status

    async def test_stalled_costs_nothing_for_what_expired(self, world: World) -> None:
        worker = world.worker()
        for number in range(600):
            await world.start(worker, key=str(number))
        await world.clock.advance(world.ttl.pending_ttl * 1.01)
        last = await world.start(worker)
        await world.dead_claim(last.scan_id)
        assert [s.scan_id for s in await worker.registry.stalled(1)] == [last.scan_id]
        worker.store.reset()
        assert [s.scan_id for s in await worker.registry.stalled(1)] == [last.scan_id]
        assert worker.store.counts == {SelectDue.__name__: 1}

    async def test_stalled_scans_come_whole(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker, metadata={"n": 1})
        claim = await world.take_over(ticket.scan_id)
        await claim.strategy_finished("alpha", [{"n": 1}])
        await world.clock.advance(world.ttl.lease * 1.01)
        (stalled,) = await worker.registry.stalled()
        assert stalled == await worker.registry.status(ticket.scan_id)

    async def test_g14_an_unreadable_record_hides_no_others(self, world: World) -> None:
        worker = world.worker()
        bad = await world.start(worker, key="bad")
        good = await world.start(worker, key="good")
        await overwrite(world, worker.store, bad.scan_id, b"junk")
        assert [s.scan_id for s in await worker.registry.history("ann")] == [good.scan_id]
        assert await worker.registry.has_active_scan("ann")
        trace = await worker.registry.explain(bad.scan_id)
        assert trace.answer == "corrupt"
        assert trace.steps[0].saw == "corrupt"
        await worker.registry.forget(bad.scan_id, owner="bob")
        with pytest.raises(CorruptRecord):
            await worker.registry.status(bad.scan_id)
        await worker.registry.forget(bad.scan_id, owner="ann")
        with pytest.raises(ScanNotFound):
            await worker.registry.status(bad.scan_id)
        assert (await world.start(worker, key="bad")).must_run

    @pytest.mark.parametrize("end", ["failed", "cancelled", "unreadable"])
    async def test_fresh_reuses_a_complete_scan_behind_a_newer_one(
        self, world: World, end: str
    ) -> None:
        worker = world.worker()
        complete = await world.finished(worker)
        newer = await world.start(worker)
        assert not newer.joined
        if end == "failed":
            await (await world.hold(worker, newer.scan_id)).fail("x")
        else:
            await worker.registry.cancel(newer.scan_id)
        if end == "unreadable":
            await overwrite(world, worker.store, newer.scan_id, b"junk")
            with pytest.raises(CorruptRecord):
                await world.start(worker, reuse=Reuse.fresh(100 * world.unit))
            await worker.registry.forget(newer.scan_id)
        joined = await world.start(worker, reuse=Reuse.fresh(100 * world.unit))
        assert joined.scan_id == complete.scan_id
        assert joined.status.state is ScanState.COMPLETE
