"""Closing ends what the runner owns, in bounded time, and nothing that is the host's."""

# ruff: noqa: ANN401 - options and arguments pass through

from __future__ import annotations

import asyncio
import gc
import logging
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

import oppscan
import oppscan.sync as blocking
from oppscan import ClaimLost, InvalidInput, ScanState
from oppscan.clock import elapsed
from oppscan.runner import threads
from tests.hosts.forking import in_child
from tests.runner.rig import Rig, until


def _waits(rig: Rig) -> Callable[[], object]:
    return lambda: rig.gate.wait(20)


def _is_running(rig: Rig) -> bool:
    try:
        return rig.registry.has_active_scan("ann") and bool(rig.registry.latest("ann").started_at)
    except oppscan.ScanNotFound:
        return False


def test_a_run_that_is_ended_by_closing_says_that_its_claim_is_gone(rig: Rig) -> None:
    runner = rig.runner({"it": _waits(rig)})
    going = runner.begin()
    assert until(lambda: _is_running(rig))
    runner.close(drain=0.05)
    with pytest.raises(ClaimLost, match="closed"):
        going.result(5)
    assert rig.registry.latest("ann").stalled


def test_closing_ends_the_wait_for_another_workers_scan_which_is_never_claimed_then(
    rig: Rig,
) -> None:
    ran: list[int] = []
    scan_id = rig.registry.start("ann", ["it"]).scan_id
    with rig.registry.claim(scan_id) as claim:
        runner = rig.runner({"it": lambda: ran.append(1)}, budget=60)
        going = runner.begin()
        time.sleep(0.2)
        began = elapsed()
        runner.close(drain=0.05)
        with pytest.raises(ClaimLost, match="closed"):
            going.result(5)
        assert elapsed() - began < 3
        claim.release()
    time.sleep(0.3)
    assert ran == []
    assert rig.registry.status(scan_id).state is ScanState.RUNNING


def test_a_runner_that_is_closed_while_it_starts_a_scan_claims_it_no_more(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    runner = rig.runner({"it": lambda: ran.append(1)})
    registry: Any = runner.inner._registry  # noqa: SLF001
    begin = registry.start

    def start(*arguments: Any, **options: Any) -> Any:
        runner.inner._closed = True  # noqa: SLF001 - as closing does first of all
        return begin(*arguments, **options)

    monkeypatch.setattr(registry, "start", start)
    with pytest.raises(ClaimLost, match="closed"):
        runner.run()
    assert rig.registry.latest("ann").state is ScanState.PENDING
    assert ran == []


def test_closing_waits_for_no_task_of_the_hosts_whose_scan_is_over(async_rig: Rig) -> None:
    async def quick() -> None:
        await asyncio.sleep(0.05)

    inner: Any = async_rig.runner([quick]).inner

    async def host() -> str:
        await inner.run("ann")
        await asyncio.sleep(1.0)
        return "the host's own work is done"

    async def main() -> tuple[float, str]:
        job = asyncio.ensure_future(host())
        await asyncio.sleep(0.02)
        began = elapsed()
        await inner.aclose(drain=0.5)
        return elapsed() - began, await job

    took, done = async_rig.call(main)
    assert took < 0.45
    assert done == "the host's own work is done"


def test_closing_is_bounded_whatever_a_host_that_was_told_goes_on_to_do(async_rig: Rig) -> None:
    closed, inner = threading.Event(), async_rig.runner({"it": _waits(async_rig)}).inner

    async def host() -> str:
        try:
            await inner.run("ann")  # type: ignore[misc]
        except ClaimLost:
            while not closed.is_set():  # noqa: ASYNC110 - another thread may say so
                await asyncio.sleep(0.01)
        return "was never cancelled"

    async def main() -> str:
        job = asyncio.ensure_future(host())
        await asyncio.sleep(0.1)
        await asyncio.wait_for(inner.aclose(drain=0.1), 5)  # type: ignore[arg-type]
        closed.set()
        return await job

    assert async_rig.call(main) == "was never cancelled"


def test_a_scan_that_is_started_just_before_closing_is_known_to_it(rig: Rig) -> None:
    runner = rig.runner({"it": lambda: None})
    scan_id = runner.start().scan_id
    runner.close(drain=20)
    assert rig.registry.status(scan_id).state is ScanState.COMPLETE


def test_a_background_scan_that_is_released_by_closing_is_no_error(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    runner = rig.runner({"it": _waits(rig)})
    with caplog.at_level(logging.ERROR):
        runner.start()
        assert until(lambda: _is_running(rig))
        runner.close(drain=0.05)
        time.sleep(0.1)
    assert rig.registry.latest("ann").stalled
    assert caplog.messages == []


def test_a_background_task_that_is_cancelled_before_it_began_holds_up_no_closing(
    async_rig: Rig,
) -> None:
    inner: Any = async_rig.runner({"it": _waits(async_rig)}).inner

    async def main() -> float:
        await inner.start("ann")
        for task in list(inner._background):  # noqa: SLF001
            task.cancel()
        began = elapsed()
        await inner.aclose(drain=5)
        return elapsed() - began

    assert async_rig.call(main) < 2


@pytest.mark.parametrize("drain", ["x", float("nan"), -1, None], ids=str)
def test_a_drain_that_is_no_time_is_refused_before_anything_is_closed(
    rig: Rig, drain: object
) -> None:
    runner = rig.runner({"it": lambda: None})
    with pytest.raises(InvalidInput, match="drain"):
        runner.close(drain=drain)  # type: ignore[arg-type]
    assert runner.run().state is ScanState.COMPLETE


@pytest.mark.parametrize("only", [5, [["a"]], [7], b"it"], ids=str)
def test_an_only_of_wrong_types_is_refused(rig: Rig, only: object) -> None:
    runner = rig.runner({"it": lambda: None})
    with pytest.raises(InvalidInput, match="only"):
        runner.run(only=only)


def test_both_faces_close_by_the_same_name() -> None:
    runner = blocking.StrategyRunner(blocking.connect("memory:"), {"it": lambda: None})
    runner.aclose(drain=0)
    with pytest.raises(InvalidInput, match="closed"):
        runner.run("ann")


def _threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("oppscan strategy")]


class Elsewhere(Executor):
    """An executor that does not tell where it runs things: here and now."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(call(*args, **kwargs))
        return future


def _run_unclosed(face: str, **options: Any) -> None:
    if face == "blocking":
        inner = blocking.StrategyRunner(
            blocking.connect("memory:"), {"it": lambda: None}, **options
        )
        assert inner.run("ann").done
        return
    awaited = oppscan.StrategyRunner(oppscan.connect("memory:"), {"it": lambda: None}, **options)
    assert asyncio.run(awaited.run("ann")).done


@pytest.mark.parametrize("face", ["async", "blocking"])
def test_the_threads_of_a_runner_that_is_never_closed_end_with_it(face: str) -> None:
    others = set(threading.enumerate())  # of tests before this one, on their way to their end
    _run_unclosed(face)

    def left() -> list[str]:
        gc.collect()  # a thread may hold on to it for a moment
        return [thread.name for thread in threading.enumerate() if thread not in others]

    assert until(lambda: left() == [], within=2)  # sooner than idle ones end by themselves


def test_idle_threads_end_after_a_while_and_new_ones_take_their_place(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "IDLE_FOR", 0.05)
    runner = rig.runner({f"s{n}": lambda: time.sleep(0.01) for n in range(8)})
    for _ in range(3):
        assert runner.run().progress.succeeded == 8
        assert until(lambda: _threads() == [], within=5)


@pytest.mark.parametrize("face", ["async", "blocking"])
def test_the_folder_of_a_runner_that_is_never_closed_is_removed_with_it(face: str) -> None:
    before = set(Path(tempfile.gettempdir()).glob("oppscan-*"))
    with Elsewhere() as pool:
        _run_unclosed(face, executor=pool)

    def left() -> set[Path]:
        gc.collect()  # a thread may hold on to it for a moment
        return set(Path(tempfile.gettempdir()).glob("oppscan-*")) - before

    assert until(lambda: left() == set(), within=5)


def test_a_thread_that_waited_long_stays_where_a_job_is_on_its_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "IDLE_FOR", 0.01)
    pool = threads.BlockingThreads("it")
    job = threads.Job(lambda: None, lambda *_: None, copy_context())
    threading.Timer(0.1, pool._jobs.put, [job]).start()  # noqa: SLF001
    assert pool._next() is job  # noqa: SLF001 - as in a thread that was promised the job


def test_a_forked_child_leaves_its_parents_folder_alone() -> None:
    with Elsewhere() as pool:
        runner = blocking.StrategyRunner(
            blocking.connect("memory:"), {"it": lambda: None}, executor=pool
        )
        runner.run("ann")
        folder: Any = runner._place._folder  # type: ignore[attr-defined]  # noqa: SLF001

        def child() -> str:
            runner.close()
            gc.collect()
            return str(Path(folder).exists())

        assert in_child(child) == "True"
        runner.close()
        assert not Path(folder).exists()
