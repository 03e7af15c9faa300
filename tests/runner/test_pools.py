"""Blocking strategies in executors: processes that die, hang or are broken from the start."""

# ruff: noqa: ANN401, ARG002 - options and arguments pass through
from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from loky import ProcessPoolExecutor as LokyExecutor  # type: ignore[import-untyped]

from oppscan import ScanState, ScanStatus
from oppscan.runner.threads import HUNG_LIMIT
from tests.runner import pools
from tests.runner.leaks import children
from tests.runner.rig import PATIENCE, Rig, Runner, states_of, until

SPAWN = partial(ProcessPoolExecutor, 2, mp_context=get_context("spawn"))
LOKY = partial(LokyExecutor, 2)
FACTORIES = [pytest.param(SPAWN, id="process pool"), pytest.param(LOKY, id="loky")]


@pytest.fixture(autouse=True)
def collected(rig: Rig) -> Iterator[None]:
    """Let finalizers of a pool run now: within the start of another one, Python 3.12 warns."""
    yield
    gc.collect()


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def _ran(ledger: Path) -> list[str]:
    return [line.split()[0] for line in ledger.read_text().splitlines()]


def _run(runner: Runner, ledger: Path, **options: Any) -> ScanStatus:
    return runner.run(params={"ledger": str(ledger)}, **options)


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_process_that_dies_fails_its_strategy_and_no_other(
    rig: Rig, ledger: Path, factory: Callable[[], Executor]
) -> None:
    strategies: dict[str, Any] = {f"steady{n}": pools.steady for n in range(3)}
    strategies |= {"dies": pools.dies, "quick": pools.quick, "of_nothing": pools.of_nothing}
    runner = rig.runner(strategies, executor=factory, strategy_timeout=30, budget=60)
    status = _run(runner, ledger)
    assert status.state is ScanState.COMPLETE
    assert states_of(status) == {
        **{f"steady{n}": "found" for n in range(3)},
        "dies": "failed",
        "quick": "found",
        "of_nothing": "empty",
    }
    assert "WorkerDied" in str(status.outcome("dies").error)
    assert _ran(ledger).count("dies") == 2
    assert states_of(_run(runner, ledger, only=["quick"])) == {"quick": "found"}


def test_a_process_that_dies_once_costs_nothing_but_time(rig: Rig, ledger: Path) -> None:
    strategies = {"once": pools.dies_once, "steady": pools.steady}
    runner = rig.runner(strategies, executor=SPAWN, strategy_timeout=30, budget=60)
    status = _run(runner, ledger)
    assert states_of(status) == {"once": "found", "steady": "found"}
    found = rig.registry.results(status.scan_id).opportunities
    assert {"again": True} in found


def test_strategies_run_in_other_processes_and_coroutines_do_not(rig: Rig, ledger: Path) -> None:
    strategies = {"quick": pools.quick, "on_the_loop": pools.on_the_loop}
    status = _run(rig.runner(strategies, executor=SPAWN), ledger)
    found = rig.registry.results(status.scan_id).by_strategy
    assert found["quick"][0]["pid"] != os.getpid()
    assert found["on_the_loop"][0]["pid"] == os.getpid()


def test_what_cannot_cross_processes_is_a_failure_with_its_text(rig: Rig, ledger: Path) -> None:
    strategies: dict[str, Any] = {
        "raises": pools.raises,
        "local": lambda: None,
        "quick": pools.quick,
    }
    status = _run(rig.runner(strategies, executor=SPAWN), ledger)
    assert status.outcome("raises").error == "Unpicklable: 1 and 2"
    assert states_of(status) == {"raises": "failed", "local": "failed", "quick": "found"}
    assert "<locals>.<lambda>" in str(status.outcome("local").error)


def test_a_hung_process_is_timed_out_and_killed_and_its_pool_replaced(
    rig: Rig, ledger: Path
) -> None:
    strategies = {"hangs": pools.hangs, "yields": pools.yields, "quick": pools.quick}
    runner = rig.runner(strategies, executor=SPAWN, strategy_timeout=3.0, budget=30)
    status = _run(runner, ledger, only=["hangs", "yields"])
    assert states_of(status) == {"hangs": "timed_out", "yields": "timed_out"}
    assert status.outcome("yields").found >= 1
    pid = int(next(line for line in ledger.read_text().splitlines() if "hangs" in line).split()[1])
    assert until(lambda: pid not in children(), within=10)
    assert states_of(_run(runner, ledger, only=["quick"])) == {"quick": "found"}


def test_cancelling_reaches_strategies_in_other_processes(rig: Rig, ledger: Path) -> None:
    runner = rig.runner({"obeys": pools.obeys}, executor=SPAWN, strategy_timeout=30)
    going = runner.begin(params={"ledger": str(ledger)})
    assert until(ledger.exists)
    rig.registry.cancel(rig.registry.latest("ann").scan_id)
    assert going.result(PATIENCE).state is ScanState.CANCELLED


class Broken(Executor):
    """An executor that is broken from the start, in one way or another."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.was_shut_down = False

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.error is not None:
            raise self.error
        future: Future[Any] = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.was_shut_down = True


@pytest.mark.parametrize(
    ("error", "told"),
    [
        pytest.param(None, "died, twice (CancelledError)", id="cancels all by itself"),
        pytest.param(RuntimeError("no new futures"), "it was not run", id="shut down"),
        pytest.param(BrokenExecutor("broken"), "it was not run", id="broken"),
    ],
)
def test_an_executor_that_gives_up_is_no_answer(
    rig: Rig, error: BaseException | None, told: str
) -> None:
    given = Broken(error)
    status = rig.runner({"it": pools.of_nothing}, executor=given).run()
    assert states_of(status) == {"it": "failed"}
    assert told in str(status.outcome("it").error)
    made: list[Broken] = []

    def factory() -> Executor:
        made.append(Broken(error))
        return made[-1]

    status = rig.runner({"it": pools.of_nothing}, executor=factory).run()
    assert states_of(status) == {"it": "failed"}
    assert told in str(status.outcome("it").error)
    assert len(made) == 2
    assert all(executor.was_shut_down for executor in made)
    assert not given.was_shut_down


def test_an_executor_that_refuses_a_strategy_fails_it_by_name(rig: Rig) -> None:
    status = rig.runner({"it": pools.of_nothing}, executor=Broken(ValueError("too large"))).run()
    assert status.outcome("it").error == "ValueError: too large"


def test_a_factory_that_makes_no_executor_fails_strategies_by_name(rig: Rig) -> None:
    status = rig.runner({"it": pools.of_nothing}, executor=lambda: 7).run()
    assert "not an Executor" in str(status.outcome("it").error)


def test_a_given_executor_is_used_but_never_shut_down(rig: Rig) -> None:
    with ThreadPoolExecutor(2) as given:
        runner = rig.runner({f"s{n}": pools.of_nothing for n in range(5)}, executor=given)
        assert set(states_of(runner.run()).values()) == {"empty"}
        runner.close()
        assert given.submit(int).result(5) == 0


def test_a_given_executor_full_of_hung_strategies_takes_no_more(rig: Rig) -> None:
    calls: dict[str, Any] = {f"s{n}": lambda: rig.gate.wait(30) for n in range(HUNG_LIMIT)}
    ran = threading.Event()
    with ThreadPoolExecutor(HUNG_LIMIT + 1) as given:
        runner = rig.runner(
            {**calls, "more": ran.set},
            executor=given,
            max_concurrency=HUNG_LIMIT,
            strategy_timeout=0.3,
        )
        hung = runner.run(only=list(calls))
        assert set(states_of(hung).values()) == {"timed_out"}
        refused = runner.run(only=["more"])
        assert "TooManyHungThreads" in str(refused.outcome("more").error)
        assert not ran.is_set()
        rig.gate.set()
        assert until(lambda: states_of(runner.run(only=["more"])) == {"more": "empty"})


def test_what_still_waits_in_the_executor_is_taken_back(rig: Rig) -> None:
    ran: list[int] = []
    busy = threading.Event()
    with ThreadPoolExecutor(1) as given:
        given.submit(busy.wait, 30)
        status = rig.runner(
            {"it": lambda: ran.append(1)}, executor=given, strategy_timeout=0.3
        ).run()
        assert states_of(status) == {"it": "timed_out"}
        busy.set()
    assert ran == []


def test_the_pool_ends_with_its_runner(rig: Rig, ledger: Path) -> None:
    runner = rig.runner({"quick": pools.quick, "dies": pools.dies}, executor=SPAWN)
    _run(runner, ledger)
    runner.close()
    assert until(lambda: _spawned() == [], within=10)
    time.sleep(0.05)


def _spawned() -> list[int]:
    return [pid for pid, line in children().items() if "spawn_main" in line]
