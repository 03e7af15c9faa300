"""G11: replies lost, workers killed, stores down and full: all or nothing, and once."""

# ruff: noqa: D102, PLR2004, PT012, S101 - cases, not code

from __future__ import annotations

from typing import Any

import pytest

from oppscan import (
    ScanAlreadyClaimed,
    ScanNotFound,
    ScanState,
    StorageFull,
    StorageMisconfigured,
    StorageUnavailable,
)
from oppscan.clock import elapsed
from oppscan.ops import Apply
from oppscan.testing.cases.base import Cases
from oppscan.testing.faults import Fault
from oppscan.testing.world import World, outcome_of

_LOST = [Fault.DROP, Fault.FAIL]


class OnceCases(Cases):
    """Writes whose reply was lost."""

    @pytest.mark.parametrize("fault", _LOST, ids=lambda fault: fault.name)
    @pytest.mark.parametrize("times", [1, 2, 3])
    async def test_g11_a_start_is_applied_once(
        self, world: World, fault: Fault, times: int
    ) -> None:
        worker = world.worker()
        worker.store.plan(*[fault] * times, on=Apply)
        ticket = await world.start(worker)
        assert not ticket.joined
        assert ticket.must_run
        other = world.worker()
        assert await other.registry.status(ticket.scan_id) == ticket.status
        assert len(await other.registry.history("ann")) == 1

    @pytest.mark.parametrize("fault", _LOST, ids=lambda fault: fault.name)
    async def test_g11_a_claim_is_applied_once(self, world: World, fault: Fault) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        worker.store.plan(fault, on=Apply)
        claim = await world.hold(worker, ticket.scan_id)
        assert (await worker.registry.status(ticket.scan_id)).attempts == 1
        await claim.strategy_finished("alpha", [{}])
        with pytest.raises(ScanAlreadyClaimed):
            await world.hold(world.worker(), ticket.scan_id)

    @pytest.mark.parametrize("fault", _LOST, ids=lambda fault: fault.name)
    @pytest.mark.parametrize(
        "write",
        ["started", "finished", "failed", "skipped", "update", "beat", "complete", "fail"],
    )
    async def test_g11_every_write_of_a_claim_is_applied_once(
        self, world: World, write: str, fault: Fault
    ) -> None:
        expected = await self._write(world, "calm", write, None)
        assert await self._write(world, "stormy", write, fault) == expected

    async def _write(self, world: World, owner: str, write: str, fault: Fault | None) -> object:
        worker = world.worker()
        ticket = await world.start(worker, owner)
        claim = await world.hold(worker, ticket.scan_id)
        if write not in {"update", "beat"}:
            await claim.strategy_started("beta")
        if fault is not None:
            worker.store.plan(fault, on=Apply)
        writes: dict[str, Any] = {
            "started": lambda: claim.strategy_started("alpha"),
            "finished": lambda: claim.strategy_finished("alpha", [{"n": 1}]),
            "failed": lambda: claim.strategy_failed("alpha", "x", opportunities=[{"n": 1}]),
            "skipped": lambda: claim.strategy_skipped("alpha", "x"),
            "update": lambda: claim.update({"opportunities": [{"n": 1}]}),
            "beat": claim.heartbeat,
            "complete": lambda: claim.complete({"s": 1}),
            "fail": lambda: claim.fail("x"),
        }
        await writes[write]()
        if write in {"started", "finished", "failed", "skipped"}:
            await claim.strategy_finished("gamma", [{"n": 2}])
        results = await world.registry().results(ticket.scan_id, partial=True)
        status = results.status
        outcomes = [(o.name, o.state, o.found, o.error) for o in status.outcomes]
        return (
            results.opportunities, results.summary, status.state, status.progress, outcomes,
            status.revision, status.attempts, claim.remaining,
        )  # fmt: skip

    async def test_g11_a_release_whose_reply_was_lost(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        worker.store.plan(Fault.DROP, on=Apply)
        await claim.release()
        status = await worker.registry.status(ticket.scan_id)
        assert status.stalled
        await world.hold(world.worker(), ticket.scan_id)

    @pytest.mark.parametrize("fault", _LOST, ids=lambda fault: fault.name)
    async def test_g11_cancel_and_extend_and_forget(self, world: World, fault: Fault) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        worker.store.plan(fault, on=Apply)
        status = await worker.registry.cancel(ticket.scan_id)
        assert status.state is ScanState.CANCELLED
        worker.store.plan(fault, on=Apply)
        longer = await worker.registry.extend(ticket.scan_id, 100 * world.unit)
        assert longer.expires_at > status.expires_at
        assert await worker.registry.status(ticket.scan_id) == longer
        worker.store.plan(fault, on=Apply)
        await worker.registry.forget(ticket.scan_id)
        with pytest.raises(ScanNotFound):
            await worker.registry.status(ticket.scan_id)

    async def test_g11_a_lost_reply_and_a_cancel_in_between(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        beside = world.beside(worker.store)
        worker.store.plan(Fault.DROP, on=Apply)
        worker.store.before(lambda: beside.cancel(ticket.scan_id), on=Apply)
        await claim.strategy_finished("alpha", [{"n": 1}])
        assert claim.cancel_requested
        results = await worker.registry.results(ticket.scan_id, partial=True)
        assert results.opportunities == ({"n": 1},)
        await claim.complete()
        assert (await worker.registry.status(ticket.scan_id)).state is ScanState.CANCELLED

    async def test_g11_a_lost_start_and_a_claim_in_between(self, world: World) -> None:
        worker = world.worker()
        beside = world.beside(worker.store)
        worker.store.plan(Fault.DROP, on=Apply)

        def claim_it() -> None:
            beside.claim(beside.latest("ann").scan_id).__enter__().release()

        worker.store.before(claim_it, on=Apply)
        ticket = await world.start(worker)
        assert not ticket.joined
        assert (await worker.registry.status(ticket.scan_id)).attempts == 1
        assert len(await worker.registry.history("ann")) == 1

    async def test_g11_reads_survive_one_lost_reply(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        for call in (
            lambda: worker.registry.status(status.scan_id),
            lambda: worker.registry.results(status.scan_id),
            lambda: worker.registry.latest("ann"),
            lambda: worker.registry.history("ann"),
            lambda: worker.registry.has_active_scan("ann"),
            worker.registry.stalled,
        ):
            worker.store.plan(Fault.FAIL)
            await call()

    @pytest.mark.parametrize("fault", [Fault.DIE_BEFORE, Fault.DIE_AFTER], ids=lambda f: f.name)
    @pytest.mark.parametrize("nth", range(10))
    async def test_g11_a_worker_killed_at_any_request_leaves_before_or_after(
        self, world: World, nth: int, fault: Fault
    ) -> None:
        worker, observer = world.worker(), world.worker()
        worker.store.plan(*[Fault.PASS] * nth, fault)
        acknowledged = -1
        with pytest.raises(StorageMisconfigured):
            async with worker.registry.claim(
                (await world.start(worker, strategies=list("abcdef"))).scan_id
            ) as scan:
                acknowledged = 0
                for name in "abcdef":
                    await scan.strategy_finished(name, [{"of": name}])
                    acknowledged += 1
        history = await observer.registry.history("ann")
        if not history:
            assert nth == 0
            return
        scan_id = history[0].scan_id
        results = await observer.registry.results(scan_id, partial=True)
        found = [o["of"] for o in results.opportunities]
        assert found == list("abcdef")[: len(found)]
        assert max(acknowledged, 0) <= len(found) <= max(acknowledged, 0) + 1
        assert results.status.progress.strategies_completed == len(found)
        if not results.status.done:
            await world.clock.advance(world.ttl.claim_within * 1.01)
            async with observer.registry.claim(scan_id) as scan:
                for name in scan.remaining:
                    await scan.strategy_finished(name, [{"of": name}])
        final = await observer.registry.results(scan_id)
        assert [o["of"] for o in final.opportunities] == list("abcdef")


class OutageCases(Cases):
    """Stores that are down, silent or full."""

    @pytest.mark.parametrize("fault", [Fault.HANG, Fault.FAIL], ids=lambda fault: fault.name)
    async def test_every_operation_ends_within_op_timeout(self, world: World, fault: Fault) -> None:
        calm = world.worker()
        ticket = await world.start(calm)
        worker = world.worker(op_timeout=0.08)
        worker.store.always(fault)
        registry = worker.registry
        for call in (
            lambda: world.start(worker),
            lambda: registry.status(ticket.scan_id),
            lambda: registry.results(ticket.scan_id, partial=True),
            lambda: registry.latest("ann"),
            lambda: registry.history("ann"),
            lambda: registry.has_active_scan("ann"),
            lambda: registry.cancel(ticket.scan_id),
            lambda: registry.extend(ticket.scan_id, 5),
            lambda: registry.forget(ticket.scan_id),
            registry.stalled,
            registry.purge,
            registry.ping,
            lambda: world.hold(worker, ticket.scan_id),
        ):
            began = elapsed()
            with pytest.raises(StorageUnavailable):
                await call()
            assert elapsed() - began < 1.0
        assert (await calm.registry.status(ticket.scan_id)).state is ScanState.PENDING

    async def test_a_claim_s_writes_end_within_op_timeout(self, world: World) -> None:
        worker = world.worker(op_timeout=0.4)
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        worker.store.always(Fault.HANG)
        began = elapsed()
        with pytest.raises(StorageUnavailable):
            await claim.strategy_finished("alpha", [{}])
        assert elapsed() - began < 1.5
        worker.store.clear()
        await claim.strategy_finished("alpha", [{}])
        assert (await worker.registry.status(ticket.scan_id)).progress.opportunities_found == 1

    @pytest.mark.parametrize(
        "fault", [Fault.DROP, Fault.DROP_AND_HANG, Fault.FAIL], ids=lambda f: f.name
    )
    async def test_g11_the_caller_who_asks_again_after_an_outage_learns_the_truth(
        self, world: World, fault: Fault
    ) -> None:
        worker = world.worker(op_timeout=0.4)
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        worker.store.always(fault, on=Apply)
        with pytest.raises(StorageUnavailable):
            await claim.strategy_finished("alpha", [{"n": 1}])
        worker.store.clear()
        await claim.strategy_finished("beta", [{"n": 2}])
        results = await worker.registry.results(ticket.scan_id, partial=True)
        completed = results.status.progress.strategies_completed
        assert len(results.opportunities) == completed
        assert set(claim.remaining) == {o.name for o in results.status.outcomes if not o.state.done}
        if "alpha" in claim.remaining:
            await claim.strategy_finished("alpha", [{"n": 1}])
        await claim.complete()
        final = await worker.registry.results(ticket.scan_id)
        assert sorted(o["n"] for o in final.opportunities) == [1, 2]  # type: ignore[type-var]

    async def test_a_full_store_says_so_and_changes_nothing(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        before = await worker.registry.status(ticket.scan_id)
        worker.store.always(Fault.FULL, on=Apply)
        for call in (
            lambda: world.start(worker, key="other"),
            lambda: claim.strategy_finished("alpha", [{}]),
            lambda: worker.registry.cancel(ticket.scan_id),
            lambda: worker.registry.extend(ticket.scan_id, 1000),
        ):
            with pytest.raises(StorageFull):
                await call()
        assert await worker.registry.status(ticket.scan_id) == before
        worker.store.clear()
        await claim.strategy_finished("alpha", [{}])

    async def test_a_body_that_meets_a_full_store_releases_its_scan(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        with pytest.raises(StorageFull):
            async with worker.registry.claim(ticket.scan_id) as scan:
                worker.store.plan(Fault.FULL, on=Apply)
                await scan.strategy_finished("alpha", [{}])
        status = await worker.registry.status(ticket.scan_id)
        assert status.state is ScanState.RUNNING
        assert status.stalled

    async def test_closing_never_raises_because_the_store_is_down(self, world: World) -> None:
        worker = world.worker(op_timeout=0.05)
        worker.store.always(Fault.FAIL)
        assert await outcome_of(worker.registry.ping()) is StorageUnavailable
        await worker.registry.aclose()
        await worker.registry.aclose()

    async def test_a_registry_is_a_context_manager(self, world: World) -> None:
        worker = world.worker()
        async with worker.registry as registry:
            assert await registry.ping() >= 0.0
