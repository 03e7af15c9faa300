"""What may be a strategy, what it is told, and what is refused before anything runs."""

# ruff: noqa: ANN401 - what is refused may be anything
from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

import oppscan
import oppscan.sync as blocking
from oppscan import InvalidInput, ScanContext, Strategy, strategy
from tests.runner.rig import Rig, states_of, until

FOUND = [{"n": 1}]


def of_context(context: ScanContext) -> object:
    return [{"name": context.name}]


def of_nothing() -> object:
    return FOUND


def of_defaults(n: int = 1) -> object:
    return [{"n": n}]


def of_keywords(*, n: int = 1) -> object:
    return [{"n": n}]


def of_anything(*args: object, **kwargs: object) -> object:
    return [{"args": len(args) + len(kwargs)}]


def of_context_and_more(context: ScanContext, n: int = 1) -> object:
    return [{"name": context.name, "n": n}]


async def coroutine(context: ScanContext) -> object:
    return [{"name": context.name}]


async def coroutine_of_nothing() -> object:
    return FOUND


def generator(context: ScanContext) -> Iterator[object]:
    yield {"name": context.name}


def generator_of_nothing() -> Iterator[object]:
    yield from FOUND


async def async_generator(context: ScanContext) -> AsyncIterator[object]:
    yield {"name": context.name}


async def async_generator_of_nothing() -> AsyncIterator[object]:
    yield FOUND[0]


class Finder:
    """An object that is called."""

    def __call__(self, context: ScanContext) -> object:
        return [{"name": context.name}]

    def method(self, context: ScanContext) -> object:
        return [{"name": context.name}]


class AsyncFinder:
    """An object whose call is a coroutine."""

    async def __call__(self, context: ScanContext) -> object:
        return [{"name": context.name}]


def _first(rig: Rig, call: Any) -> Mapping[str, object]:
    status = rig.runner({"it": call}).run()
    assert states_of(status) == {"it": "found"}
    return rig.registry.results(status.scan_id).opportunities[0]


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(of_context, id="function"),
        pytest.param(of_context_and_more, id="function with more arguments"),
        pytest.param(coroutine, id="coroutine function"),
        pytest.param(generator, id="generator"),
        pytest.param(async_generator, id="async generator"),
        pytest.param(functools.partial(of_context_and_more, n=2), id="partial"),
        pytest.param(functools.partial(functools.partial(coroutine)), id="partial of a partial"),
        pytest.param(Finder(), id="callable object"),
        pytest.param(Finder().method, id="method"),
        pytest.param(AsyncFinder(), id="async callable object"),
        pytest.param(lambda context: [{"name": context.name}], id="lambda"),
        pytest.param(Strategy("another name", of_context), id="Strategy"),
    ],
)
def test_a_strategy_of_a_context_is_given_one(rig: Rig, call: object) -> None:
    assert _first(rig, call)["name"] == "it"


@pytest.mark.parametrize(
    "call",
    [
        of_nothing,
        of_defaults,
        of_keywords,
        coroutine_of_nothing,
        generator_of_nothing,
        async_generator_of_nothing,
    ],
    ids=lambda call: call.__name__,
)
def test_a_strategy_of_nothing_is_called_with_nothing(rig: Rig, call: object) -> None:
    assert _first(rig, call) == FOUND[0]


def test_a_strategy_that_takes_anything_is_called_with_nothing(rig: Rig) -> None:
    assert _first(rig, of_anything) == {"args": 0}


def test_a_builtin_without_a_signature_is_called_with_a_context(rig: Rig) -> None:
    status = rig.runner({"it": dict}).run()
    assert "TypeError" in str(status.outcome("it").error)


def test_the_context_tells_what_the_scan_is_about(rig: Rig) -> None:
    told: list[ScanContext] = []
    params, metadata = {"symbols": ["BTC"]}, {"from": "web"}
    runner = rig.runner({"it": told.append}, strategy_timeout=5.0)
    status = runner.run("bob", params=params, metadata=metadata)
    (context,) = told
    assert (context.owner, context.scan_id, context.name) == ("bob", status.scan_id, "it")
    assert (context.params, context.metadata) == (params, metadata)
    assert "deadline" not in repr(context)


def test_what_a_strategy_does_to_its_params_is_its_own_affair(rig: Rig) -> None:
    told: list[object] = []

    def vandal(context: ScanContext) -> None:
        context.params["deep"].append("changed")  # type: ignore[attr-defined]
        context.params["more"] = True

    def victim(context: ScanContext) -> None:
        told.append(context.params)

    status = rig.runner([vandal, victim], max_concurrency=1).run(params={"deep": [1]})
    assert told == [{"deep": [1]}]
    assert status.params == {"deep": [1]}


def test_remaining_counts_down_to_nothing_and_then_it_is_cancelled(rig: Rig) -> None:
    told: list[tuple[float, bool]] = []

    def watches(context: ScanContext) -> None:
        told.append((context.remaining, context.cancelled))
        while context.remaining:
            time.sleep(0.01)
        told.append((context.remaining, context.cancelled))

    status = rig.runner({"it": watches}, strategy_timeout=0.3).run()
    assert states_of(status) == {"it": "timed_out"}
    assert until(lambda: len(told) == 2)
    assert 0 < told[0][0] <= 0.3
    assert not told[0][1]
    assert told[1] == (0.0, True)


def test_a_strategy_is_told_at_once_that_its_scan_was_cancelled(rig: Rig) -> None:
    stopped = threading.Event()

    def watches(context: ScanContext) -> None:
        while not context.cancelled:
            rig.gate.wait(0.01)
        stopped.set()

    runner = rig.runner([watches], ttl=oppscan.TTLPolicy(lease=0.4))
    scan_id = runner.start().scan_id
    assert until(lambda: states_of(rig.registry.status(scan_id)) == {"watches": "running"})
    rig.registry.cancel(scan_id)
    assert stopped.wait(5.0)


USER: contextvars.ContextVar[str] = contextvars.ContextVar("user")


@pytest.mark.parametrize("how", ["run", "start"])
def test_context_variables_of_the_caller_reach_its_strategies(rig: Rig, how: str) -> None:
    def in_a_thread() -> object:
        return [{"user": USER.get("nobody")}]

    async def in_a_loop() -> object:
        return [{"user": USER.get("nobody")}]

    inner = rig.runner([in_a_thread, in_a_loop]).inner
    if isinstance(inner, oppscan.StrategyRunner):

        async def call() -> str:
            USER.set("ann")
            return (await getattr(inner, how)("ann")).scan_id  # type: ignore[no-any-return]

        scan_id = rig.call(call)
    else:
        ran = contextvars.copy_context()
        ran.run(USER.set, "ann")
        scan_id = ran.run(getattr(inner, how), "ann").scan_id
    rig.registry.wait(scan_id, timeout=10)
    found = rig.registry.results(scan_id).opportunities
    assert found == ({"user": "ann"}, {"user": "ann"})


def test_context_variables_that_a_strategy_sets_are_its_own(rig: Rig) -> None:
    async def in_loop() -> object:
        before = USER.get("nobody")
        USER.set("somebody")
        return [{"user": before}]

    def in_thread() -> object:
        before = USER.get("nobody")
        USER.set("somebody")
        return [{"user": before}]

    calls = {f"s{n}": in_loop if n % 2 else in_thread for n in range(8)}
    status = rig.runner(calls, max_concurrency=1).run()
    assert rig.registry.results(status.scan_id).opportunities == ({"user": "nobody"},) * 8


def test_a_marked_function_keeps_its_name_timeout_and_priority(rig: Rig) -> None:
    order: list[str] = []

    @strategy(name="slow", timeout=0.1)
    async def it_is_slow() -> None:
        order.append("slow")
        await asyncio.sleep(60)

    @strategy(priority=5)
    def urgent() -> None:
        order.append("urgent")

    assert urgent() is None  # it stays a function
    order.clear()
    status = rig.runner([it_is_slow, urgent], max_concurrency=1).run()
    assert states_of(status) == {"slow": "timed_out", "urgent": "empty"}
    assert order == ["urgent", "slow"]
    assert status.outcome("slow").error == "timed out after 0.1 s"


def test_a_mapping_names_its_strategies_whatever_they_were_called(rig: Rig) -> None:
    marked = strategy(name="mine", timeout=3.0)(of_nothing)
    status = rig.runner({"yours": marked, "other": Strategy("x", of_context)}).run()
    assert states_of(status) == {"yours": "found", "other": "found"}
    del of_nothing.__oppscan_strategy__  # type: ignore[attr-defined]


def test_high_priority_goes_first_and_equals_in_declared_order(rig: Rig) -> None:
    order: list[str] = []
    priorities = {"a": 0, "b": 3, "c": -1, "d": 3, "e": 0}
    strategies = [
        Strategy(name, functools.partial(order.append, name), priority=priority)
        for name, priority in priorities.items()
    ]
    rig.runner(strategies, max_concurrency=1).run()
    assert order == ["b", "d", "a", "e", "c"]


@pytest.mark.parametrize(
    "strategies",
    [
        pytest.param("abc", id="text"),
        pytest.param(7, id="number"),
        pytest.param([7], id="a number among them"),
        pytest.param({"a": 7}, id="a number by name"),
        pytest.param([lambda: None], id="nameless"),
        pytest.param([of_nothing, of_nothing], id="named twice"),
        pytest.param({"a\n": of_nothing}, id="control character"),
        pytest.param({"": of_nothing}, id="empty name"),
        pytest.param([functools.partial(functools.partial(lambda: None))], id="partial of nothing"),
    ],
)
def test_what_is_no_strategy_is_refused_at_once(rig: Rig, strategies: Any) -> None:
    with pytest.raises(InvalidInput):
        rig.runner(strategies)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"call": 7}, id="not callable"),
        pytest.param({"timeout": 0}, id="no time"),
        pytest.param({"timeout": float("nan")}, id="NaN"),
        pytest.param({"timeout": "1"}, id="text"),
        pytest.param({"priority": 1.5}, id="fraction"),
        pytest.param({"priority": True}, id="truth"),
        pytest.param({"name": 7}, id="name"),
    ],
)
def test_a_strategy_that_cannot_be_run_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Strategy(**{"name": "it", "call": of_nothing, **arguments})


@pytest.mark.parametrize(
    "options",
    [
        {"max_concurrency": 0},
        {"max_concurrency": 2.5},
        {"strategy_timeout": 0},
        {"budget": -1},
        {"budget": float("inf")},
        {"rank": "score"},
        {"executor": 7},
    ],
    ids=str,
)
def test_settings_out_of_bounds_are_refused(rig: Rig, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(options))):
        rig.runner([of_nothing], **options)


@pytest.mark.parametrize("only", ["of_nothing", ["of_nothing", "unknown"], []], ids=str)
def test_only_must_name_strategies_of_the_runner(rig: Rig, only: Any) -> None:
    runner = rig.runner([of_nothing])
    if only == []:
        assert runner.run(only=only).progress.total_strategies == 0
        return
    with pytest.raises(InvalidInput, match="only"):
        runner.run(only=only)


def test_only_the_chosen_ones_run_in_declared_order(rig: Rig) -> None:
    status = rig.runner([of_nothing, of_context, of_defaults]).run(
        only={"of_defaults", "of_nothing"}
    )
    assert list(states_of(status)) == ["of_nothing", "of_defaults"]


def test_mixing_the_faces_is_refused_at_once() -> None:
    awaited, blocked = oppscan.connect("memory:"), blocking.connect("memory:")
    with pytest.raises(InvalidInput, match=r"oppscan\.sync\.StrategyRunner"):
        oppscan.StrategyRunner(blocked, [of_nothing])  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"oppscan\.StrategyRunner"):
        blocking.StrategyRunner(awaited, [of_nothing])  # type: ignore[arg-type]
