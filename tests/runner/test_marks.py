"""`@strategy` notes a name, a timeout and a priority; what runs is what the runner was given."""

# ruff: noqa: ANN401 - what is refused may be anything

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from oppscan import InvalidInput, ScanContext, Strategy, strategy
from tests.runner.rig import Rig, states_of


class Desk:
    feed = "NYSE"

    @strategy(name="momentum", timeout=5, priority=2)
    def of_context(self, context: ScanContext) -> object:
        return [{"feed": self.feed, "name": context.name}]

    @strategy(name="gap")
    def of_nothing(self) -> object:
        return [{"feed": self.feed}]


def test_a_marked_method_runs_with_its_object(rig: Rig) -> None:
    desk = Desk()
    status = rig.runner([desk.of_context, desk.of_nothing]).run()
    assert states_of(status) == {"momentum": "found", "gap": "found"}
    found = rig.registry.results(status.scan_id).by_strategy
    assert found["momentum"] == ({"feed": "NYSE", "name": "momentum"},)
    assert found["gap"] == ({"feed": "NYSE"},)


def test_decorators_outside_the_mark_are_not_passed_over(rig: Rig) -> None:
    called: list[str] = []

    def logged(call: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(call)
        def wrapper(*arguments: object) -> object:
            called.append(call.__name__)
            return call(*arguments)

        return wrapper

    @logged
    @strategy(name="inner")
    def it(context: ScanContext) -> object:
        return [{"name": context.name}]

    status = rig.runner([it]).run()
    assert states_of(status) == {"inner": "found"}
    assert called == ["it"]


def test_a_mark_needs_no_parentheses(rig: Rig) -> None:
    @strategy
    def bare() -> object:
        return [{"n": 1}]

    assert bare() == [{"n": 1}]
    assert states_of(rig.runner([bare]).run()) == {"bare": "found"}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: strategy(timeout=-1)(len), id="timeout"),
        pytest.param(lambda: strategy(name="a\n")(len), id="name"),
        pytest.param(lambda: strategy(lambda: None), id="nameless"),
        pytest.param(lambda: strategy("name"), id="text"),  # type: ignore[call-overload]
    ],
)
def test_a_mark_that_says_what_cannot_be_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidInput):
        make()


def _two(context: ScanContext, more: object) -> None: ...


def _by_name(*, more: object) -> None: ...


class Two:
    def __call__(self, context: ScanContext, more: object) -> None: ...


class ByName:
    def __call__(self, *, more: object) -> None: ...


@pytest.mark.parametrize(
    "call",
    [_two, _by_name, Two(), ByName()],
    ids=["function", "by name", "object", "object by name"],
)
def test_a_strategy_that_wants_more_than_a_context_is_refused_at_once(call: Any) -> None:
    with pytest.raises(InvalidInput, match="ScanContext, or nothing"):
        Strategy("it", call)


def test_arguments_that_have_defaults_are_none_of_the_runners_affair() -> None:
    def ok(context: ScanContext, more: int = 1, *, other: int = 2) -> None: ...

    assert Strategy("it", ok).takes_context
