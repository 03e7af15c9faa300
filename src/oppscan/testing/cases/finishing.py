"""§ Finishing and cancelling (G8, I10): how scans end, whoever ends them."""

# ruff: noqa: D102, PLR2004, S101 - cases, not code

from __future__ import annotations

import pytest

from oppscan import (
    InvalidInput,
    OutcomeState,
    ScanCancelled,
    ScanClaim,
    ScanFailed,
    ScanFinished,
    ScanNotFinished,
    ScanState,
)
from oppscan.testing.cases.base import Cases, calls
from oppscan.testing.world import NAMES, World

_REPORTS = {
    "found": lambda scan, name: scan.strategy_finished(name, [{"of": name}]),
    "empty": lambda scan, name: scan.strategy_finished(name, ()),
    "failed": lambda scan, name: scan.strategy_failed(name, ValueError("bad")),
    "timed_out": lambda scan, name: scan.strategy_failed(name, "slow", timed_out=True),
    "skipped": lambda scan, name: scan.strategy_skipped(name, "no data"),
    "running": lambda scan, name: scan.strategy_started(name),
}


async def _report(scan: ScanClaim, name: str, what: str) -> None:
    if what in _REPORTS:
        await _REPORTS[what](scan, name)


_TABLE = [
    # how the strategies stand, how it is ended, the final state, its outcomes
    ("found empty failed", "complete", "complete", "found empty failed"),
    ("empty empty empty", "complete", "complete", "empty empty empty"),
    ("empty failed skipped", "complete", "complete", "empty failed skipped"),
    ("failed timed_out skipped", "complete", "failed", "failed timed_out skipped"),
    ("skipped skipped skipped", "complete", "failed", "skipped skipped skipped"),
    ("none none none", "complete", "failed", "skipped skipped skipped"),
    ("running none none", "complete", "failed", "failed skipped skipped"),
    ("found running none", "complete", "complete", "found failed skipped"),
    ("found found found", "fail", "failed", "found found found"),
    ("found running none", "fail", "failed", "found failed skipped"),
    ("found running none", "cancel", "cancelled", "found cancelled cancelled"),
    ("none none none", "cancel", "cancelled", "cancelled cancelled cancelled"),
    ("found empty failed", "cancel", "complete", "found empty failed"),
    ("failed failed failed", "cancel", "failed", "failed failed failed"),
    ("found running none", "cancel and fail", "failed", "found cancelled cancelled"),
]


class FinishingCases(Cases):
    """The rule of finishing."""

    @pytest.mark.parametrize(
        ("standing", "ending", "state", "outcomes"),
        _TABLE,
        ids=[f"{row[0].replace(' ', '-')}-{row[1].replace(' ', '-')}" for row in _TABLE],
    )
    async def test_g8_every_terminal_write_gives_each_strategy_an_outcome(
        self, world: World, standing: str, ending: str, state: str, outcomes: str
    ) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        for name, what in zip(NAMES, standing.split(), strict=True):
            await _report(claim, name, what)
        if "cancel" in ending:
            await world.registry().cancel(ticket.scan_id)
        await (claim.fail("gave up") if "fail" in ending else claim.complete())
        status = await worker.registry.status(ticket.scan_id)
        assert status.state == state
        assert [outcome.state.value for outcome in status.outcomes] == outcomes.split()
        assert status.progress.percentage == 100.0
        assert status.progress.strategies_completed == 3
        assert status.error == ("gave up" if "fail" in ending else _error(state))

    async def test_i10_every_strategy_has_a_named_outcome_duration_and_error(
        self, world: World
    ) -> None:
        worker = world.worker()
        names = ["found", "empty", "failed", "timed_out", "skipped"]
        ticket = await world.start(worker, strategies=names)
        async with worker.registry.claim(ticket.scan_id) as scan:
            for name in names:
                if name != "skipped":
                    await scan.strategy_started(name)
                await _report(scan, name, name)
        status = await worker.registry.status(ticket.scan_id)
        assert [outcome.state.value for outcome in status.outcomes] == names
        assert [outcome.found for outcome in status.outcomes] == [1, 0, 0, 0, 0]
        assert status.outcome("failed").error == "ValueError: bad"
        assert status.outcome("timed_out").error == "slow"
        assert status.outcome("skipped").error == "no data"
        assert status.outcome("found").duration is not None
        assert status.outcome("skipped").duration is None
        progress = status.progress
        assert (progress.succeeded, progress.failed) == (2, 1)
        assert (progress.timed_out, progress.skipped) == (1, 1)
        assert progress.opportunities_found == 1

    async def test_g8_percentage_is_100_only_when_all_have_an_outcome(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        seen = []
        for name in NAMES:
            await claim.strategy_started(name)
            seen.append((await worker.registry.status(ticket.scan_id)).progress.percentage)
            await claim.strategy_failed(name, "x")
        seen.append((await worker.registry.status(ticket.scan_id)).progress.percentage)
        assert seen == [0.0, 100 / 3, 200 / 3, 100.0]
        assert not (await worker.registry.status(ticket.scan_id)).done

    async def test_an_outcome_is_final(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await claim.strategy_finished("alpha", [{"n": 1}])
        before = await worker.registry.status(ticket.scan_id)
        for write in calls(
            lambda: claim.strategy_finished("alpha", [{"n": 2}]),
            lambda: claim.strategy_failed("alpha", "x"),
            lambda: claim.strategy_skipped("alpha", "x"),
            lambda: claim.strategy_started("alpha"),
            lambda: claim.strategy_finished("unknown", []),
            lambda: claim.strategy_started("unknown"),
            lambda: claim.strategy_skipped("", "x"),
        ):
            with pytest.raises(InvalidInput):
                await write()
        assert await worker.registry.status(ticket.scan_id) == before

    async def test_opportunities_found_before_a_failure_are_kept(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        async with worker.registry.claim(ticket.scan_id) as scan:
            await scan.strategy_failed("alpha", "x", opportunities=[{"n": 1}])
            await scan.strategy_failed("beta", "y", opportunities=[{"n": 2}], timed_out=True)
            await scan.strategy_finished("gamma", [])
        results = await worker.registry.results(ticket.scan_id)
        assert results.opportunities == ({"n": 1}, {"n": 2})
        assert results.status.progress.opportunities_found == 2
        assert results.status.outcome("alpha").found == 1
        assert results.status.outcome("alpha").state is OutcomeState.FAILED

    async def test_an_error_s_text_is_cut_at_2000_characters(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await claim.strategy_failed("alpha", ValueError("x" * 5000))
        await claim.fail("y" * 5000)
        status = await worker.registry.status(ticket.scan_id)
        assert status.outcome("alpha").error == ("ValueError: " + "x" * 5000)[:2000]
        assert status.error == "y" * 2000

    @pytest.mark.parametrize(("ending", "error"), [("fail", ScanFailed), ("cancel", ScanCancelled)])
    async def test_results_of_an_unsuccessful_scan_say_so(
        self, world: World, ending: str, error: type[ScanFailed | ScanCancelled]
    ) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        with pytest.raises(ScanNotFinished) as early:
            await worker.registry.results(ticket.scan_id)
        assert early.value.status.state is ScanState.RUNNING
        await claim.strategy_finished("alpha", [{"n": 1}])
        if ending == "fail":
            await claim.fail("x")
        else:
            await worker.registry.cancel(ticket.scan_id)
            await claim.complete()
        with pytest.raises(error) as caught:
            await worker.registry.results(ticket.scan_id)
        assert caught.value.status == await worker.registry.status(ticket.scan_id)
        partial = await worker.registry.results(ticket.scan_id, partial=True)
        assert partial.opportunities == ({"n": 1},)


def _error(state: str) -> str | None:
    return "no strategy succeeded" if state == "failed" else None


class CancelCases(Cases):
    """Cancelling."""

    async def test_a_scan_that_nobody_holds_is_cancelled_at_once(self, world: World) -> None:
        worker = world.worker()
        pending = await world.start(worker)
        status = await worker.registry.cancel(pending.scan_id)
        assert status.state is ScanState.CANCELLED
        assert status.done
        assert status == await world.registry().status(pending.scan_id)
        stalled = await world.start(worker)
        assert not stalled.joined
        await world.dead_claim(stalled.scan_id)
        status = await worker.registry.cancel(stalled.scan_id)
        assert status.state is ScanState.CANCELLED
        assert {o.state for o in status.outcomes} == {OutcomeState.CANCELLED}

    async def test_the_holder_notices_at_its_next_write(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        status = await world.registry().cancel(ticket.scan_id)
        assert status.cancel_requested
        assert status.state is ScanState.RUNNING
        assert not claim.cancel_requested
        await claim.strategy_finished("alpha", [])
        assert claim.cancel_requested

    async def test_the_holder_notices_at_its_next_heartbeat(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await world.registry().cancel(ticket.scan_id)
        await world.clock.advance(world.ttl.lease / 2)
        assert claim.cancel_requested
        await claim.interrupted()

    async def test_cancelling_twice_is_cancelling_once(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        await world.hold(worker, ticket.scan_id)
        first = await worker.registry.cancel(ticket.scan_id)
        assert await worker.registry.cancel(ticket.scan_id) == first

    async def test_cancelling_changes_no_finished_scan(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        assert await worker.registry.cancel(status.scan_id) == status
        assert not status.cancel_requested

    async def test_a_cancel_requested_scan_is_joined_by_nobody(self, world: World) -> None:
        worker = world.worker()
        first = await world.start(worker)
        await world.hold(worker, first.scan_id)
        await worker.registry.cancel(first.scan_id)
        second = await world.start(world.worker())
        assert not second.joined
        assert second.scan_id != first.scan_id
        third = await world.start(world.worker())
        assert third.joined
        assert third.scan_id == second.scan_id

    async def test_a_dying_cancelled_scan_does_not_steal_the_key_back(self, world: World) -> None:
        worker = world.worker()
        first = await world.start(worker)
        claim = await world.hold(worker, first.scan_id)
        await worker.registry.cancel(first.scan_id)
        second = await world.start(worker)
        await claim.strategy_finished("alpha", [])
        await claim.complete()
        again = await world.start(worker)
        assert again.joined
        assert again.scan_id == second.scan_id
        assert (await worker.registry.latest("ann")).scan_id == second.scan_id

    @pytest.mark.parametrize("who", ["claim", "cancel", "start"])
    async def test_a_dead_holder_s_cancellation_is_carried_out(
        self, world: World, who: str
    ) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        holder = world.worker()
        await world.hold(holder, ticket.scan_id)
        await worker.registry.cancel(ticket.scan_id)
        holder.store.freeze()
        await world.clock.advance(world.ttl.lease * 1.01)
        assert (await worker.registry.status(ticket.scan_id)).stalled
        if who == "claim":
            with pytest.raises(ScanFinished) as caught:
                await world.hold(worker, ticket.scan_id)
            assert caught.value.status.state is ScanState.CANCELLED
        elif who == "cancel":
            await worker.registry.cancel(ticket.scan_id)
        else:
            assert not (await world.start(worker)).joined
        status = await worker.registry.status(ticket.scan_id)
        assert status.state is ScanState.CANCELLED

    async def test_cancel_races_with_the_holder_s_write(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        beside = world.beside(worker.store)
        worker.store.before(lambda: beside.cancel(ticket.scan_id))
        await claim.strategy_finished("alpha", [{"n": 1}])
        assert claim.cancel_requested
        status = await worker.registry.status(ticket.scan_id)
        assert status.cancel_requested
        assert status.progress.opportunities_found == 1

    async def test_cancel_races_with_the_finish(self, world: World) -> None:
        worker, other = world.worker(), world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await claim.strategy_finished("alpha", [{"n": 1}])
        beside = world.beside(worker.store)
        worker.store.before(lambda: beside.cancel(ticket.scan_id))
        await claim.complete()
        status = await other.registry.status(ticket.scan_id)
        assert status.state is ScanState.CANCELLED
        assert status.outcome("gamma").state is OutcomeState.CANCELLED
