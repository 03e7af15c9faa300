"""Suspects: what a broken executor had under way, run once more."""

# ruff: noqa: ANN401 - arguments pass through
from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any, cast

from oppscan import Strategy
from oppscan.clock import elapsed
from oppscan.runner.collected import Collected
from oppscan.runner.executors import ExecutorPlace
from oppscan.runner.generation import WorkerDied
from oppscan.runner.killing import kill
from oppscan.runner.places import Task
from oppscan.runner.strategies import Flag, ScanContext
from oppscan.runner.threads import BlockingThreads
from tests.runner import pools
from tests.runner.rig import PATIENCE, Rig, states_of, until

# By name, as the runner knows it: it does not import Dask to be told of its errors.
KilledWorker = type("KilledWorker", (Exception,), {"__module__": "distributed.scheduler"})
BLAMED = KilledWorker("blamed")


class Blaming(ThreadPoolExecutor):
    """An executor in which the first tries of each strategy end with an error of its own."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__(8)
        self.errors = errors
        self.tries: Counter[str] = Counter()

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        name = cast("Any", call).__self__.name
        self.tries[name] += 1
        if self.tries[name] > len(self.errors):
            return super().submit(call, *args, **kwargs)
        future: Future[Any] = Future()
        future.set_exception(self.errors[self.tries[name] - 1])
        return future


def test_a_killed_dask_worker_is_no_answer_and_costs_its_strategy_nothing(rig: Rig) -> None:
    with Blaming(BLAMED) as given:
        assert states_of(rig.runner({"it": pools.of_nothing}, executor=given).run()) == {
            "it": "empty"
        }
        assert given.tries["it"] == 2


def test_who_kills_its_dask_worker_again_fails_by_name(rig: Rig) -> None:
    with Blaming(BLAMED, BLAMED) as given:
        status = rig.runner({"it": pools.of_nothing}, executor=given).run()
        error = str(status.outcome("it").error)
        assert "WorkerDied" in error
        assert "KilledWorker" in error
        assert given.tries["it"] == 2


def test_another_error_of_the_executor_is_the_strategys_also_in_its_second_try(rig: Rig) -> None:
    with Blaming(BLAMED, ValueError("cannot be sent")) as given:
        status = rig.runner({"it": pools.of_nothing}, executor=given).run()
        assert status.outcome("it").error == "ValueError: cannot be sent"


def test_suspects_in_a_given_executor_run_one_at_a_time(rig: Rig) -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def suspect() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.02)
        with lock:
            now[0] -= 1

    with Blaming(BLAMED) as given:
        runner = rig.runner({f"s{n}": suspect for n in range(6)}, executor=given)
        assert set(states_of(runner.run()).values()) == {"empty"}
    assert most[0] == 1


def _task(call: Callable[..., object], finish: Callable[[object], object] = lambda x: x) -> Task:
    context = ScanContext("ann", "scan", "it", {}, {}, elapsed() + 60, Flag())
    return Task(Strategy("it", call), context, Collected(), Flag(), 60.0, finish)


def test_a_suspect_that_is_given_up_before_its_turn_does_not_run() -> None:
    ran: list[int] = []
    with Blaming(BLAMED) as given:
        place = ExecutorPlace(given, BlockingThreads("suspects"))
        with place.alone():
            place.start(_task(lambda: ran.append(1)), lambda *_: None).abandon()
        with place.alone():
            pass
        place.close()
        assert given.tries["it"] == 1
    assert ran == []


def test_a_fault_of_what_checks_an_answer_is_not_taken_for_a_dead_worker() -> None:
    ends: list[BaseException | None] = []

    def finish(value: object) -> object:
        raise RuntimeError("cannot be recorded")

    with Blaming(BLAMED) as given:
        place = ExecutorPlace(given, BlockingThreads("suspects"))
        place.start(_task(lambda: 7, finish), lambda _, error: ends.append(error))
        assert until(lambda: ends)
        place.close()
    assert not isinstance(ends[0], WorkerDied)
    assert str(ends[0]) == "cannot be recorded"


def test_an_executor_that_is_alone_when_its_place_closes_ends_all_the_same() -> None:
    made: list[ThreadPoolExecutor] = []

    def factory() -> Executor:
        made.append(ThreadPoolExecutor(1))
        return made[-1]

    place = ExecutorPlace(factory, BlockingThreads("suspects"))
    with place.alone() as executor:
        executor.submit(int).result(PATIENCE)
        place.close()
    with place.alone() as executor:
        executor.submit(int).result(PATIENCE)
    assert until(lambda: all(executor._shutdown for executor in made))  # noqa: SLF001
    assert len(made) == 2


def test_a_pool_is_killed_also_by_its_own_callback() -> None:
    pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    future = pool.submit(os._exit, 3)
    called = threading.Event()

    def callback(_: object) -> None:
        kill(pool)
        called.set()

    future.add_done_callback(callback)
    assert called.wait(PATIENCE)
    assert until(lambda: pool._shutdown_thread)  # noqa: SLF001
