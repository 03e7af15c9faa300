"""Rare turns of events, each brought about on purpose."""

# ruff: noqa: ANN401, ARG002 - arguments pass through
from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest

import oppscan.sync as blocking
from oppscan import InvalidInput, ScanContext, Strategy, codec
from oppscan.clock import elapsed
from oppscan.runner.collected import Collected
from oppscan.runner.executors import ExecutorPlace
from oppscan.runner.parcel import Answer, Parcel
from oppscan.runner.places import Task
from oppscan.runner.strategies import FileToken, Flag, Kind, StrategyLate
from oppscan.runner.threads import BlockingThreads, TooManyHungThreads
from tests.hosts.forking import in_child
from tests.runner.rig import PATIENCE, Rig, states_of, until


def test_an_async_generator_that_goes_on_when_cancelled_is_ended_at_its_next_yield(
    rig: Rig,
) -> None:
    ended = threading.Event()

    async def stubborn() -> AsyncIterator[object]:
        yield {"n": 1}
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            yield {"n": 2}
        finally:
            ended.set()

    status = rig.runner([stubborn], strategy_timeout=0.2).run()
    assert states_of(status) == {"stubborn": "timed_out"}
    assert status.outcome("stubborn").found >= 1
    assert ended.wait(5)


def test_an_async_generator_that_never_rests_is_ended_at_its_next_yield(rig: Rig) -> None:
    ended = threading.Event()

    async def restless() -> AsyncIterator[object]:
        try:
            while True:
                yield {"n": 1}
                await asyncio.sleep(0)
        finally:
            ended.set()

    status = rig.runner([restless], strategy_timeout=0.05).run()
    assert states_of(status) == {"restless": "timed_out"}
    assert ended.wait(5)


def test_a_forked_child_makes_an_executor_of_its_own_and_leaves_its_parents_alone() -> None:
    made: list[ThreadPoolExecutor] = []

    def factory() -> Executor:
        made.append(ThreadPoolExecutor(1))
        return made[-1]

    runner = blocking.StrategyRunner(
        blocking.connect("memory:"), {"it": os.getpid}, executor=factory
    )
    runner.run("ann")

    def child() -> str:
        place = cast("ExecutorPlace", runner._place)  # noqa: SLF001 - its store stays behind
        own = place.enter().executor
        runner.close()
        return f"{own is made[1]} {made[0]._shutdown}"  # noqa: SLF001

    assert in_child(child) == "True False"
    assert len(made) == 1
    runner.close()


def _parcel(call: Callable[..., object], kind: Kind, flag: Path, **changes: Any) -> Parcel:
    now = elapsed()
    values: dict[str, Any] = {
        "call": call,
        "kind": kind,
        "takes_context": True,
        "owner": "ann",
        "scan_id": "scan",
        "name": "it",
        "params": {},
        "metadata": {},
        "seconds": 0.4,
        "ends_at": now + 0.4,
        "host": "elsewhere",
        "token": FileToken(str(flag)),
        "collected": Collected(),
    }
    return Parcel(**{**values, **changes})


def _packed(*found: object) -> tuple[bytes, ...]:
    return tuple(map(codec.encode, found))


def _yields_until_told(context: ScanContext) -> Iterator[object]:
    yield {"n": 1}
    while not context.cancelled:
        time.sleep(0.01)
    yield {"n": 2}


def test_a_generator_on_another_host_comes_home_before_its_time_is_over(tmp_path: Path) -> None:
    began = elapsed()
    parcel = _parcel(_yields_until_told, Kind.GENERATOR, tmp_path / "flag", ends_at=0.0)
    answer = parcel.run()
    assert elapsed() - began < 10
    assert answer == Answer(None, _packed({"n": 1}, {"n": 2}), late=True)


def test_a_strategy_in_another_process_is_told_by_a_file_to_stop(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    told: list[bool] = []
    parcel = _parcel(
        lambda context: told.append(context.cancelled), Kind.BLOCKING, flag, seconds=600
    )
    assert parcel.run() == Answer()
    assert told == [True]


def test_what_a_strategy_raises_in_another_process_comes_home_as_text(tmp_path: Path) -> None:
    def raises() -> Iterator[object]:
        yield {"n": 1}
        raise SystemExit(3)

    parcel = _parcel(raises, Kind.GENERATOR, tmp_path / "flag", takes_context=False)
    assert parcel.run() == Answer(None, _packed({"n": 1}), "SystemExit: 3")


class Once(ThreadPoolExecutor):
    """An executor of one thread that gives up its first tasks, where it is told to."""

    def __init__(self, *, gives_up: int) -> None:
        super().__init__(1)
        self.gives_up = gives_up
        self.workers_killed = False

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not self.gives_up:
            return super().submit(call, *args, **kwargs)
        self.gives_up -= 1
        future: Future[Any] = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future

    def kill_workers(self) -> None:
        """As process pools have it from Python 3.14 on."""
        self.workers_killed = True


def test_suspects_run_alone_a_few_at_a_time_in_executors_that_are_used_again(rig: Rig) -> None:
    made: list[Once] = []
    lock, now, most = threading.Lock(), [0], [0]

    def factory() -> Executor:
        made.append(Once(gives_up=int(not made)))
        return made[-1]

    def suspect() -> object:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        return [{"n": 1}]

    runner = rig.runner({f"s{n}": suspect for n in range(12)}, executor=factory, max_concurrency=12)
    status = runner.run()
    assert set(states_of(status).values()) == {"found"}
    assert most[0] <= 4 + 1  # those alone, and one in the executor that replaced the broken one
    assert made[0].workers_killed
    assert len(made) <= 1 + 4 + 12
    runner.close()
    assert until(lambda: all(executor._shutdown for executor in made))  # noqa: SLF001


def test_a_second_try_needs_a_thread_and_fails_by_name_without_one() -> None:
    place = ExecutorPlace(lambda: Once(gives_up=0), BlockingThreads("none", hung_limit=0))
    ends: list[BaseException | None] = []
    place.aside(lambda: None, lambda _, error: ends.append(error))
    assert isinstance(ends[0], TooManyHungThreads)
    place.close()


class Late(Future[Answer]):
    """A future whose answer is asked for just when its task is given up."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self.meanwhile()
        return super().exception(timeout)


class Giving(Executor):
    """An executor that gives out one future."""

    def __init__(self) -> None:
        self.future = Late()

    def submit(self, *args: object, **kwargs: object) -> Late:  # type: ignore[override]
        return self.future


def _task(call: Callable[..., object]) -> Task:
    context = ScanContext("ann", "scan", "it", {}, {}, elapsed() + 60, Flag())
    return Task(Strategy("it", call), context, Collected(), Flag(), 60.0, lambda value: value)


def test_an_answer_that_comes_while_its_task_is_given_up_is_dropped() -> None:
    given = Giving()
    place = ExecutorPlace(given, BlockingThreads("spare"))
    ends: list[object] = []
    running = place.start(_task(lambda: None), lambda answer, _: ends.append(answer))
    given.future.meanwhile = running.abandon
    given.future.set_result(Answer(7))
    running.abandon()  # a second time means nothing
    place.close()
    assert ends == []


def test_what_a_generator_that_was_told_early_sends_home_is_late_and_kept() -> None:
    given, task = Giving(), _task(lambda: None)
    place = ExecutorPlace(given, BlockingThreads("spare"))
    ends: list[object] = []
    place.start(task, lambda _, error: ends.append(error))
    given.future.set_result(Answer(None, _packed({"n": 1}), late=True))
    assert until(lambda: ends)
    place.close()
    assert isinstance(ends[0], StrategyLate)
    assert task.collected.packed() == (1, codec.encode([{"n": 1}]))


def test_a_scan_that_reports_by_payload_cannot_be_run_and_that_is_said_within_the_budget(
    rig: Rig,
) -> None:
    scan_id = rig.registry.start("ann", ["it"]).scan_id
    with rig.registry.claim(scan_id) as claim:
        claim.update({"opportunities": []})
        claim.release()
    runner = rig.runner({"it": lambda: None}, budget=1.0)
    going = runner._begin(lambda: runner.inner.resume(scan_id))  # noqa: SLF001
    try:
        with pytest.raises(InvalidInput, match="payload"):
            going.result(5)
    finally:
        rig.registry.forget(scan_id)  # which ends it, whatever it does
        until(going.done, within=5)


def test_the_scan_that_is_resumed_twice_at_once_is_run_once(rig: Rig) -> None:
    ran: list[int] = []

    def it() -> None:
        ran.append(1)
        time.sleep(0.1)

    first = rig.runner({"it": it}).begin()
    second = rig.runner({"it": it}).begin()
    assert first.result(PATIENCE).scan_id == second.result(PATIENCE).scan_id
    assert ran == [1]


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "taken"])
def test_a_scan_that_another_worker_took_between_start_and_claim_is_awaited(
    rig: Rig, finished: bool
) -> None:
    scan_id = rig.registry.start("ann", ["it"]).scan_id
    runner = rig.runner({"it": lambda: None})
    inner = cast("Any", runner.inner)
    stop = () if rig.face == "async" else (threading.Event(),)
    with rig.registry.claim(scan_id) as claim:
        if finished:
            claim.complete()
        going = runner._begin(lambda: inner._see_through(scan_id, *stop, must_run=True))  # noqa: SLF001
        if not finished:
            time.sleep(0.1)
            assert not going.done()
            claim.complete()
    assert going.result(PATIENCE).done


def test_a_coroutine_that_swallows_its_cancellation_leaves_no_complaint(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    async def swallows() -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    assert states_of(rig.runner([swallows], strategy_timeout=0.1).run()) == {
        "swallows": "timed_out"
    }
    time.sleep(0.5)
    gc.collect()
    assert caplog.messages == []


def test_coroutines_that_end_while_they_are_started_do_not_pile_up(async_rig: Rig) -> None:
    async def quick() -> None:
        """Over at once."""

    def eager(loop: asyncio.AbstractEventLoop, made: Any, **options: Any) -> Any:
        task = asyncio.Task(made, loop=loop, **options)
        if getattr(made, "__name__", "") == "_run_here":
            with suppress(StopIteration):
                made.send(None)  # as an eager task does: to its first wait, which is its end
        return task

    runner = async_rig.runner({f"s{n}": quick for n in range(3000)})
    async_rig.loop.call_soon_threadsafe(async_rig.loop.set_task_factory, eager)
    assert runner.begin().result(PATIENCE).progress.succeeded == 3000
