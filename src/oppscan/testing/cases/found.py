"""G1-G3, G10: a scan is found, its progress never goes back, and its end is final."""

# ruff: noqa: D102, PLR2004, S101 - cases, not code

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from oppscan import (
    ClaimLost,
    OutcomeState,
    ScanExpired,
    ScanNotFound,
    ScanState,
    ScanStatus,
)
from oppscan.ops import Apply, Resolve
from oppscan.testing.cases.base import Cases, exact
from oppscan.testing.faults import Fault
from oppscan.testing.world import NAMES, World


class FoundCases(Cases):
    """A started scan is there, for everybody, at once."""

    async def test_g1_every_worker_answers_once_start_returned(self, world: World) -> None:
        workers = [world.worker() for _ in range(3)]
        ticket = await world.start(workers[0])
        assert not ticket.joined
        assert ticket.must_run
        for worker in workers:
            status = await worker.registry.status(ticket.scan_id)
            assert status == ticket.status
            assert status.state is ScanState.PENDING
            assert not status.done
            assert not status.stalled
            assert (await worker.registry.latest("ann")).scan_id == ticket.scan_id
            assert await worker.registry.has_active_scan("ann")

    async def test_i1_registration_is_one_atomic_write(self, world: World) -> None:
        worker = world.worker()
        await world.start(worker)
        assert worker.store.counts == {"Apply": 1}

    async def test_i1_a_failed_start_leaves_nothing_behind(self, world: World) -> None:
        worker = world.worker(op_timeout=0.2)
        worker.store.always(Fault.FAIL, on=Apply)
        with pytest.raises(Exception, match=r"no connection|no answer"):
            await world.start(worker)
        other = world.worker()
        assert not await other.registry.has_active_scan("ann")
        assert len(await other.registry.history("ann")) == 0

    async def test_i2_the_record_is_there_before_any_worker_claims(self, world: World) -> None:
        ticket = await world.start(world.worker(), params={"a": [1]}, metadata={"b": None})
        status = await world.registry().status(ticket.scan_id)
        assert status.params == {"a": [1]}
        assert status.metadata == {"b": None}
        assert [outcome.name for outcome in status.outcomes] == list(NAMES)
        assert {outcome.state for outcome in status.outcomes} == {OutcomeState.PENDING}
        assert status.progress.total_strategies == 3
        assert status.started_at is None
        assert status.finished_at is None
        assert status.heartbeat_at is None

    async def test_status_times_are_aware_utc(self, world: World) -> None:
        status = await world.finished(world.worker())
        for name in ("created_at", "started_at", "finished_at", "heartbeat_at", "expires_at"):
            moment = getattr(status, name)
            assert isinstance(moment, datetime), name
            assert moment.utcoffset() == timedelta(0), name
        assert isinstance(status.outcomes, tuple)
        outcome = status.outcome("alpha")
        assert outcome.finished_at is not None
        assert outcome.finished_at.tzinfo is UTC

    async def test_outcomes_can_be_left_out(self, world: World) -> None:
        worker = world.worker()
        whole = await world.finished(worker)
        brief = await worker.registry.status(whole.scan_id, outcomes=False)
        assert brief.outcomes == ()
        assert brief.progress == whole.progress
        assert brief.params == whole.params
        with pytest.raises(KeyError):
            whole.outcome("nobody")

    async def test_g1_a_scan_without_strategies(self, world: World) -> None:
        worker = world.worker()
        ticket = await worker.registry.start("ann", [])
        async with worker.registry.claim(ticket.scan_id):
            pass
        status = await worker.registry.status(ticket.scan_id)
        assert status.done
        assert status.progress.percentage == 100.0


class MonotonicCases(Cases):
    """What was seen stays seen."""

    async def test_g2_no_observer_sees_progress_go_back(self, world: World) -> None:
        holder, observers = world.worker(), [world.worker() for _ in range(3)]
        ticket = await world.start(holder)
        seen: list[ScanStatus] = []

        async def look() -> None:
            seen.extend([await o.registry.status(ticket.scan_id) for o in observers])

        await look()
        async with holder.registry.claim(ticket.scan_id) as scan:
            await look()
            for name in NAMES:
                await scan.strategy_started(name)
                await look()
                await scan.strategy_finished(name, [{"from": name}])
                await look()
        await look()
        order = [ScanState.PENDING, ScanState.RUNNING, ScanState.COMPLETE]
        marks = [
            (
                s.revision,
                order.index(s.state),
                s.progress.strategies_completed,
                s.progress.opportunities_found,
            )
            for s in seen
        ]
        for earlier, later in pairwise(marks):
            assert all(a <= b for a, b in zip(earlier, later, strict=True))
        assert marks[-1][1:] == (2, 3, 3)

    async def test_i4_a_running_scan_is_never_answered_from_memory(self, world: World) -> None:
        reader = world.worker(ttl=world.policy(near_ttl=20))
        holder = world.worker()
        ticket = await world.start(holder)
        claim = await world.hold(holder, ticket.scan_id)
        for done, name in enumerate(NAMES):
            status = await reader.registry.status(ticket.scan_id)
            assert status.progress.strategies_completed == done
            partial = await reader.registry.results(ticket.scan_id, partial=True)
            assert len(partial.opportunities) == done
            await claim.strategy_finished(name, [{}])

    async def test_i4_a_finished_status_is_kept_only_where_opted_in(self, world: World) -> None:
        status = await world.finished(world.worker())
        plain, near = world.worker(), world.worker(ttl=world.policy(near_ttl=3))
        for worker in (plain, near):
            for _ in range(3):
                assert await worker.registry.status(status.scan_id) == status
        assert plain.store.counts["Resolve"] == 3
        assert near.store.counts["Resolve"] == 1
        await world.clock.advance(3.2 * world.unit)
        await near.registry.status(status.scan_id)
        assert near.store.counts["Resolve"] == 2

    async def test_a_kept_status_is_what_the_store_would_say(self, world: World) -> None:
        status = await world.finished(world.worker())
        near = world.worker(ttl=world.policy(near_ttl=15))
        await near.registry.status(status.scan_id)
        assert (await near.registry.status(status.scan_id, outcomes=False)).outcomes == ()
        assert await near.registry.status(status.scan_id, owner="ann") == status
        with pytest.raises(ScanNotFound):
            await near.registry.status(status.scan_id, owner="bob")

    async def test_i4_a_kept_status_never_outlives_the_scan(self, world: World) -> None:
        status = await world.finished(world.worker())
        near = world.worker(ttl=world.policy(near_ttl=1000))
        await near.registry.status(status.scan_id)
        await world.clock.advance(world.ttl.result_ttl + world.unit)
        with pytest.raises(ScanExpired):
            await near.registry.status(status.scan_id)

    async def test_g2_heartbeats_leave_the_revision_alone(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        before = await worker.registry.status(ticket.scan_id)
        await world.clock.advance(world.ttl.lease)
        await claim.heartbeat()
        after = await worker.registry.status(ticket.scan_id)
        assert after.revision == before.revision
        assert after.heartbeat_at is not None
        assert before.heartbeat_at is not None
        assert after.heartbeat_at > before.heartbeat_at
        assert after.progressed_at == before.progressed_at

    async def test_g2_a_read_begun_after_a_write_sees_it(self, world: World) -> None:
        holder, reader = world.worker(), world.worker()
        ticket = await world.start(holder, strategies=[f"s{n}" for n in range(20)])
        async with holder.registry.claim(ticket.scan_id) as scan:
            for number in range(20):
                await scan.strategy_finished(f"s{number}", [{"n": number}])
                status, results = await asyncio.gather(
                    reader.registry.status(ticket.scan_id),
                    reader.registry.results(ticket.scan_id, partial=True),
                )
                assert status.progress.strategies_completed == number + 1
                assert len(results.opportunities) == number + 1


class TerminalCases(Cases):
    """The end of a scan is its end."""

    async def test_g3_nothing_changes_a_finished_scan(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        for name in NAMES:
            await claim.strategy_finished(name, [{"from": name}])
        await claim.complete({"best": 1})
        status = await worker.registry.status(ticket.scan_id)
        results = await worker.registry.results(ticket.scan_id)
        for write in (
            claim.heartbeat,
            claim.release,
            claim.complete,
            lambda: claim.fail("late"),
            lambda: claim.strategy_started("alpha"),
            lambda: claim.strategy_skipped("alpha", "late"),
            lambda: claim.update({"opportunities": []}),
        ):
            with pytest.raises(ClaimLost):
                await write()
        with pytest.raises(Exception, match="cannot be claimed"):
            await world.hold(worker, ticket.scan_id)
        assert await worker.registry.cancel(ticket.scan_id) == status
        await world.clock.advance(world.ttl.result_ttl / 4)
        other = world.worker()
        assert await other.registry.status(ticket.scan_id) == status
        assert await other.registry.results(ticket.scan_id) == results
        assert results.summary == {"best": 1}

    async def test_g3_results_can_be_read_for_result_ttl_from_the_finish(
        self, world: World
    ) -> None:
        exact(world)
        worker = world.worker()
        ticket = await world.start(worker)
        await world.clock.advance(world.ttl.claim_within)
        async with worker.registry.claim(ticket.scan_id) as scan:
            await world.clock.advance(3 * world.ttl.result_ttl)
            await scan.strategy_finished("alpha", [{}])
        status = await worker.registry.status(ticket.scan_id)
        assert status.finished_at is not None
        assert (status.expires_at - status.finished_at).total_seconds() == world.ttl.result_ttl
        await world.clock.advance(world.ttl.result_ttl - 0.001)
        assert len((await worker.registry.results(ticket.scan_id)).opportunities) == 1
        await world.clock.advance(0.001)
        with pytest.raises(ScanExpired):
            await worker.registry.results(ticket.scan_id)

    async def test_g3_a_scan_that_is_kept_alive_never_expires(self, world: World) -> None:
        worker, other = world.worker(), world.worker()
        ticket = await world.start(worker)
        await world.hold(worker, ticket.scan_id)
        for _ in range(4):
            await world.clock.advance(world.ttl.lookup_ttl / 2)
            status = await other.registry.status(ticket.scan_id)
            assert not status.stalled
            assert status.state is ScanState.RUNNING
        assert (await other.registry.latest("ann")).scan_id == ticket.scan_id
        assert await other.registry.has_active_scan("ann")
        assert [s.scan_id for s in await other.registry.history("ann")] == [ticket.scan_id]
        again = await world.start(other)
        assert again.joined

    async def test_g3_reading_extends_nothing_unless_opted_in(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        worker.store.reset()
        await world.clock.advance(world.ttl.result_ttl / 2)
        await worker.registry.results(status.scan_id)
        assert (await worker.registry.status(status.scan_id)).expires_at == status.expires_at
        assert worker.store.counts["Apply"] == 0

    async def test_g3_extend_on_read_is_capped(self, world: World) -> None:
        worker = world.worker(ttl=world.policy(extend_on_read=50))
        status = await world.finished(worker)
        last = status
        for _ in range(4):
            await world.clock.advance(10 * world.unit)
            last = await worker.registry.status(status.scan_id)
        assert status.finished_at is not None
        assert (last.expires_at - status.finished_at).total_seconds() == pytest.approx(
            50 * world.unit
        )
        assert last.revision == status.revision
        await world.clock.advance(11 * world.unit)
        with pytest.raises(ScanExpired):
            await worker.registry.status(status.scan_id)

    async def test_g3_extend_on_read_by_results(self, world: World) -> None:
        worker = world.worker(ttl=world.policy(extend_on_read=50))
        status = await world.finished(worker)
        await world.clock.advance(15 * world.unit)
        await worker.registry.results(status.scan_id)
        await world.clock.advance(15 * world.unit)
        assert (await worker.registry.status(status.scan_id)).done

    async def test_g3_durations_are_those_of_the_start(self, world: World) -> None:
        exact(world)
        starter, finisher = world.worker(), world.worker(ttl=world.policy(result_ttl=5, lease=2))
        ticket = await world.start(starter)
        async with finisher.registry.claim(ticket.scan_id):
            pass
        status = await finisher.registry.status(ticket.scan_id)
        assert status.finished_at is not None
        assert (status.expires_at - status.finished_at).total_seconds() == world.ttl.result_ttl

    async def test_g10_all_times_are_the_store_s(self, world: World) -> None:
        exact(world)
        status = await world.finished(world.worker())
        now = datetime.fromtimestamp(world.manual.now() / 1000, UTC)
        assert status.created_at == status.started_at == status.finished_at == now
        assert status.expires_at == now + timedelta(seconds=world.ttl.result_ttl)

    async def test_g1_status_costs_one_round_trip(self, world: World) -> None:
        ticket = await world.start(world.worker())
        reader = world.worker()
        await reader.registry.status(ticket.scan_id)
        assert reader.store.counts == {Resolve.__name__: 1}
