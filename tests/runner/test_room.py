"""Room: what is started begins at once; waiting in a queue is no part of a strategy's time."""

# ruff: noqa: ANN401 - arguments pass through
from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import pytest
from loky import ProcessPoolExecutor as LokyExecutor  # type: ignore[import-untyped]

from oppscan import ScanState
from oppscan.runner.threads import HUNG_LIMIT
from oppscan.runner.twins import twin_of
from tests.runner import pools
from tests.runner.rig import PATIENCE, Rig, states_of, until

SPAWN = partial(ProcessPoolExecutor, 2, mp_context=get_context("spawn"))
LOKY = partial(LokyExecutor, 2)


@pytest.mark.parametrize("given", [True, False], ids=["given", "factory"])
def test_strategies_that_wait_for_a_small_pool_keep_all_of_their_time(
    rig: Rig, given: bool
) -> None:
    def works() -> object:
        time.sleep(0.3)
        return [{"n": 1}]

    with ThreadPoolExecutor(2) as pool:
        runner = rig.runner(
            {f"s{n}": works for n in range(8)},
            executor=pool if given else partial(ThreadPoolExecutor, 2),
            strategy_timeout=0.8,
            budget=30,
        )
        status = runner.run()
    assert set(states_of(status).values()) == {"found"}


def test_while_a_pool_is_full_coroutines_go_on(rig: Rig) -> None:
    async def quick() -> None:
        """Over at once."""

    with ThreadPoolExecutor(1) as pool:
        calls: dict[str, Any] = {f"b{n}": lambda: time.sleep(0.4) for n in range(3)}
        runner = rig.runner({**calls, "quick": quick}, executor=pool, max_concurrency=4)
        scan_id = runner.start().scan_id
        assert until(lambda: states_of(rig.registry.status(scan_id))["quick"] == "empty")
        assert states_of(rig.registry.status(scan_id))["b2"] == "pending"
        assert rig.registry.wait(scan_id, timeout=PATIENCE).progress.succeeded == 4


def test_two_scans_share_a_pool_and_each_comes_to_its_turn(rig: Rig) -> None:
    with ThreadPoolExecutor(1) as pool:
        calls = {f"s{n}": lambda: time.sleep(0.1) for n in range(3)}
        runner = rig.runner(calls, executor=pool, strategy_timeout=0.8)
        going = [runner.begin(owner) for owner in ("ann", "bob")]
        assert [one.result(PATIENCE).progress.succeeded for one in going] == [3, 3]


def test_what_finds_no_room_until_the_budget_is_out_is_skipped(rig: Rig) -> None:
    with ThreadPoolExecutor(1) as pool:
        calls: dict[str, Any] = {"first": lambda: rig.gate.wait(20), "second": lambda: None}
        status = rig.runner(calls, executor=pool, budget=1.0).run()
        rig.gate.set()
    assert states_of(status) == {"first": "timed_out", "second": "skipped"}


def test_a_given_pool_whose_workers_all_hang_takes_no_more(rig: Rig) -> None:
    with ThreadPoolExecutor(1) as pool:
        calls: dict[str, Any] = {"first": lambda: rig.gate.wait(20), "second": lambda: None}
        status = rig.runner(calls, executor=pool, strategy_timeout=0.3).run()
        rig.gate.set()
    assert states_of(status) == {"first": "timed_out", "second": "failed"}
    assert "TooManyHungThreads" in str(status.outcome("second").error)


def test_g12_no_more_threads_hang_than_the_limit_however_many_run_at_once(rig: Rig) -> None:
    many = {f"s{n}": lambda: rig.gate.wait(30) for n in range(HUNG_LIMIT + 8)}
    runner = rig.runner(many, strategy_timeout=0.5, max_concurrency=HUNG_LIMIT + 8)
    status = runner.run()
    assert Counter(states_of(status).values()) == {"timed_out": HUNG_LIMIT, "failed": 8}
    assert runner.inner._place._threads.hung == HUNG_LIMIT  # type: ignore[attr-defined]  # noqa: SLF001


# --- Pools that were given, and broke -----------------------------------------------------------


@pytest.mark.parametrize(
    "make", [pytest.param(SPAWN, id="process pool"), pytest.param(LOKY, id="loky")]
)
def test_a_given_pool_that_breaks_is_replaced_and_costs_no_other_strategy(
    rig: Rig, tmp_path: Path, make: Callable[[], Executor]
) -> None:
    given = make()
    calls: dict[str, Any] = {"dies": pools.dies, "steady": pools.steady, "quick": pools.quick}
    runner = rig.runner(calls, executor=given, strategy_timeout=30, budget=60)
    params = {"ledger": str(tmp_path / "ledger")}
    status = runner.run(params=params)
    assert states_of(status) == {"dies": "failed", "steady": "found", "quick": "found"}
    assert states_of(runner.run(params=params, only=["quick"])) == {"quick": "found"}
    given.shutdown()


def test_a_pool_that_was_broken_when_it_was_given_is_replaced(rig: Rig, tmp_path: Path) -> None:
    given = SPAWN()
    with pytest.raises(Exception, match="terminated abruptly"):
        given.submit(pools.dies, cast("Any", _Named(tmp_path))).result(PATIENCE)
    runner = rig.runner({"quick": pools.quick}, executor=given, strategy_timeout=30)
    assert runner.run(params={"ledger": str(tmp_path / "ledger")}).state is ScanState.COMPLETE
    given.shutdown()


class _Named:
    """What a strategy of `pools` asks of its context."""

    def __init__(self, folder: Path) -> None:
        self.name = "it"
        self.params = {"ledger": str(folder / "ledger")}


def test_a_pool_that_its_host_shut_down_is_not_replaced(rig: Rig) -> None:
    given = SPAWN()
    given.shutdown()
    status = rig.runner({"quick": pools.of_nothing}, executor=given).run()
    assert "ExecutorUnusable: the given executor is broken or shut down; it was not run" in str(
        status.outcome("quick").error
    )


def test_a_twin_is_set_up_like_the_pool_it_replaces() -> None:
    context = get_context("spawn")
    pool = ProcessPoolExecutor(3, context, initializer=print, initargs=("hello",))
    make = twin_of(pool)
    assert make is not None
    twin: Any = make()
    assert (twin._max_workers, twin._mp_context) == (3, context)  # noqa: SLF001
    assert (twin._initializer, twin._initargs) == (print, ("hello",))  # noqa: SLF001
    assert twin_of(ThreadPoolExecutor(1)) is None


class Doubting(ThreadPoolExecutor):
    """A pool that gives up the first try of each strategy, and is never shut down by others."""

    def __init__(self) -> None:
        super().__init__(8)
        self.tried: set[str] = set()

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        name = cast("Any", call).__self__.name
        if name in self.tried:
            return super().submit(call, *args, **kwargs)
        self.tried.add(name)
        future: Future[Any] = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Go on."""


def test_where_a_factory_gives_one_executor_again_and_again_suspects_run_one_by_one(
    rig: Rig,
) -> None:
    now, most = [0], [0]

    def counted() -> object:
        now[0] += 1
        most[0] = max(most[0], now[0])
        time.sleep(0.05)
        now[0] -= 1
        return [{"n": 1}]

    one = Doubting()
    status = rig.runner({f"s{n}": counted for n in range(4)}, executor=lambda: one).run()
    ThreadPoolExecutor.shutdown(one)
    assert set(states_of(status).values()) == {"found"}
    assert most[0] == 1


def test_an_answer_that_cannot_be_sent_is_the_strategys_failure_also_when_it_is_a_suspect(
    rig: Rig, tmp_path: Path
) -> None:
    calls: dict[str, Any] = {"dies": pools.dies, "unsendable": pools.unsendable}
    runner = rig.runner(calls, executor=SPAWN, strategy_timeout=30, budget=60)
    status = runner.run(params={"ledger": str(tmp_path / "ledger")})
    assert status.outcome("unsendable").error == "RuntimeError: cannot be sent"
