"""A store that is down for a while, or full, and a claim that another worker took."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import oppscan
import oppscan.sync as blocking
from oppscan import ScanNotFound, ScanState, StorageFull, StorageUnavailable, TTLPolicy
from oppscan.ops import Apply, Resolve
from oppscan.testing import Fault, FaultyStore
from tests.runner.rig import PATIENCE, Rig, in_thread, states_of, until

QUICK = TTLPolicy(lease=0.4)


class Paced:
    """Strategies of 20 ms each, that count how often they ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def named(self, name: str) -> Callable[[], object]:
        def call() -> object:
            self.ran.append(name)
            time.sleep(0.02)
            return [{"of": name}]

        return call

    def strategies(self, many: int) -> dict[str, Any]:
        return {f"s{number}": self.named(f"s{number}") for number in range(many)}


def _under_way(rig: Rig, completed: int) -> bool:
    try:
        return rig.registry.latest("ann").progress.strategies_completed >= completed
    except ScanNotFound:
        return False


@pytest.mark.parametrize("fault", [Fault.FAIL, Fault.DROP], ids=lambda fault: fault.name)
def test_g11_a_scan_survives_a_store_that_is_down_for_a_while(rig: Rig, fault: Fault) -> None:
    paced, store = Paced(), FaultyStore(rig.store)
    runner = rig.runner(
        paced.strategies(40), store=store, max_concurrency=4, op_timeout=0.2, budget=30
    )
    going = runner.begin()
    assert until(lambda: _under_way(rig, 5))
    store.always(fault)
    time.sleep(0.9)
    store.clear()
    status = going.result(10)
    assert set(states_of(status).values()) == {"found"}
    found = [item["of"] for item in rig.registry.results(status.scan_id).opportunities]
    assert sorted(map(str, found)) == sorted(states_of(status))
    assert sorted(paced.ran) == sorted(states_of(status))


def test_g11_an_outcome_whose_reply_was_lost_may_be_reported_again_after_a_heartbeat(
    rig: Rig,
) -> None:
    store = FaultyStore(rig.store)
    registry = blocking.ScanRegistry(store, op_timeout=0.1)
    scan_id = registry.start("ann", ["a", "b"]).scan_id
    with registry.claim(scan_id) as claim:
        store.always(Fault.DROP)
        with pytest.raises(StorageUnavailable):
            claim.strategy_finished("a", [{"n": 1}])
        store.clear()
        claim.heartbeat()  # as it also happens by itself
        claim.strategy_finished("a", [{"n": 1}])
        claim.strategy_finished("b", [])
    assert registry.results(scan_id).opportunities == ({"n": 1},)


def test_a_store_that_stays_down_ends_the_run_with_its_budget_and_loses_nothing(rig: Rig) -> None:
    paced, store = Paced(), FaultyStore(rig.store)
    runner = rig.runner(
        paced.strategies(40), store=store, ttl=QUICK, max_concurrency=4, op_timeout=0.2, budget=1.5
    )
    going = runner.begin()
    assert until(lambda: _under_way(rig, 5))
    store.always(Fault.FAIL)
    with pytest.raises(StorageUnavailable):
        going.result(10)
    store.clear()
    scan_id = rig.registry.latest("ann").scan_id
    before = rig.registry.status(scan_id)
    assert before.state is ScanState.RUNNING
    assert until(lambda: rig.registry.status(scan_id).stalled)
    paced.ran.clear()
    status = rig.runner(paced.strategies(40)).resume(scan_id)
    assert set(states_of(status).values()) == {"found"}
    assert len(paced.ran) == 40 - before.progress.strategies_completed
    assert len(rig.registry.results(scan_id).opportunities) == 40


def test_recover_says_so_when_the_store_goes_down_after_it_listed_what_stalled(rig: Rig) -> None:
    ran: list[int] = []
    scan_id = rig.registry.start("ann", ["it"]).scan_id
    with rig.registry.claim(scan_id) as claim:
        claim.release()
    store = FaultyStore(rig.store)
    runner = rig.runner({"it": lambda: ran.append(1)}, store=store, op_timeout=0.2)
    store.plan(Fault.PASS, on=Resolve)  # the listing looks at each
    store.always(Fault.FAIL, on=Resolve)
    with pytest.raises(StorageUnavailable):
        runner.recover()
    assert store.counts["SelectDue"] == 1
    assert ran == []


def test_a_store_that_is_full_releases_the_scan(rig: Rig) -> None:
    paced, store = Paced(), FaultyStore(rig.store)
    runner = rig.runner(paced.strategies(20), store=store, ttl=QUICK, max_concurrency=2)
    going = runner.begin()
    assert until(lambda: _under_way(rig, 3))
    store.always(Fault.FULL, on=Apply)
    with pytest.raises(StorageFull):
        going.result(10)
    assert until(lambda: rig.registry.latest("ann").stalled)
    assert rig.registry.latest("ann").state is ScanState.RUNNING


def test_a_store_that_is_slow_only_slows(rig: Rig) -> None:
    paced, store = Paced(), FaultyStore(rig.store)
    store.always(Fault.SLOW)
    status = rig.runner(paced.strategies(20), store=store, max_concurrency=10).run()
    assert set(states_of(status).values()) == {"found"}


def test_a_background_scan_that_ends_badly_is_logged(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    paced, store = Paced(), FaultyStore(rig.store)
    runner = rig.runner(paced.strategies(20), store=store, max_concurrency=2)
    scan_id = runner.start().scan_id
    store.always(Fault.FULL, on=Apply)
    assert until(lambda: any("background scan" in text for text in caplog.messages))
    assert rig.registry.status(scan_id).state in {ScanState.RUNNING, ScanState.PENDING}


class Taken:
    """A worker that is frozen until its scan was taken over by another one."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.go = threading.Event()
        self.ran: list[str] = []
        self.store = FaultyStore(rig.store)
        strategies = {"done": self.done, "waits": self.waits, "never": self.never}
        self.runner = rig.runner(strategies, store=self.store, ttl=QUICK, max_concurrency=1)
        self.going = self.runner.begin()
        assert until(lambda: _under_way(rig, 1))
        self.scan_id = rig.registry.latest("ann").scan_id
        assert until(lambda: states_of(rig.registry.status(self.scan_id))["waits"] == "running")
        self.store.freeze()
        assert until(lambda: rig.registry.status(self.scan_id).stalled)

    def done(self) -> object:
        self.ran.append("done")
        return [{"of": "the first"}]

    def waits(self) -> object:
        self.ran.append("waits")
        while not self.rig.gate.is_set() and not self.go.wait(0.01):
            continue
        return [{"of": "the late one"}]

    def never(self) -> object:
        self.ran.append("never")
        return []


def test_g7_a_worker_whose_scan_was_taken_awaits_the_others_result(rig: Rig) -> None:
    taken = Taken(rig)
    with rig.registry.claim(taken.scan_id) as claim:
        taken.store.thaw()
        taken.go.set()
        time.sleep(0.3)
        assert not taken.going.done()
        for name in claim.remaining:
            claim.strategy_finished(name, [{"of": "the other"}])
    status = taken.going.result(PATIENCE)
    assert (status.state, status.attempts) == (ScanState.COMPLETE, 2)
    assert taken.ran == ["done", "waits"]
    found = rig.registry.results(taken.scan_id).opportunities
    assert [item["of"] for item in found] == ["the first", "the other", "the other"]


def test_a_heartbeat_that_finds_the_claim_lost_stops_the_strategies(rig: Rig) -> None:
    taken = Taken(rig)
    with rig.registry.claim(taken.scan_id) as claim:
        taken.store.thaw()  # the strategy goes on hanging; only the heartbeat can tell
        time.sleep(0.5)
        assert not taken.going.done()
        claim.complete()
    assert taken.going.result(PATIENCE).attempts == 2
    assert taken.ran == ["done", "waits"]


def test_a_worker_that_was_late_but_not_replaced_goes_on(rig: Rig) -> None:
    taken = Taken(rig)
    taken.store.thaw()
    taken.go.set()
    status = taken.going.result(PATIENCE)
    assert (status.state, status.attempts) == (ScanState.COMPLETE, 1)
    assert taken.ran == ["done", "waits", "never"]


def test_cancellation_is_heard_although_the_store_was_down(rig: Rig) -> None:
    taken = Taken(rig)
    taken.store.always(Fault.FAIL)
    taken.store.thaw()
    time.sleep(0.3)
    cancelling = in_thread(lambda: rig.registry.cancel(taken.scan_id))
    cancelling.result(PATIENCE)
    taken.store.clear()
    status = taken.going.result(PATIENCE)
    assert status.state is ScanState.CANCELLED


def test_a_closed_event_loop_is_no_obstacle_to_a_late_thread(rig: Rig) -> None:
    """A thread that answers after its loop was closed ends quietly."""
    if rig.face != "async":
        rig.gate.set()
        return
    ended = threading.Event()
    errors: list[object] = []
    before, threading.excepthook = threading.excepthook, errors.append

    def late() -> None:
        rig.gate.wait(20)
        ended.set()

    try:
        runner = rig.runner([late], strategy_timeout=0.1)
        assert states_of(runner.run()) == {"late": "timed_out"}
        rig.close()
        assert ended.wait(5)
        time.sleep(0.1)
    finally:
        threading.excepthook = before
    assert errors == []


def test_the_runner_of_a_lost_scan_raises_what_reading_it_raises(rig: Rig) -> None:
    taken = Taken(rig)
    rig.registry.forget(taken.scan_id)
    taken.store.thaw()
    taken.go.set()
    with pytest.raises(oppscan.OppscanError):
        taken.going.result(PATIENCE)
