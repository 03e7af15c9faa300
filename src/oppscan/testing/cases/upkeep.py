"""extend, forget, purge, explain; fallback stores and lookups."""

# ruff: noqa: D102, PLR2004, S101 - cases, not code

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from oppscan import (
    Event,
    LookupStep,
    ScanExpired,
    ScanLost,
    ScanNotFound,
    ScanState,
    ScanStatus,
    StorageUnavailable,
)
from oppscan.testing.cases.base import Cases, exact
from oppscan.testing.faults import Fault
from oppscan.testing.world import World


class ExtendCases(Cases):
    """extend, forget, purge."""

    async def test_g3_extend_lengthens_and_never_shortens(self, world: World) -> None:
        exact(world)
        worker = world.worker()
        status = await world.finished(worker)
        longer = await worker.registry.extend(status.scan_id, timedelta(seconds=100))
        assert longer.finished_at is not None
        assert (longer.expires_at - longer.finished_at).total_seconds() == 100
        assert await worker.registry.extend(status.scan_id, 5) == longer
        assert await world.registry().status(status.scan_id) == longer
        world.manual.jump(99.999)
        assert len((await worker.registry.results(status.scan_id)).opportunities) == 3
        world.manual.jump(0.001)
        with pytest.raises(ScanExpired):
            await worker.registry.results(status.scan_id)

    async def test_extend_never_revives(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        await world.clock.advance(world.ttl.result_ttl * 1.01)
        with pytest.raises(ScanExpired):
            await worker.registry.extend(status.scan_id, 1000)
        with pytest.raises(ScanExpired):
            await worker.registry.status(status.scan_id)

    async def test_extending_a_live_scan_lasts_through_its_life(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        longer = await worker.registry.extend(ticket.scan_id, 500 * world.unit)
        assert longer.expires_at > ticket.status.expires_at
        async with worker.registry.claim(ticket.scan_id) as scan:
            await scan.strategy_finished("alpha", [{}])
        status = await worker.registry.status(ticket.scan_id)
        assert status.expires_at == longer.expires_at

    async def test_g7_extend_does_not_disturb_the_holder(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await world.registry().extend(ticket.scan_id, 500 * world.unit)
        await claim.strategy_finished("alpha", [{}])
        await claim.complete()

    async def test_forget_leaves_nothing(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker, key="k")
        await worker.registry.results(status.scan_id)
        await worker.registry.forget(status.scan_id, owner="ann")
        for registry in (worker.registry, world.registry()):
            for call in (
                registry.status(status.scan_id),
                registry.results(status.scan_id),
                registry.latest("ann"),
                registry.latest("ann", key="k"),
            ):
                with pytest.raises(ScanNotFound):
                    await call
            assert len(await registry.history("ann")) == 0
        await worker.registry.forget(status.scan_id)
        assert not (await world.start(worker, key="k")).joined

    async def test_forgetting_the_newest_shows_the_one_before(self, world: World) -> None:
        worker = world.worker()
        first = await world.finished(worker, key="1")
        second = await world.finished(worker, key="2")
        await worker.registry.forget(second.scan_id)
        assert (await worker.registry.latest("ann")).scan_id == first.scan_id

    async def test_forget_with_another_owner_forgets_nothing(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        await worker.registry.forget(status.scan_id, owner="bob")
        assert await worker.registry.status(status.scan_id) == status

    async def test_purge_counts_what_nobody_may_read(self, world: World) -> None:
        worker = world.worker()
        for number in range(3):
            await world.finished(worker, key=str(number))
        assert await worker.registry.purge() == 0
        await world.clock.advance(world.ttl.result_ttl * 1.01)
        assert await worker.registry.purge() == 0
        kept = await world.finished(worker, key="kept")
        await world.clock.advance(world.ttl.lookup_margin)
        assert await worker.registry.purge() in {0, 3}
        assert await worker.registry.purge() == 0
        assert await worker.registry.status(kept.scan_id) == kept

    async def test_namespaces_see_nothing_of_each_other(self, world: World) -> None:
        here = world.worker()
        there = world.worker(namespace=f"{world.namespace}-other")
        ticket = await world.start(here)
        with pytest.raises(ScanNotFound):
            await there.registry.status(ticket.scan_id)
        assert not (await world.start(there)).joined
        await world.clock.advance(world.ttl.claim_within)
        assert len(await here.registry.stalled()) == 1


class FallbackCases(Cases):
    """Ordered lookups, further stores, explain."""

    async def test_explain_tells_each_step(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        trace = await worker.registry.explain(status.scan_id)
        assert [(s.name, s.saw) for s in trace.steps] == [("record", "found")]
        assert trace.steps[0].ttl_left is not None
        assert 0 < trace.steps[0].ttl_left <= world.ttl.result_ttl
        assert trace.steps[0].took >= 0
        assert trace.status == status
        by_owner = await worker.registry.explain(owner="ann")
        assert by_owner.scan_id == status.scan_id
        unknown = await worker.registry.explain("0" * 16 + "-" + "0" * 32)
        steps = [(s.name, s.saw) for s in unknown.steps]
        assert steps == [("record", "unknown"), ("result", "unknown"), ("owner_index", "unknown")]
        assert unknown.answer == "unknown"
        assert "record: unknown" in str(unknown)

    async def test_a_miss_is_logged_once_with_its_trace(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        told: list[Event] = []
        worker = world.worker(observers=[told.append])
        with caplog.at_level(logging.WARNING, "oppscan"), pytest.raises(ScanNotFound):
            await worker.registry.status("0" * 16 + "-" + "0" * 32)
        assert len(caplog.records) == 1
        assert [event.kind for event in told] == ["missed"]
        assert told[0].detail["answer"] == "unknown"

    async def test_observers_are_told_what_was_written_in_order(self, world: World) -> None:
        told: list[Event] = []
        worker = world.worker(observers=[told.append])
        ticket = await world.start(worker)
        await world.start(worker)
        async with worker.registry.claim(ticket.scan_id) as scan:
            await scan.strategy_started("alpha")
            await scan.strategy_finished("alpha", [{"n": 1}, {"n": 2}])
            await scan.release()
        async with worker.registry.claim(ticket.scan_id) as scan:
            await scan.strategy_failed("beta", "no feed")
        await worker.registry.forget(ticket.scan_id)
        assert [event.kind for event in told] == [
            *("started", "joined", "claimed", "strategy", "released"),
            *("claimed", "strategy", "strategy", "finished", "forgotten"),
        ]
        assert {event.scan_id for event in told} == {ticket.scan_id}
        assert [event.detail for event in told if event.kind == "strategy"] == [
            {"strategy": "alpha", "state": "found", "found": 2},
            {"strategy": "beta", "state": "failed", "found": 0},
            {"strategy": "gamma", "state": "skipped", "found": 0},
        ]
        assert told[-2].detail == {"state": "complete"}

    async def test_a_further_store_is_asked_when_the_first_does_not_know(
        self, world: World
    ) -> None:
        old = world.worker("second")
        status = await world.finished(old)
        worker = world.worker(fallbacks=[world.store("second")])
        assert await worker.registry.status(status.scan_id) == status
        assert len((await worker.registry.results(status.scan_id)).opportunities) == 3
        alone = world.worker()
        copied = await alone.registry.status(status.scan_id)
        assert copied == status
        assert len((await alone.registry.results(status.scan_id)).opportunities) == 3

    async def test_a_copied_scan_lives_no_longer_than_it_had_left(self, world: World) -> None:
        exact(world)
        status = await world.finished(world.worker("second"))
        world.manual.jump(world.ttl.result_ttl - 1)
        worker = world.worker(fallbacks=[world.store("second")])
        assert (await worker.registry.status(status.scan_id)).expires_at == status.expires_at
        world.manual.jump(1)
        with pytest.raises(ScanExpired):
            await world.registry().status(status.scan_id)

    async def test_live_scans_are_read_through_and_written_where_they_live(
        self, world: World
    ) -> None:
        old = world.worker("second")
        ticket = await world.start(old)
        worker = world.worker(fallbacks=[world.store("second")])
        assert await worker.registry.status(ticket.scan_id) == ticket.status
        assert (await world.start(worker)).scan_id == ticket.scan_id
        assert await worker.registry.has_active_scan("ann")
        async with worker.registry.claim(ticket.scan_id) as scan:
            await scan.strategy_finished("alpha", [{"n": 1}])
            with pytest.raises(ScanNotFound):
                await world.registry().status(ticket.scan_id)
            moved = await old.registry.status(ticket.scan_id)
            assert moved.progress.strategies_completed == 1
        assert (await old.registry.status(ticket.scan_id)).state is ScanState.COMPLETE

    async def test_cancelling_reaches_the_store_where_it_lives(self, world: World) -> None:
        old = world.worker("second")
        ticket = await world.start(old)
        worker = world.worker(fallbacks=[world.store("second")])
        await worker.registry.cancel(ticket.scan_id)
        assert (await old.registry.status(ticket.scan_id)).state is ScanState.CANCELLED

    async def test_a_down_primary_leaves_finished_scans_of_a_fallback(self, world: World) -> None:
        finished = await world.finished(world.worker("second"))
        live = await world.start(world.worker("second"), key="live")
        worker = world.worker(fallbacks=[world.store("second")], op_timeout=0.4)
        worker.store.always(Fault.FAIL)
        assert await worker.registry.status(finished.scan_id) == finished
        for scan_id in (live.scan_id, "0" * 16 + "-" + "0" * 32):
            with pytest.raises(StorageUnavailable):
                await worker.registry.status(scan_id)

    async def test_i6_a_down_fallback_is_no_absence_either(self, world: World) -> None:
        further = world.store("second")
        further.always(Fault.FAIL)
        worker = world.worker(fallbacks=[further], op_timeout=0.4)
        with pytest.raises(StorageUnavailable):
            await worker.registry.status("0" * 16 + "-" + "0" * 32)
        status = await world.finished(world.worker())
        assert await worker.registry.status(status.scan_id) == status

    async def test_a_lost_scan_is_found_in_a_fallback(self, world: World) -> None:
        further = world.worker("second")
        status = await world.finished(further)
        worker = world.worker(fallbacks=[world.store("second")])
        await worker.registry.status(status.scan_id)
        world.lose(worker.store, "head", status.scan_id)
        world.lose(worker.store, "data", status.scan_id)
        with pytest.raises(ScanLost):
            await world.registry().status(status.scan_id)
        assert await worker.registry.status(status.scan_id) == status

    async def test_forget_reaches_every_store_or_raises(self, world: World) -> None:
        further = world.store("second")
        status = await world.finished(world.worker("second"))
        worker = world.worker(fallbacks=[further], op_timeout=0.4)
        await worker.registry.status(status.scan_id)
        further.always(Fault.FAIL)
        with pytest.raises(StorageUnavailable):
            await worker.registry.forget(status.scan_id)
        further.clear()
        await worker.registry.forget(status.scan_id)
        for registry in (world.registry(), world.worker("second").registry, worker.registry):
            with pytest.raises(ScanNotFound):
                await registry.status(status.scan_id)

    async def test_hosts_can_insert_steps_of_their_own(self, world: World) -> None:
        status = await world.finished(world.worker("second"))
        asked: list[str] = []

        def archive(scan_id: str, owner: str | None) -> ScanStatus | None:
            asked.append(scan_id)
            assert owner in {None, "ann", "bob"}
            return status if scan_id == status.scan_id else None

        steps = ["record", "result", "owner_index", LookupStep("archive", archive)]
        worker = world.worker(lookups=steps)
        assert await worker.registry.status(status.scan_id) == status
        trace = await worker.registry.explain(status.scan_id)
        assert [s.name for s in trace.steps][-1] == "archive"
        with pytest.raises(ScanNotFound):
            await worker.registry.status(status.scan_id, owner="bob")
        with pytest.raises(ScanNotFound):
            await worker.registry.status("0" * 16 + "-" + "0" * 32)
        assert len(asked) == 3

    async def test_a_host_s_step_that_fails_is_unreachable(self, world: World) -> None:
        def broken(scan_id: str, owner: str | None) -> ScanStatus | None:
            raise RuntimeError(f"{scan_id} of {owner}")

        worker = world.worker(lookups=["record", LookupStep("archive", broken)])
        with pytest.raises(StorageUnavailable):
            await worker.registry.status("0" * 16 + "-" + "0" * 32)
