"""§ Claims and G7: taking a scan, leases, heartbeats, fencing."""

# ruff: noqa: D102, PLR2004, S101 - cases, not code

from __future__ import annotations

import asyncio

import pytest

from oppscan import (
    ClaimLost,
    InvalidInput,
    OutcomeState,
    ScanAlreadyClaimed,
    ScanFinished,
    ScanNotFound,
    ScanState,
)
from oppscan.testing.cases.base import Call, Cases, calls, exact, seen_of
from oppscan.testing.faults import Fault
from oppscan.testing.world import NAMES, World, milliseconds


class ClaimCases(Cases):
    """Taking a scan."""

    async def test_a_claim_knows_its_scan(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker, params={"p": 1}, metadata={"m": 2})
        async with worker.registry.claim(ticket.scan_id, owner="ann") as scan:
            assert scan.scan_id == ticket.scan_id
            assert scan.owner == "ann"
            assert scan.params == {"p": 1}
            assert scan.metadata == {"m": 2}
            assert scan.remaining == tuple(NAMES)
            assert scan.token >= 1
            assert not scan.cancel_requested
            await scan.strategy_finished("beta", [])
            assert scan.remaining == ("alpha", "gamma")

    async def test_a_claim_that_was_not_entered_cannot_write(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        with pytest.raises(ClaimLost):
            await worker.registry.claim(ticket.scan_id).heartbeat()
        assert (await worker.registry.status(ticket.scan_id)).state is ScanState.PENDING

    async def test_claiming_starts_the_scan(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        await world.hold(worker, ticket.scan_id)
        status = await world.registry().status(ticket.scan_id)
        assert status.state is ScanState.RUNNING
        assert status.attempts == 1
        assert status.started_at is not None
        assert status.heartbeat_at == status.started_at
        assert status.revision > ticket.status.revision

    async def test_g7_a_live_claim_keeps_others_out(self, world: World) -> None:
        worker, other = world.worker(), world.worker()
        ticket = await world.start(worker)
        await world.hold(worker, ticket.scan_id)
        with pytest.raises(ScanAlreadyClaimed) as caught:
            await world.hold(other, ticket.scan_id)
        assert 0 < caught.value.retry_after <= world.ttl.lease
        assert caught.value.scan_id == ticket.scan_id

    async def test_a_finished_scan_cannot_be_claimed(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        with pytest.raises(ScanFinished) as caught:
            await world.hold(worker, status.scan_id)
        assert caught.value.status.state is ScanState.COMPLETE
        assert caught.value.status == status

    async def test_g6_claiming_another_owner_s_scan_is_claiming_nothing(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        with pytest.raises(ScanNotFound):
            await worker.registry.claim(ticket.scan_id, owner="bob").__aenter__()
        with pytest.raises(ScanNotFound):
            await world.hold(worker, "no such id")
        assert (await worker.registry.status(ticket.scan_id)).state is ScanState.PENDING

    async def test_g9_racing_claims_have_one_winner(self, world: World) -> None:
        ticket = await world.start(world.worker())
        workers = [world.worker() for _ in range(6)]

        async def enter(number: int) -> str:
            try:
                await world.hold(workers[number], ticket.scan_id)
            except ScanAlreadyClaimed:
                return "late"
            return "won"

        verdicts = await asyncio.gather(*(enter(number) for number in range(6)))
        assert sorted(verdicts) == ["late"] * 5 + ["won"]

    async def test_g7_tokens_grow(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        tokens = []
        for _ in range(3):
            async with worker.registry.claim(ticket.scan_id) as scan:
                tokens.append(scan.token)
                await scan.release()
        assert tokens[0] < tokens[1] < tokens[2]
        assert (await worker.registry.status(ticket.scan_id)).attempts == 3


class LeaseCases(Cases):
    """How a claim lives and dies."""

    async def test_g7_heartbeats_run_by_themselves_every_quarter_lease(self, world: World) -> None:
        exact(world)
        worker = world.worker()
        ticket = await world.start(worker)
        await world.hold(worker, ticket.scan_id)
        worker.store.reset()
        await world.clock.advance(world.ttl.lease / 4 - 0.001)
        assert worker.store.counts["Apply"] == 0
        await world.clock.advance(0.001)
        assert worker.store.counts["Apply"] == 1
        await world.clock.advance(world.ttl.lease)
        assert worker.store.counts["Apply"] == 5

    async def test_i8_a_dead_worker_s_scan_reads_stalled_within_one_lease(
        self, world: World
    ) -> None:
        ticket = await world.start(world.worker())
        await world.dead_claim(ticket.scan_id)
        registry = world.registry()
        status = await registry.status(ticket.scan_id)
        assert status.stalled
        assert status.state is ScanState.RUNNING
        assert not await registry.has_active_scan("ann")
        assert [s.scan_id for s in await registry.stalled()] == [ticket.scan_id]

    async def test_g7_alive_and_moving_are_told_apart(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await claim.strategy_finished("alpha", [])
        await world.clock.advance(3 * world.ttl.lease)
        status = await worker.registry.status(ticket.scan_id)
        assert not status.stalled
        assert status.heartbeat_at is not None
        assert status.progressed_at is not None
        gap = (status.heartbeat_at - status.progressed_at).total_seconds()
        assert gap > world.ttl.lease

    async def test_g7_a_holder_that_is_late_but_not_replaced_may_go_on(self, world: World) -> None:
        ticket = await world.start(world.worker())
        claim = await world.dead_claim(ticket.scan_id)
        await claim.strategy_finished("alpha", [{}])
        status = await world.registry().status(ticket.scan_id)
        assert not status.stalled
        assert status.progress.strategies_completed == 1

    async def test_g7_a_stalled_scan_comes_back_with_a_heartbeat(self, world: World) -> None:
        ticket = await world.start(world.worker())
        claim = await world.dead_claim(ticket.scan_id)
        assert (await world.registry().status(ticket.scan_id)).stalled
        await claim.heartbeat()
        assert not (await world.registry().status(ticket.scan_id)).stalled

    async def test_g7_zombie_can_change_nothing(self, world: World) -> None:
        ticket = await world.start(world.worker())
        zombie = await world.dead_claim(ticket.scan_id)
        claim = await world.take_over(ticket.scan_id)
        await claim.strategy_finished("alpha", [{"by": "new"}])
        before = await seen_of(world, ticket.scan_id)
        for write in calls(
            zombie.heartbeat,
            lambda: zombie.strategy_started("beta"),
            lambda: zombie.strategy_finished("beta", [{"by": "zombie"}]),
            lambda: zombie.strategy_failed("beta", "late"),
            lambda: zombie.strategy_skipped("beta", "late"),
            zombie.complete,
            lambda: zombie.fail("late"),
            zombie.release,
        ):
            with pytest.raises(ClaimLost):
                await write()
        assert await seen_of(world, ticket.scan_id) == before

    @pytest.mark.parametrize(
        "write", ["heartbeat", "finish", "complete", "fail", "release", "update", "start"]
    )
    async def test_g7_zombie_s_first_write_is_fenced(self, world: World, write: str) -> None:
        ticket = await world.start(world.worker())
        zombie = await world.dead_claim(ticket.scan_id)
        await world.take_over(ticket.scan_id)
        before = await seen_of(world, ticket.scan_id)
        writes: dict[str, Call] = {
            "heartbeat": zombie.heartbeat,
            "finish": lambda: zombie.strategy_finished("beta", [{}]),
            "complete": zombie.complete,
            "fail": lambda: zombie.fail("late"),
            "release": zombie.release,
            "update": lambda: zombie.update({"opportunities": [{}]}),
            "start": lambda: zombie.strategy_started("beta"),
        }
        with pytest.raises(ClaimLost) as caught:
            await writes[write]()
        assert caught.value.scan_id == ticket.scan_id
        assert await seen_of(world, ticket.scan_id) == before

    async def test_g7_zombie_cannot_extend_ttl(self, world: World) -> None:
        ticket = await world.start(world.worker())
        zombie = await world.dead_claim(ticket.scan_id)
        worker = world.worker()
        claim = await world.hold(worker, ticket.scan_id)
        await claim.complete()
        status = await worker.registry.status(ticket.scan_id)
        await world.clock.advance(world.unit)
        with pytest.raises(ClaimLost):
            await zombie.heartbeat()
        assert (await worker.registry.status(ticket.scan_id)).expires_at == status.expires_at

    async def test_i12_a_zombie_of_a_released_scan_is_fenced_too(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        zombie = await world.dead_claim(ticket.scan_id)
        async with worker.registry.claim(ticket.scan_id) as scan:
            await scan.release()
        for _ in range(2):
            with pytest.raises(ClaimLost):
                await zombie.heartbeat()
        assert not await worker.registry.has_active_scan("ann")

    async def test_i12_a_zombie_cannot_revive_a_forgotten_scan(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await worker.registry.forget(ticket.scan_id)
        with pytest.raises(ClaimLost):
            await claim.strategy_finished("alpha", [{}])
        with pytest.raises(ScanNotFound):
            await worker.registry.status(ticket.scan_id)

    async def test_g7_an_automatic_heartbeat_learns_that_the_claim_was_lost(
        self, world: World
    ) -> None:
        ticket = await world.start(world.worker())
        worker = world.worker()
        zombie = await world.hold(worker, ticket.scan_id)
        worker.store.freeze()
        await world.clock.advance(world.ttl.lease * 1.01)
        await world.hold(world.worker(), ticket.scan_id)
        worker.store.thaw()
        await world.clock.advance(world.ttl.lease)
        worker.store.reset()
        with pytest.raises(ClaimLost):
            await zombie.heartbeat()
        await world.clock.advance(world.ttl.lease)
        assert worker.store.total == 0

    async def test_heartbeats_survive_an_outage(self, world: World) -> None:
        worker, other = world.worker(op_timeout=0.4), world.worker()
        ticket = await world.start(worker)
        await world.hold(worker, ticket.scan_id)
        worker.store.always(Fault.FAIL)
        await world.clock.advance(world.ttl.lease * 0.6)
        worker.store.clear()
        await world.clock.advance(world.ttl.lease * 2)
        assert not (await other.registry.status(ticket.scan_id)).stalled


class LeaseBoundaryCases(Cases):
    """The lease and claim_within, to the millisecond."""

    async def test_g7_the_lease_ends_exactly_when_it_ends(self, world: World) -> None:
        exact(world)
        worker, other = world.worker(), world.worker()
        ticket = await world.start(worker)
        await world.hold(worker, ticket.scan_id)
        worker.store.freeze()
        world.manual.jump(world.ttl.lease - 0.001)
        assert not (await other.registry.status(ticket.scan_id)).stalled
        assert await other.registry.has_active_scan("ann")
        with pytest.raises(ScanAlreadyClaimed) as caught:
            await world.hold(other, ticket.scan_id)
        assert caught.value.retry_after == pytest.approx(0.001)
        world.manual.jump(0.001)
        assert (await other.registry.status(ticket.scan_id)).stalled
        assert not await other.registry.has_active_scan("ann")
        await world.hold(other, ticket.scan_id)

    async def test_a_pending_scan_stalls_exactly_after_claim_within(self, world: World) -> None:
        exact(world)
        worker = world.worker()
        ticket = await world.start(worker)
        world.manual.jump(world.ttl.claim_within - 0.001)
        assert not (await worker.registry.status(ticket.scan_id)).stalled
        assert await worker.registry.stalled() == []
        assert not (await world.start(worker)).must_run
        world.manual.jump(0.001)
        assert (await worker.registry.status(ticket.scan_id)).stalled
        assert [s.scan_id for s in await worker.registry.stalled()] == [ticket.scan_id]
        joined = await world.start(worker)
        assert joined.joined
        assert joined.must_run
        world.manual.jump(0.001)
        assert (await worker.registry.status(ticket.scan_id)).stalled

    async def test_a_running_record_expires_running_ttl_after_its_lease(self, world: World) -> None:
        exact(world)
        worker, other = world.worker(), world.worker()
        ticket = await world.start(worker)
        await world.hold(worker, ticket.scan_id)
        worker.store.freeze()
        status = await other.registry.status(ticket.scan_id)
        assert status.heartbeat_at is not None
        life = milliseconds(status.expires_at - status.heartbeat_at)
        assert life == round((world.ttl.lease + world.ttl.running_ttl) * 1000)

    async def test_a_strategy_s_duration_is_from_its_start_to_its_outcome(
        self, world: World
    ) -> None:
        exact(world)
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await claim.strategy_started("alpha")
        await world.clock.advance(1.5)
        await claim.strategy_finished("alpha", [{}])
        await claim.strategy_failed("beta", RuntimeError("x"), timed_out=True)
        status = await worker.registry.status(ticket.scan_id)
        assert status.outcome("alpha").duration == 1.5
        assert status.outcome("beta").duration is None
        assert status.outcome("beta").state is OutcomeState.TIMED_OUT

    async def test_a_claim_object_reads_bad_input_before_anything(self, world: World) -> None:
        worker = world.worker()
        worker.store.reset()
        with pytest.raises(InvalidInput):
            await world.hold(worker, 7)  # type: ignore[arg-type]
        assert worker.store.total == 0
