"""Exceptions that misbehave when they are looked at: a failure with a text, and nothing worse."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn

import pytest

from oppscan.clock import elapsed
from oppscan.runner import answers
from tests.runner.rig import Rig, states_of


class ExitsInText(Exception):
    def __str__(self) -> str:
        raise SystemExit("no words")


class InterruptsInText(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class Falsy(Exception):
    def __len__(self) -> int:
        return 0


class Untrue(Exception):
    def __bool__(self) -> bool:
        raise RuntimeError("neither")


def _no_name(self: object) -> NoReturn:
    raise RuntimeError("no name")


Shy = type("Shy", (type,), {"__name__": property(_no_name)})
Nameless: type[Exception] = Shy("Nameless", (Exception,), {})
"""An exception whose type will not say its name."""


class Wily(str):
    __slots__ = ()

    def __getitem__(self, index: object) -> str:
        raise RuntimeError("not this one")


class WilyText(Exception):
    def __str__(self) -> str:
        return Wily("text")


class OwnBase(BaseException):
    pass


TOLD: dict[type[BaseException], str] = {
    ExitsInText: "ExitsInText: <its str() raised SystemExit>",
    InterruptsInText: "InterruptsInText: <its str() raised KeyboardInterrupt>",
    Falsy: "Falsy",
    Untrue: "Untrue",
    Nameless: "Nameless",
    WilyText: "WilyText: text",
    OwnBase: "OwnBase",
}


@pytest.mark.parametrize("error", TOLD, ids=str)
def test_whatever_an_exception_does_when_it_is_looked_at_it_is_a_failure_with_a_text(
    rig: Rig, error: type[BaseException]
) -> None:
    def blocking() -> None:
        raise error

    async def coroutine() -> None:
        raise error

    runner = rig.runner([blocking, coroutine], strategy_timeout=5.0, budget=10.0)
    status = runner.begin().result(15)
    assert {outcome.error for outcome in status.outcomes} == {TOLD[error]}
    assert states_of(status) == {"blocking": "failed", "coroutine": "failed"}


def test_the_slow_text_of_a_blocking_strategy_s_error_holds_up_no_other(rig: Rig) -> None:
    class Slow(Exception):
        def __str__(self) -> str:
            time.sleep(1.0)
            return "at last"

    def slow() -> None:
        raise Slow

    async def quick() -> None:
        """Over at once."""

    began = elapsed()
    status = rig.runner({"slow": slow, "quick": quick}, strategy_timeout=10).run()
    assert elapsed() - began < 5
    assert status.outcome("slow").error == "Slow: at last"
    duration = status.outcome("quick").duration
    assert duration is not None
    assert duration < 0.9


def test_an_outcome_that_cannot_be_told_is_a_failure_all_the_same(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*arguments: object, **options: object) -> None:
        raise MemoryError

    def fails() -> None:
        raise ValueError("feed is down")

    monkeypatch.setattr(answers, "_kept", breaks)
    status = rig.runner([fails]).begin().result(10)
    assert status.outcome("fails").error == answers.NO_WORDS


def _no_class(self: object) -> NoReturn:
    raise SystemExit("class?")


Classless = type("Classless", (), {"__class__": property(_no_class)})
"""An answer that will not say what it is."""


def test_an_answer_that_will_not_say_what_it_is_fails_its_strategy_alone(rig: Rig) -> None:
    async def gives() -> object:
        return Classless()

    calls: dict[str, Callable[[], object]] = {"async": gives, "blocking": Classless}
    status = rig.runner(calls, strategy_timeout=5).begin().result(10)
    assert states_of(status) == {"async": "failed", "blocking": "failed"}
