"""§ Claims: the ways of leaving the block, and what each leaves behind."""

# ruff: noqa: D102, PT012, S101 - cases, not code

from __future__ import annotations

import asyncio

import pytest

from oppscan import (
    ClaimLost,
    OutcomeState,
    ScanState,
    ScanStatus,
    StorageFull,
    StorageUnavailable,
)
from oppscan.ops import Apply
from oppscan.testing.cases.base import Cases, seen_of
from oppscan.testing.faults import Fault
from oppscan.testing.world import World


class LeavingCases(Cases):
    """The ways of leaving the block."""

    async def _left_by(
        self, world: World, error: BaseException | None, *, cancel: bool = False
    ) -> ScanStatus:
        worker = world.worker()
        ticket = await world.start(worker)
        if error is None:
            async with worker.registry.claim(ticket.scan_id) as scan:
                await scan.strategy_finished("alpha", [{}])
                await scan.strategy_started("beta")
        else:
            with pytest.raises(type(error)) as caught:
                async with worker.registry.claim(ticket.scan_id) as scan:
                    await scan.strategy_finished("alpha", [{}])
                    await scan.strategy_started("beta")
                    if cancel:
                        await world.registry().cancel(ticket.scan_id)
                        await scan.heartbeat()
                    raise error
            assert caught.value is error
        return await world.registry().status(ticket.scan_id)

    async def test_left_normally_it_is_finished(self, world: World) -> None:
        status = await self._left_by(world, None)
        assert status.state is ScanState.COMPLETE
        states = [outcome.state for outcome in status.outcomes]
        assert states == [OutcomeState.FOUND, OutcomeState.FAILED, OutcomeState.SKIPPED]
        assert status.outcome("beta").error == "no outcome was reported"

    async def test_left_by_an_exception_it_failed(self, world: World) -> None:
        status = await self._left_by(world, ValueError("no feed"))
        assert status.state is ScanState.FAILED
        assert status.error == "ValueError: no feed"

    @pytest.mark.parametrize(
        "error",
        [
            asyncio.CancelledError(),
            KeyboardInterrupt(),
            SystemExit(1),
            StorageUnavailable("down"),
            StorageFull("full"),
        ],
        ids=lambda error: type(error).__name__,
    )
    async def test_left_by_a_deploy_or_a_down_store_it_is_released(
        self, world: World, error: BaseException
    ) -> None:
        status = await self._left_by(world, error)
        assert status.state is ScanState.RUNNING
        assert status.stalled
        async with world.registry().claim(status.scan_id) as scan:
            assert scan.remaining == ("beta", "gamma")

    @pytest.mark.parametrize(
        "error",
        [asyncio.CancelledError(), KeyboardInterrupt(), StorageUnavailable("down")],
        ids=lambda error: type(error).__name__,
    )
    async def test_left_by_those_after_a_cancel_it_is_cancelled(
        self, world: World, error: BaseException
    ) -> None:
        status = await self._left_by(world, error, cancel=True)
        assert status.state is ScanState.CANCELLED
        assert status.outcome("beta").state is OutcomeState.CANCELLED

    @pytest.mark.parametrize(
        "error",
        [asyncio.CancelledError(), SystemExit(1), StorageFull("full")],
        ids=lambda error: type(error).__name__,
    )
    async def test_left_by_those_before_the_cancel_was_noticed_it_is_cancelled(
        self, world: World, error: BaseException
    ) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        with pytest.raises(type(error)):
            async with worker.registry.claim(ticket.scan_id) as scan:
                await world.registry().cancel(ticket.scan_id)
                assert not scan.cancel_requested
                raise error
        status = await worker.registry.status(ticket.scan_id)
        assert status.state is ScanState.CANCELLED

    async def test_releasing_what_is_to_be_cancelled_ends_it(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        async with worker.registry.claim(ticket.scan_id) as scan:
            await world.registry().cancel(ticket.scan_id)
            await scan.release()
        status = await worker.registry.status(ticket.scan_id)
        assert status.state is ScanState.CANCELLED
        assert status.outcome("alpha").state is OutcomeState.CANCELLED

    @pytest.mark.parametrize("ending", ["complete", "fail", "release"])
    async def test_g11_an_ending_that_was_applied_unheard_is_the_end(
        self, world: World, ending: str
    ) -> None:
        worker = world.worker(op_timeout=0.4)
        ticket = await world.start(worker)
        given: dict[str, list[object]] = {"complete": [{"n": 1}], "fail": ["bad"]}
        async with worker.registry.claim(ticket.scan_id) as scan:
            worker.store.plan(Fault.DROP, on=Apply)
            worker.store.always(Fault.FAIL)
            with pytest.raises(StorageUnavailable):
                await getattr(scan, ending)(*given.get(ending, ()))
            worker.store.clear()
        status = await worker.registry.status(ticket.scan_id)
        assert status.done is (ending != "release")
        with pytest.raises(ClaimLost, match="an earlier write may stand"):
            await scan.strategy_started("alpha")

    @pytest.mark.parametrize("ending", ["complete", "fail", "release"])
    async def test_left_after_an_ending_nothing_is_written(self, world: World, ending: str) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        with pytest.raises(ValueError, match="late"):
            async with worker.registry.claim(ticket.scan_id) as scan:
                await getattr(scan, ending)(*(["bad"] if ending == "fail" else []))
                worker.store.reset()
                raise ValueError("late")
        assert worker.store.total == 0
        status = await worker.registry.status(ticket.scan_id)
        assert status.error in {None, "bad", "no strategy succeeded"}

    async def test_left_after_the_claim_was_lost_nothing_is_written(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = worker.registry.claim(ticket.scan_id)
        async with claim:
            worker.store.freeze()
            await world.clock.advance(world.ttl.lease * 1.01)
            await world.take_over(ticket.scan_id)
            with pytest.raises(ClaimLost):
                await claim.heartbeat()
            before = await seen_of(world, ticket.scan_id)
            worker.store.reset()
        assert worker.store.total == 0
        assert await seen_of(world, ticket.scan_id) == before

    async def test_a_failing_exit_write_never_hides_the_body_s_exception(
        self, world: World
    ) -> None:
        worker = world.worker(op_timeout=0.4)
        ticket = await world.start(worker)
        with pytest.raises(ZeroDivisionError):
            async with worker.registry.claim(ticket.scan_id):
                worker.store.always(Fault.FAIL)
                raise ZeroDivisionError

    async def test_a_failing_exit_write_is_told_where_nothing_else_is(self, world: World) -> None:
        worker = world.worker(op_timeout=0.4)
        ticket = await world.start(worker)
        with pytest.raises(StorageUnavailable):
            async with worker.registry.claim(ticket.scan_id):
                worker.store.always(Fault.FAIL, on=Apply)

    async def test_an_exit_after_an_unnoticed_loss_is_claim_lost(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        with pytest.raises(ClaimLost):
            async with worker.registry.claim(ticket.scan_id):
                worker.store.freeze()
                await world.clock.advance(world.ttl.lease * 1.01)
                await world.hold(world.worker(), ticket.scan_id)

    async def test_a_released_scan_can_be_claimed_at_once(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await claim.release()
        status = await worker.registry.status(ticket.scan_id)
        assert status.stalled
        assert not await worker.registry.has_active_scan("ann")
        with pytest.raises(ClaimLost):
            await claim.heartbeat()
        await world.hold(world.worker(), ticket.scan_id)
