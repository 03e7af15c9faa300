"""Several workers and one scan: joined, resumed, recovered, closed, cancelled."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from concurrent.futures import CancelledError

import pytest

import oppscan
from oppscan import (
    InvalidInput,
    Reuse,
    ScanAlreadyClaimed,
    ScanFinished,
    ScanNotFound,
    ScanState,
    TTLPolicy,
)
from tests.runner.rig import PATIENCE, Rig, Runner, in_thread, states_of, until

QUICK = TTLPolicy(lease=0.4)


class Steps:
    """Two strategies: one is quick, one waits; both count how often they ran."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.go = threading.Event()
        self.ran: list[str] = []

    def quick(self) -> object:
        self.ran.append("quick")
        return [{"of": "quick"}]

    def waits(self) -> object:
        self.ran.append("waits")
        while not self._rig.gate.is_set() and not self.go.wait(0.01):
            continue
        return [{"of": "waits"}]

    def runner(self, **options: object) -> Runner:
        strategies = {"quick": self.quick, "waits": self.waits}
        return self._rig.runner(strategies, ttl=QUICK, **options)  # type: ignore[arg-type]

    def under_way(self, scan_id: str | None = None) -> bool:
        """Whether the quick one is through, and the other runs."""
        try:
            registry = self._rig.registry
            status = registry.status(scan_id) if scan_id else registry.latest("ann")
        except ScanNotFound:
            return False
        return states_of(status) == {"quick": "found", "waits": "running"}


@pytest.fixture
def steps(rig: Rig) -> Steps:
    return Steps(rig)


def test_g9_a_live_equal_scan_is_joined_and_waited_for(rig: Rig, steps: Steps) -> None:
    first = steps.runner().begin()
    assert until(steps.under_way)
    second = steps.runner().begin()
    time.sleep(0.1)
    assert not second.done()
    steps.go.set()
    assert first.result(PATIENCE).scan_id == second.result(PATIENCE).scan_id
    assert second.result().state is ScanState.COMPLETE
    assert sorted(steps.ran) == ["quick", "waits"]


def test_reuse_says_whether_a_scan_is_joined(rig: Rig, steps: Steps) -> None:
    steps.go.set()
    first = steps.runner().run()
    assert steps.runner().run(reuse=Reuse.fresh(60)) == first
    assert steps.runner().run(reuse=Reuse.NEVER).scan_id != first.scan_id
    assert steps.runner().run(key="mine").key == "mine"
    assert sorted(steps.ran) == ["quick"] * 3 + ["waits"] * 3


def test_g13_a_joined_stalled_scan_is_resumed(rig: Rig, steps: Steps) -> None:
    ticket = rig.registry.start("ann", ["quick", "waits"])
    with rig.registry.claim(ticket.scan_id) as claim:
        claim.strategy_finished("quick", [{"of": "another worker"}])
        claim.release()
    steps.go.set()
    status = steps.runner().run()
    assert status.scan_id == ticket.scan_id
    assert steps.ran == ["waits"]
    found = rig.registry.results(status.scan_id).opportunities
    assert found == ({"of": "another worker"}, {"of": "waits"})


def test_g13_whoever_waits_steps_in_when_the_holder_goes(rig: Rig, steps: Steps) -> None:
    ticket = rig.registry.start("ann", ["quick", "waits"])
    with rig.registry.claim(ticket.scan_id) as claim:
        claim.strategy_finished("quick", [])
        going = steps.runner().begin()
        time.sleep(0.1)
        assert not going.done()
        claim.release()
        steps.go.set()
        assert going.result(PATIENCE).state is ScanState.COMPLETE
    assert steps.ran == ["waits"]


def test_run_ends_with_its_budget_while_another_worker_makes_no_progress(
    rig: Rig, steps: Steps
) -> None:
    ticket = rig.registry.start("ann", ["quick", "waits"])
    with rig.registry.claim(ticket.scan_id) as claim:
        going = steps.runner(budget=0.5).begin()
        with pytest.raises(TimeoutError, match="another worker"):
            going.result(5)
        claim.release()
        until(going.done, within=2)


def test_two_who_start_at_the_same_time_run_each_strategy_once(rig: Rig, steps: Steps) -> None:
    going = [steps.runner().begin() for _ in range(4)]
    assert until(steps.under_way)
    time.sleep(0.3)
    steps.go.set()
    assert len({one.result(PATIENCE).scan_id for one in going}) == 1
    assert sorted(steps.ran) == ["quick", "waits"]


def test_resume_runs_a_pending_scan(rig: Rig, steps: Steps) -> None:
    steps.go.set()
    scan_id = rig.registry.start("ann", ["quick"]).scan_id
    with pytest.raises(ScanNotFound):
        steps.runner().resume(scan_id, owner="bob")
    status = steps.runner().resume(scan_id, owner="ann")
    assert status.state is ScanState.COMPLETE
    with pytest.raises(ScanFinished):
        steps.runner().resume(scan_id)


def test_resume_of_a_held_scan_is_refused(rig: Rig, steps: Steps) -> None:
    scan_id = steps.runner().start().scan_id
    assert until(lambda: steps.under_way(scan_id))
    with pytest.raises(ScanAlreadyClaimed):
        steps.runner().resume(scan_id)


def test_resume_skips_what_this_runner_does_not_know(rig: Rig, steps: Steps) -> None:
    scan_id = rig.registry.start("ann", ["strange", "quick"]).scan_id
    status = steps.runner().resume(scan_id)
    assert states_of(status) == {"strange": "skipped", "quick": "found"}
    assert status.outcome("strange").error == "not in this runner"


def test_recover_finishes_stalled_scans_up_to_its_limit(rig: Rig, steps: Steps) -> None:
    steps.go.set()
    scans = [rig.registry.start(owner, ["quick"]).scan_id for owner in ("ann", "bob", "cy")]
    for scan_id in scans:
        with rig.registry.claim(scan_id) as claim:
            claim.release()
    assert len(steps.runner().recover(2)) == 2
    assert [status.state for status in steps.runner().recover()] == [ScanState.COMPLETE]
    assert steps.runner().recover() == []
    assert {rig.registry.status(scan_id).state for scan_id in scans} == {ScanState.COMPLETE}


def _list_as_stalled(
    runner: Runner, stalled: list[oppscan.ScanStatus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Have the runner see a list of stalled scans that is out of date."""

    async def listed(registry: object, limit: int) -> list[oppscan.ScanStatus]:
        return stalled

    def listed_blocking(registry: object, limit: int) -> list[oppscan.ScanStatus]:
        return stalled

    awaits = isinstance(runner.inner, oppscan.StrategyRunner)
    registry = type(runner.inner._registry)  # noqa: SLF001
    monkeypatch.setattr(registry, "stalled", listed if awaits else listed_blocking)


def test_recover_passes_over_what_another_worker_took(
    rig: Rig, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps.go.set()
    runner = steps.runner()
    taken, done, free = (rig.registry.start(o, ["quick"]).scan_id for o in ("ann", "bob", "cy"))
    stalled = [rig.registry.status(scan_id) for scan_id in (taken, done, free)]
    _list_as_stalled(runner, stalled, monkeypatch)
    with rig.registry.claim(done) as claim:
        claim.complete()
    with rig.registry.claim(taken) as claim:
        assert [status.scan_id for status in runner.recover()] == [free]
        claim.release()


def test_recover_goes_on_behind_a_scan_that_is_gone(
    rig: Rig, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = steps.runner()
    gone, free = (rig.registry.start(o, ["quick"]).scan_id for o in ("ann", "bob"))
    stalled = [rig.registry.status(scan_id) for scan_id in (gone, free)]
    _list_as_stalled(runner, stalled, monkeypatch)
    rig.registry.forget(gone)
    assert [status.scan_id for status in runner.recover()] == [free]


def test_recover_leaves_alone_what_is_another_runners(rig: Rig, steps: Steps) -> None:
    scan_id = rig.registry.start("ann", ["of another service"]).scan_id
    with rig.registry.claim(scan_id) as claim:
        claim.release()
    assert steps.runner().recover() == []
    assert rig.registry.status(scan_id).state is ScanState.RUNNING


def test_a_scan_in_the_background_can_be_followed_at_once(rig: Rig, steps: Steps) -> None:
    ticket = steps.runner().start(params={"a": 1}, metadata={"b": 2})
    assert ticket.must_run
    assert not ticket.joined
    assert rig.registry.status(ticket.scan_id).params == {"a": 1}
    again = steps.runner().start(params={"a": 1})
    assert (again.joined, again.must_run) == (True, False)
    steps.go.set()
    assert rig.registry.wait(ticket.scan_id, timeout=10).state is ScanState.COMPLETE


def test_closing_drains_what_ends_in_time(rig: Rig, steps: Steps) -> None:
    runner = steps.runner()
    scan_id = runner.start().scan_id
    assert until(lambda: steps.under_way(scan_id))
    threading.Timer(0.2, steps.go.set).start()
    runner.close(drain=20)
    assert rig.registry.status(scan_id).state is ScanState.COMPLETE


def test_closing_releases_what_does_not_end_in_time(rig: Rig, steps: Steps) -> None:
    runner = steps.runner()
    scan_id = runner.start().scan_id
    assert until(lambda: steps.under_way(scan_id))
    began = time.monotonic()
    runner.close(drain=0.2)
    assert time.monotonic() - began < 5
    status = rig.registry.status(scan_id)
    assert (status.state, status.stalled) == (ScanState.RUNNING, True)
    steps.go.set()
    assert steps.runner().resume(scan_id).state is ScanState.COMPLETE
    assert sorted(steps.ran) == ["quick", "waits", "waits"]


def test_closing_releases_also_what_somebody_waits_for(rig: Rig, steps: Steps) -> None:
    runner = steps.runner()
    going = runner.begin()
    assert until(steps.under_way)
    runner.close(drain=0.1)
    status = rig.registry.latest("ann")
    assert (status.state, status.stalled) == (ScanState.RUNNING, True)
    steps.go.set()
    until(going.done)


def test_closing_does_not_wait_for_another_workers_scan(rig: Rig, steps: Steps) -> None:
    ticket = rig.registry.start("ann", ["quick", "waits"])
    with rig.registry.claim(ticket.scan_id) as claim:
        claim.release()
    runner = steps.runner(budget=60)
    with rig.registry.claim(ticket.scan_id) as claim:
        # As if it had been taken between being joined while stalled and being claimed here.
        inner = runner.inner
        if isinstance(inner, oppscan.StrategyRunner):
            going = rig.submit(lambda: inner._see_through(ticket.scan_id, must_run=True))  # noqa: SLF001
            time.sleep(0.1)
            rig.loop.call_soon_threadsafe(going.cancel)
        else:
            stop = threading.Event()
            going = in_thread(
                lambda: inner._see_through(ticket.scan_id, stop, must_run=True)  # noqa: SLF001
            )
            time.sleep(0.1)
            stop.set()
        ended = until(going.done, within=3)
        claim.complete()
        assert ended


def test_a_closed_runner_takes_nothing_new(rig: Rig, steps: Steps) -> None:
    runner = steps.runner()
    scan_id = rig.registry.start("bob", ["quick"]).scan_id
    runner.close()
    for call in (runner.run, runner.start, runner.recover, lambda: runner.resume(scan_id)):
        with pytest.raises(InvalidInput, match="closed"):
            call()
    runner.close()


def test_a_runner_is_a_context_manager_that_closes_itself(rig: Rig, steps: Steps) -> None:
    inner = steps.runner().inner
    steps.go.set()
    if isinstance(inner, oppscan.StrategyRunner):

        async def use() -> oppscan.Ticket:
            async with inner as runner:
                return await runner.start("ann")

        ticket = rig.call(use)
    else:
        with inner as runner:
            ticket = runner.start("ann")
    assert rig.registry.status(ticket.scan_id).state is ScanState.COMPLETE


def test_cancelling_the_task_that_awaits_run_releases_the_scan(async_rig: Rig) -> None:
    steps = Steps(async_rig)
    inner = steps.runner().inner
    assert isinstance(inner, oppscan.StrategyRunner)

    async def cancelled() -> str:
        task = asyncio.create_task(inner.run("ann"))
        while not await asyncio.to_thread(steps.under_way):  # noqa: ASYNC110 - polls a store
            await asyncio.sleep(0.01)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "raised again"
        return "swallowed"

    assert async_rig.call(cancelled) == "raised again"
    async_rig.call(async_rig.loop.shutdown_default_executor)
    status = async_rig.registry.latest("ann")
    assert (status.state, status.stalled) == (ScanState.RUNNING, True)
    steps.go.set()
    assert steps.runner().run().scan_id == status.scan_id
    assert sorted(steps.ran) == ["quick", "waits", "waits"]


def test_ctrl_c_releases_the_scan_and_is_raised_again(blocking_rig: Rig) -> None:
    steps = Steps(blocking_rig)

    def interrupt() -> None:
        assert until(steps.under_way)
        os.kill(os.getpid(), signal.SIGINT)

    inner = steps.runner().inner
    interrupting = in_thread(interrupt)
    with pytest.raises(KeyboardInterrupt):
        inner.run("ann")
    interrupting.result(PATIENCE)
    status = blocking_rig.registry.latest("ann")
    assert (status.state, status.stalled) == (ScanState.RUNNING, True)


def test_cancel_stops_a_scan_within_a_heartbeat_and_keeps_what_was_found(
    rig: Rig, steps: Steps
) -> None:
    going = steps.runner().begin()
    assert until(steps.under_way)
    scan_id = rig.registry.latest("ann").scan_id
    began = time.monotonic()
    rig.registry.cancel(scan_id)
    status = going.result(PATIENCE)
    assert time.monotonic() - began < QUICK.lease / 4 + 1.0
    assert status.state is ScanState.CANCELLED
    assert states_of(status) == {"quick": "found", "waits": "cancelled"}
    partial = rig.registry.results(scan_id, partial=True)
    assert partial.opportunities == ({"of": "quick"},)


def test_cancelling_while_much_is_still_to_be_started_starts_nothing_more(rig: Rig) -> None:
    begun: list[int] = []

    def first() -> None:
        begun.append(1)
        rig.gate.wait(20)

    runner = rig.runner({f"s{n}": first for n in range(20)}, ttl=QUICK, max_concurrency=2)
    going = runner.begin()
    assert until(lambda: len(begun) == 2)
    rig.registry.cancel(rig.registry.latest("ann").scan_id)
    status = going.result(PATIENCE)
    assert set(states_of(status).values()) == {"cancelled"}
    assert len(begun) == 2


def test_a_future_of_the_loop_that_is_cancelled_ends_its_scan(async_rig: Rig) -> None:
    steps = Steps(async_rig)
    going = steps.runner().begin()
    assert until(steps.under_way)
    going.cancel()
    with pytest.raises(CancelledError):
        going.result(1)
    assert until(lambda: async_rig.registry.latest("ann").stalled)
