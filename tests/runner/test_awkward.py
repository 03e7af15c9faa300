"""Foreign code that raises at an awkward moment: the run ends all the same, and says so by name."""

# ruff: noqa: ANN401, ARG002 - arguments pass through
from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from traceback import walk_stack
from typing import Any, NoReturn

import pytest

from tests.runner.rig import PATIENCE, Rig, states_of


class Shy:
    """An answer that no one may look at."""

    def __repr__(self) -> str:
        raise ValueError("do not look")


class Endless(list[object]):
    """A list that cannot be read."""

    def __iter__(self) -> NoReturn:
        raise RuntimeError("no way through")


@pytest.mark.parametrize("answer", [Shy(), [Shy()], Endless(), [{"n": Shy()}], [{Shy(): 1}]])
def test_an_answer_that_cannot_be_looked_at_fails_its_strategy_alone(
    rig: Rig, answer: object
) -> None:
    async def gives_async() -> object:
        return answer

    runner = rig.runner(
        {"blocking": lambda: answer, "async": gives_async, "good": lambda: [{"n": 1}]},
        strategy_timeout=5.0,
    )
    status = runner.begin().result(10)
    assert states_of(status) == {"blocking": "failed", "async": "failed", "good": "found"}


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, ValueError])
def test_a_rank_that_raises_anything_only_ranks_last(rig: Rig, error: type[BaseException]) -> None:
    def rank(item: Mapping[str, object]) -> float:
        raise error

    async def finds() -> object:
        return [{"n": 1}]

    runner = rig.runner({"blocking": lambda: [{"n": 2}], "async": finds}, rank=rank)
    assert set(states_of(runner.begin().result(10)).values()) == {"found"}


class Unruly(Future[Any]):
    """A future that cannot be cancelled without a fuss."""

    def cancel(self) -> bool:
        raise ConnectionError("the cluster is gone")


class Cluster(Executor):
    """An executor that never answers."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return Unruly()


def test_an_executor_that_raises_when_a_task_is_taken_back_harms_no_run(rig: Rig) -> None:
    runner = rig.runner(
        {"a": lambda: None, "b": lambda: None},
        executor=Cluster(),
        strategy_timeout=0.2,
        max_concurrency=1,
    )
    status = runner.begin().result(10)
    assert states_of(status) == {"a": "timed_out", "b": "timed_out"}


class Refusing(Executor):
    """An executor that takes nothing, and notes how deep in the stack it was asked."""

    def __init__(self) -> None:
        self.depths: set[int] = set()

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> NoReturn:
        self.depths.add(sum(1 for _ in walk_stack(None)))
        raise ValueError("no room")


def test_those_that_find_no_place_fail_by_name_and_the_stack_does_not_grow(rig: Rig) -> None:
    executor = Refusing()
    many = {f"s{number}": _never for number in range(500)}
    status = rig.runner(many, executor=executor, max_concurrency=8).begin().result(PATIENCE)
    assert set(states_of(status).values()) == {"failed"}
    assert max(executor.depths) - min(executor.depths) < 20


def _never() -> None:
    raise AssertionError


def test_a_coroutine_that_answers_its_close_by_a_cancellation_leaves_nothing(
    async_rig: Rig,
) -> None:
    async def slippery() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except GeneratorExit:
                raise asyncio.CancelledError from None
            except asyncio.CancelledError:
                continue

    runner = async_rig.runner({"slippery": slippery}, strategy_timeout=0.1)
    assert states_of(runner.begin().result(10)) == {"slippery": "timed_out"}


def test_cancelled_twice_a_run_leaves_no_timer_and_no_task(async_rig: Rig) -> None:
    hangs = threading.Event()

    async def stubborn() -> None:
        hangs.set()
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    runner = async_rig.runner({"stubborn": stubborn})

    async def main() -> None:
        task = asyncio.ensure_future(runner.inner.run("ann"))  # type: ignore[arg-type]
        while not hangs.is_set():  # noqa: ASYNC110 - the strategy says so
            await asyncio.sleep(0.01)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.02)
        await asyncio.wait({task})
        assert task.cancelled()

    async_rig.call(main)  # closing the rig names what is left
