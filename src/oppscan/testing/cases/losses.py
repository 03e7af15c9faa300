"""G4, G5: expiry, the four kinds of nothing, and every single key lost at every stage."""

# ruff: noqa: D102, S101 - cases, not code

from __future__ import annotations

import pytest

from oppscan import (
    ClaimLost,
    ScanExpired,
    ScanLost,
    ScanNotFound,
    ScanResults,
    ScanState,
    ScanStatus,
    StorageUnavailable,
)
from oppscan.testing.cases.base import Cases, exact
from oppscan.testing.faults import Fault
from oppscan.testing.loss import KINDS, Kind
from oppscan.testing.world import NAMES, Worker, World, milliseconds, outcome_of

STAGES = ("pending", "running", "posting", "complete", "posted", "failed", "cancelled", "expired")

_OWN: frozenset[Kind] = frozenset({"head", "spec", "events", "data"})
"""Keys that hold a scan itself; all others only lead to it."""


class NothingCases(Cases):
    """Never existed, expired, lost, unreachable."""

    async def test_g5_what_never_existed_is_not_found(self, world: World) -> None:
        worker = world.worker()
        unknown = "0" * 16 + "-" + "0" * 32
        for call in (
            worker.registry.status(unknown),
            worker.registry.results(unknown),
            worker.registry.cancel(unknown),
            worker.registry.extend(unknown, 5),
            worker.registry.wait(unknown, timeout=0),
            worker.registry.latest("ann"),
        ):
            with pytest.raises(ScanNotFound) as caught:
                await call
            assert type(caught.value) is ScanNotFound

    @pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "expired"])
    async def test_g5_expired_tells_the_final_status_and_when(
        self, world: World, stage: str
    ) -> None:
        exact(world)
        worker = world.worker()
        scan_id = await _bring_to(world, worker, stage)
        status = await worker.registry.status(scan_id)
        world.manual.jump(status.expires_at.timestamp() - world.manual.now() / 1000)
        for call in (
            lambda: worker.registry.status(scan_id, owner="ann"),
            lambda: worker.registry.results(scan_id, partial=True),
            lambda: worker.registry.cancel(scan_id),
            lambda: worker.registry.extend(scan_id, 5),
            lambda: worker.registry.wait(scan_id, timeout=0),
            lambda: worker.registry.latest("ann"),
            lambda: world.hold(worker, scan_id),
        ):
            with pytest.raises(ScanExpired) as caught:
                await call()
            assert caught.value.expired_at == status.expires_at
            assert caught.value.status.state is status.state
            assert caught.value.status.progress == status.progress
        with pytest.raises(ScanNotFound):
            await worker.registry.status(scan_id, owner="bob")

    async def test_g5_expiry_and_margin_to_the_millisecond(self, world: World) -> None:
        exact(world)
        worker = world.worker()
        status = await world.finished(worker)
        assert status.finished_at is not None
        assert milliseconds(status.expires_at - status.finished_at) == world.ttl.result_ttl * 1000
        world.manual.jump(world.ttl.result_ttl - 0.001)
        assert await worker.registry.status(status.scan_id) == status
        world.manual.jump(0.001)
        for call in (worker.registry.status, worker.registry.results, worker.registry.cancel):
            with pytest.raises(ScanExpired) as caught:
                await call(status.scan_id)
            assert type(caught.value) is ScanExpired
            assert caught.value.expired_at == status.expires_at
            assert caught.value.status.state is ScanState.COMPLETE
            assert caught.value.status.progress == status.progress
            assert caught.value.scan_id == status.scan_id
        world.manual.jump(world.ttl.lookup_margin - 0.001)
        with pytest.raises(ScanExpired):
            await worker.registry.status(status.scan_id)
        world.manual.jump(0.001)
        for call in (worker.registry.status, worker.registry.results, worker.registry.cancel):
            with pytest.raises(ScanNotFound):
                await call(status.scan_id)
        with pytest.raises(ScanNotFound):
            await worker.registry.latest("ann")

    async def test_g5_pending_and_running_expire_to_the_millisecond(self, world: World) -> None:
        exact(world)
        worker, holder = world.worker(), world.worker()
        pending = await world.start(worker, key="pending")
        running = await world.start(worker, key="running")
        await world.hold(holder, running.scan_id)
        holder.store.freeze()
        end = world.ttl.lease + world.ttl.running_ttl
        assert end < world.ttl.pending_ttl
        world.manual.jump(end - 0.001)
        assert (await worker.registry.status(running.scan_id)).stalled
        world.manual.jump(0.001)
        with pytest.raises(ScanExpired):
            await worker.registry.status(running.scan_id)
        world.manual.jump(world.ttl.pending_ttl - end - 0.001)
        assert (await worker.registry.status(pending.scan_id)).stalled
        world.manual.jump(0.001)
        with pytest.raises(ScanExpired):
            await worker.registry.status(pending.scan_id)

    async def test_an_expired_holder_may_write_no_more(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.dead_claim(ticket.scan_id)
        await world.clock.advance(world.ttl.running_ttl * 1.01)
        with pytest.raises(ClaimLost):
            await claim.strategy_finished("alpha", [])
        with pytest.raises(ScanExpired):
            await worker.registry.status(ticket.scan_id)

    @pytest.mark.parametrize("stage", ["pending", "running", "complete"])
    async def test_i6_an_outage_is_never_an_absence(self, world: World, stage: str) -> None:
        scan_id = await _bring_to(world, world.worker(), stage)
        worker = world.worker(op_timeout=0.05)
        worker.store.always(Fault.FAIL)
        for call in (
            worker.registry.status(scan_id),
            worker.registry.status("0" * 16 + "-" + "0" * 32),
            worker.registry.results(scan_id),
            worker.registry.latest("ann"),
            worker.registry.has_active_scan("ann"),
            worker.registry.history("ann"),
            worker.registry.cancel(scan_id),
            worker.registry.extend(scan_id, 5),
            worker.registry.forget(scan_id),
            worker.registry.stalled(),
            worker.registry.wait(scan_id, timeout=0),
            worker.registry.ping(),
            world.start(worker),
            world.hold(worker, scan_id),
        ):
            with pytest.raises(StorageUnavailable) as caught:
                await call
            assert type(caught.value) is StorageUnavailable
        assert (await worker.registry.explain(scan_id)).answer == "unreachable"


class LossCases(Cases):
    """Any one stored key lost, at any stage."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("stage", STAGES)
    async def test_g4_one_lost_key_never_gives_a_wrong_answer(
        self, world: World, stage: str, kind: Kind
    ) -> None:
        worker = world.worker()
        other = await world.finished(worker, key="another")
        scan_id = await _bring_to(world, worker, stage)
        before = await _answers(worker, scan_id)
        world.lose(worker.store, kind, scan_id)
        after = await _answers(world.worker(), scan_id)
        for name, answer in after.items():
            allowed = [before[name]]
            if kind in _OWN and stage != "expired":
                allowed.append(ScanLost)
            assert answer in allowed, name
        if stage != "expired":
            assert await worker.registry.status(other.scan_id) == other

    @pytest.mark.parametrize("kind", ["head", "spec", "events"])
    @pytest.mark.parametrize("stage", ["complete", "posted", "failed", "cancelled"])
    async def test_g4_a_finished_record_is_rebuilt_from_its_results(
        self, world: World, stage: str, kind: Kind
    ) -> None:
        worker = world.worker()
        scan_id = await _bring_to(world, worker, stage)
        before = await _answers(worker, scan_id)
        world.lose(worker.store, kind, scan_id)
        for _ in range(2):
            assert await _answers(world.worker(), scan_id) == before

    async def test_g4_a_healed_record_is_found_by_its_first_step(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        world.lose(worker.store, "head", status.scan_id)
        first = await worker.registry.explain(status.scan_id)
        assert [step.name for step in first.steps] == ["record", "result"]
        assert first.answer == "found"
        second = await worker.registry.explain(status.scan_id)
        assert [step.name for step in second.steps] == ["record"]

    async def test_g4_a_lost_live_record_stays_lost(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await claim.strategy_finished("alpha", [{}])
        world.lose(worker.store, "head", ticket.scan_id)
        for _ in range(2):
            with pytest.raises(ScanLost) as caught:
                await world.registry().status(ticket.scan_id)
            assert caught.value.scan_id == ticket.scan_id
        with pytest.raises(ClaimLost):
            await claim.strategy_finished("beta", [])
        with pytest.raises(ScanLost):
            await worker.registry.status(ticket.scan_id)

    @pytest.mark.parametrize("kind", ["events", "data"])
    async def test_g4_a_torn_log_is_not_written_on(self, world: World, kind: Kind) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await claim.strategy_finished("alpha", [{"n": 1}])
        world.lose(worker.store, kind, ticket.scan_id)
        with pytest.raises(ClaimLost):
            await claim.strategy_finished("beta", [{"n": 2}])
        with pytest.raises(ScanLost):
            await worker.registry.results(ticket.scan_id, partial=True)

    async def test_g4_a_lost_live_scan_does_not_block_its_key(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        world.lose(worker.store, "head", ticket.scan_id)
        again = await world.start(world.worker())
        assert not again.joined
        assert again.scan_id != ticket.scan_id
        assert (await worker.registry.latest("ann")).scan_id == again.scan_id

    async def test_g4_lost_results_name_the_strategies(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        world.lose(worker.store, "data", status.scan_id)
        with pytest.raises(ScanLost) as caught:
            await worker.registry.results(status.scan_id)
        assert caught.value.strategies == ("alpha", "gamma")
        assert await worker.registry.status(status.scan_id) == status

    async def test_g4_the_same_with_results_read_from_a_cursor(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        cursor = (await worker.registry.results(status.scan_id, limit=2)).cursor
        world.lose(worker.store, "data", status.scan_id)
        with pytest.raises(ScanLost):
            await world.registry().results(status.scan_id, after=cursor)

    async def test_g4_a_lost_index_is_healed_by_reading(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        world.lose(worker.store, "index", status.scan_id)
        await worker.registry.status(status.scan_id)
        assert [s.scan_id for s in await worker.registry.history("ann")] == [status.scan_id]

    @pytest.mark.parametrize("kind", ["index", "entry", "latest", "pointer", "due"])
    async def test_g4_a_claim_s_writes_heal_what_leads_to_it(
        self, world: World, kind: Kind
    ) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        holder = world.worker()
        claim = await world.hold(holder, ticket.scan_id)
        world.lose(worker.store, kind, ticket.scan_id)
        await claim.heartbeat()
        assert (await worker.registry.latest("ann")).scan_id == ticket.scan_id
        assert (await worker.registry.latest("ann", key=ticket.key)).scan_id == ticket.scan_id
        assert await worker.registry.has_active_scan("ann")
        assert (await world.start(worker)).joined
        assert [s.scan_id for s in await worker.registry.history("ann")] == [ticket.scan_id]
        holder.store.freeze()
        await world.clock.advance(world.ttl.lease * 1.01)
        assert [s.scan_id for s in await worker.registry.stalled()] == [ticket.scan_id]

    async def test_g4_latest_never_answers_with_an_older_scan(self, world: World) -> None:
        worker = world.worker()
        await world.finished(worker, key="old")
        newest = await world.start(worker, key="new")
        world.lose(worker.store, "latest", newest.scan_id)
        assert (await worker.registry.latest("ann")).scan_id == newest.scan_id
        world.lose(worker.store, "head", newest.scan_id)
        with pytest.raises(ScanLost) as caught:
            await worker.registry.latest("ann")
        assert caught.value.scan_id == newest.scan_id

    async def test_i3_lookup_outlives_result(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await world.clock.advance(world.ttl.lookup_ttl * 2)
        await claim.complete()
        await world.clock.advance(world.ttl.result_ttl * 0.95)
        reader = world.registry()
        assert (await reader.latest("ann")).scan_id == ticket.scan_id
        assert (await reader.latest("ann", key=ticket.key)).scan_id == ticket.scan_id
        await reader.extend(ticket.scan_id, 10 * world.ttl.result_ttl)
        await world.clock.advance(9 * world.ttl.result_ttl)
        assert (await reader.latest("ann")).scan_id == ticket.scan_id
        assert (await reader.latest("ann", key=ticket.key)).scan_id == ticket.scan_id
        assert len(await reader.history("ann")) == 1

    @pytest.mark.parametrize("kind", ["index", "latest", "pointer"])
    async def test_i3_each_lookup_outlives_the_result_by_itself(
        self, world: World, kind: Kind
    ) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        await worker.registry.extend(status.scan_id, 10 * world.ttl.result_ttl)
        await world.clock.advance(9.5 * world.ttl.result_ttl)
        world.lose(worker.store, kind, status.scan_id)
        for key in (None, status.key):
            latest = await world.registry().latest("ann", key=key)
            assert latest.scan_id == status.scan_id

    async def test_a_healing_write_that_fails_never_fails_the_read(self, world: World) -> None:
        from oppscan.ops import Apply

        worker = world.worker()
        status = await world.finished(worker)
        world.lose(worker.store, "head", status.scan_id)
        reader = world.worker(op_timeout=0.4)
        reader.store.always(Fault.FULL, on=Apply)
        assert await reader.registry.status(status.scan_id) == status


async def _answers(worker: Worker, scan_id: str) -> dict[str, object]:
    """Give what every way of reading a scan says, errors as their types."""
    registry = worker.registry
    results = await outcome_of(registry.results(scan_id, partial=True))
    latest = await outcome_of(registry.latest("ann"))
    return {
        "status": await outcome_of(registry.status(scan_id)),
        "as owner": await outcome_of(registry.status(scan_id, owner="ann")),
        "brief": await outcome_of(registry.status(scan_id, outcomes=False)),
        "results": results.opportunities if isinstance(results, ScanResults) else results,
        "latest": latest.scan_id if isinstance(latest, ScanStatus) else latest,
        "strict": await _kind(registry.results(scan_id)),
    }


async def _kind(call: object) -> object:
    answer = await outcome_of(call)  # type: ignore[arg-type]
    return answer.opportunities if isinstance(answer, ScanResults) else answer


async def _bring_to(world: World, worker: Worker, stage: str) -> str:
    """Start a scan and bring it to a stage of its life."""
    if stage in {"complete", "expired"}:
        status = await world.finished(worker)
        if stage == "expired":
            await world.clock.advance(world.ttl.result_ttl * 1.05)
        return status.scan_id
    ticket = await world.start(worker)
    if stage == "pending":
        return ticket.scan_id
    holder = world.worker()
    claim = await world.hold(holder, ticket.scan_id)
    holder.store.freeze()
    if stage in {"posting", "posted"}:
        await claim.update({"opportunities": [{"n": 1}]}, partial=stage == "posting")
        return ticket.scan_id
    await claim.strategy_finished(NAMES[0], [{"n": 1}])
    await claim.strategy_started(NAMES[1])
    if stage == "failed":
        await claim.fail("x")
    elif stage == "cancelled":
        await worker.registry.cancel(ticket.scan_id)
        await claim.complete()
    return ticket.scan_id
