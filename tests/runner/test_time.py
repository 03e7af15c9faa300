"""Time: timeouts, the budget, how many run at once, threads that hang, and the estimate."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from oppscan import OutcomeState, ScanContext, ScanState, Strategy
from oppscan.runner.threads import HUNG_LIMIT
from oppscan.testing import Fault, FaultyStore
from tests.runner.rig import Rig, states_of, until


def _hanging(rig: Rig) -> dict[str, Any]:
    async def in_loop() -> None:
        await asyncio.sleep(60)

    def in_thread() -> None:
        rig.gate.wait(30)

    return {"in_loop": in_loop, "in_thread": in_thread}


def test_a_strategy_past_its_time_is_timed_out_by_name(rig: Rig) -> None:
    status = rig.runner(_hanging(rig), strategy_timeout=0.2).run()
    assert states_of(status) == {"in_loop": "timed_out", "in_thread": "timed_out"}
    assert {outcome.error for outcome in status.outcomes} == {"timed out after 0.2 s"}
    assert status.state is ScanState.FAILED
    for outcome in status.outcomes:
        assert outcome.duration is not None
        assert 0.1 <= outcome.duration < 5


def test_the_timeout_of_one_strategy_is_its_own(rig: Rig) -> None:
    async def quick_enough() -> None:
        await asyncio.sleep(0.4)

    hanging = Strategy("hanging", _hanging(rig)["in_loop"], timeout=0.1)
    status = rig.runner([quick_enough, hanging], strategy_timeout=10).run()
    assert states_of(status) == {"quick_enough": "empty", "hanging": "timed_out"}


def test_who_stops_when_told_that_its_time_is_over_is_timed_out(rig: Rig) -> None:
    def obedient(context: ScanContext) -> object:
        while not context.cancelled:
            time.sleep(0.001)
        return [{"n": 1}]

    async def obedient_too(context: ScanContext) -> object:
        while not context.cancelled:  # noqa: ASYNC110 - a strategy asks its context
            await asyncio.sleep(0.001)
        return [{"n": 1}]

    status = rig.runner([obedient, obedient_too], strategy_timeout=0.2).run()
    assert states_of(status) == {"obedient": "timed_out", "obedient_too": "timed_out"}


def test_a_coroutine_past_its_time_is_timed_out_also_while_the_store_is_slow(rig: Rig) -> None:
    async def hangs() -> None:
        await asyncio.sleep(60)

    def quick() -> None:
        time.sleep(0.02)

    store = FaultyStore(rig.store)
    store.always(Fault.SLOW)
    strategies = {"hangs": hangs, **{f"quick {n}": quick for n in range(30)}}
    status = rig.runner(strategies, store=store, strategy_timeout=0.45, max_concurrency=4).run()
    assert status.outcome("hangs").state is OutcomeState.TIMED_OUT


def test_when_the_budget_is_out_the_running_are_timed_out_and_the_rest_skipped(rig: Rig) -> None:
    strategies = {**_hanging(rig), "waits": lambda: None, "waits too": lambda: None}
    runner = rig.runner(strategies, max_concurrency=2, budget=1.0)
    began = time.monotonic()
    status = runner.run()
    took = time.monotonic() - began
    assert states_of(status) == {
        "in_loop": "timed_out",
        "in_thread": "timed_out",
        "waits": "skipped",
        "waits too": "skipped",
    }
    assert status.outcome("waits").error == "the budget was out"
    assert 0.85 <= took < 3.0
    assert status.progress.percentage == 100.0


def test_no_more_than_max_concurrency_run_at_once(rig: Rig) -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def counted() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.03)
        with lock:
            now[0] -= 1

    rig.runner({f"s{n}": counted for n in range(12)}, max_concurrency=3).run()
    assert most == [3]


def test_a_timed_out_thread_frees_its_place(rig: Rig) -> None:
    strategies = {"hangs": lambda: rig.gate.wait(30), "next": lambda: None}
    status = rig.runner(strategies, max_concurrency=1, strategy_timeout=0.2).run()
    assert states_of(status) == {"hangs": "timed_out", "next": "empty"}


def test_beyond_the_limit_of_hung_threads_blocking_strategies_fail_by_name(rig: Rig) -> None:
    ran = threading.Event()

    async def in_loop() -> None:
        """It needs no thread where the host has an event loop."""

    hanging = [
        Strategy(f"hangs {n}", lambda: rig.gate.wait(60), timeout=0.05) for n in range(HUNG_LIMIT)
    ]
    strategies = [*hanging, Strategy("one too many", ran.set), Strategy("in a loop", in_loop)]
    runner = rig.runner(strategies, max_concurrency=1, budget=30)
    status = runner.run()
    *hung, refused, unaffected = states_of(status).values()
    assert hung == ["timed_out"] * HUNG_LIMIT
    assert refused == "failed"
    assert unaffected == ("empty" if rig.face == "async" else "failed")
    error = str(status.outcome("one too many").error)
    assert error.startswith(f"TooManyHungThreads: {HUNG_LIMIT} blocking strategies")
    assert not ran.is_set()
    rig.gate.set()  # once they end after all, there is room again
    assert until(lambda: states_of(runner.run(only=["one too many"])) == {"one too many": "empty"})
    assert ran.is_set()


def test_idle_threads_are_used_again(rig: Rig) -> None:
    used: set[int] = set()

    def which() -> None:
        used.add(threading.get_ident())
        time.sleep(0.002)

    rig.runner({f"s{n}": which for n in range(40)}, max_concurrency=2).run()
    assert len(used) <= 4


def test_the_estimate_says_when_a_scan_will_be_done(rig: Rig) -> None:
    def takes_a_while() -> None:
        time.sleep(0.3)

    async def takes_as_long() -> None:
        await asyncio.sleep(0.3)

    strategies = {"a": takes_a_while, "b": takes_as_long, "c": takes_a_while, "d": takes_as_long}
    runner = rig.runner(strategies, max_concurrency=1)
    for _ in range(2):  # the second time, the durations are known from the first
        going = runner.begin()
        statuses = []
        while not going.done():
            if rig.registry.has_active_scan("ann"):
                statuses.append(rig.registry.latest("ann"))
            time.sleep(0.02)
        one_done = [s for s in statuses if s.progress.strategies_completed == 1]
        assert one_done
        assert all(s.eta is None for s in statuses if s.progress.strategies_completed == 0)
        finished = going.result()
        assert finished.finished_at is not None
        for status in one_done:
            assert status.eta is not None
            off = (status.eta - finished.finished_at).total_seconds()
            assert -1.0 < off < 1.0


@pytest.mark.parametrize("names", [1, 5])
def test_a_scan_of_few_strategies_starts_no_more_workers_than_those(rig: Rig, names: int) -> None:
    status = rig.runner({f"s{n}": lambda: None for n in range(names)}, max_concurrency=500).run()
    assert status.progress.succeeded == names


def test_a_scan_without_strategies_is_over_at_once(rig: Rig) -> None:
    try:
        status = rig.runner({}).run()
    except Exception as refused:  # noqa: BLE001 - shown below
        pytest.fail(f"a runner without strategies: {refused!r}")
    assert status.done
