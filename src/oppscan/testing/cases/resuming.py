"""G13: what one worker began, another finishes, or gives up."""

# ruff: noqa: D102, PLR2004, S101 - cases, not code

from __future__ import annotations

import pytest

from oppscan import (
    ClaimLost,
    Limits,
    OutcomeState,
    ScanFinished,
    ScanState,
)
from oppscan.testing.cases.base import Cases
from oppscan.testing.world import World


class ResumeCases(Cases):
    """G13: what one worker began, another finishes."""

    async def test_g13_a_stalled_scan_is_resumed_without_loss(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        first = world.worker()
        claim = await world.hold(first, ticket.scan_id)
        await claim.strategy_finished("alpha", [{"n": 1}])
        await claim.strategy_started("beta")
        first.store.freeze()
        await world.clock.advance(world.ttl.lease * 1.01)
        async with worker.registry.claim(ticket.scan_id) as scan:
            assert scan.remaining == ("beta", "gamma")
            for name in scan.remaining:
                await scan.strategy_finished(name, [{"n": name}])
        results = await worker.registry.results(ticket.scan_id)
        assert results.opportunities == ({"n": 1}, {"n": "beta"}, {"n": "gamma"})
        assert results.status.attempts == 2
        assert results.status.progress.opportunities_found == 3
        with pytest.raises(ClaimLost):
            await claim.strategy_finished("beta", [{"n": "zombie"}])

    async def test_g13_a_scan_that_kills_its_workers_is_given_up(self, world: World) -> None:
        ticket = await world.start(world.worker())
        for _ in range(3):
            await world.dead_claim(ticket.scan_id)
        worker = world.worker()
        with pytest.raises(ScanFinished) as caught:
            await world.hold(worker, ticket.scan_id)
        status = await worker.registry.status(ticket.scan_id)
        assert caught.value.status == status
        assert status.state is ScanState.FAILED
        assert status.error == "abandoned after 3 attempts"
        assert status.attempts == 3
        assert {o.state for o in status.outcomes} == {OutcomeState.SKIPPED}

    async def test_g13_progress_resets_the_count_of_failed_attempts(self, world: World) -> None:
        ticket = await world.start(world.worker(), strategies=["a", "b", "c", "d"])
        for name in "ab":
            for _ in range(2):
                await world.dead_claim(ticket.scan_id)
            worker = world.worker()
            claim = await world.hold(worker, ticket.scan_id)
            await claim.strategy_finished(name, [])
            worker.store.freeze()
            await world.clock.advance(world.ttl.lease * 1.01)
        await world.hold(world.worker(), ticket.scan_id)

    async def test_g13_starting_a_strategy_is_no_progress(self, world: World) -> None:
        ticket = await world.start(world.worker())
        for _ in range(3):
            worker = world.worker()
            claim = await world.hold(worker, ticket.scan_id)
            await claim.strategy_started("alpha")
            worker.store.freeze()
            await world.clock.advance(world.ttl.lease * 1.01)
        with pytest.raises(ScanFinished):
            await world.hold(world.worker(), ticket.scan_id)
        status = await world.registry().status(ticket.scan_id)
        assert status.outcome("alpha").state is OutcomeState.FAILED
        assert status.outcome("beta").state is OutcomeState.SKIPPED

    async def test_g13_releases_are_no_failed_attempts(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        for _ in range(10):
            async with worker.registry.claim(ticket.scan_id) as scan:
                await scan.release()
        await world.hold(worker, ticket.scan_id)

    async def test_g13_a_release_between_deaths_forgives_none(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        for death in range(3):
            await world.dead_claim(ticket.scan_id)
            if death < 2:
                await (await world.hold(worker, ticket.scan_id)).release()
        with pytest.raises(ScanFinished):
            await world.hold(worker, ticket.scan_id)

    async def test_g13_max_attempts_is_a_limit_of_the_host(self, world: World) -> None:
        ticket = await world.start(world.worker())
        await world.dead_claim(ticket.scan_id)
        with pytest.raises(ScanFinished) as caught:
            await world.hold(world.worker(limits=Limits(max_attempts=1)), ticket.scan_id)
        assert caught.value.status.error == "abandoned after 1 attempts"
