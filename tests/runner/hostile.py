"""Strategies that do what strategies should not, each with the outcome that must come of it.

All are importable, so that the same ones run in threads and in other processes. Those that would
hang for ever wait for a file, whose name is in the scan's params, so that a test can let them go.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NoReturn

from attrs import frozen

from oppscan import ScanContext, Strategy


@frozen
class Spread:
    """An opportunity as an attrs instance."""

    symbol: str
    score: float


class Unspeakable(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        msg = "no words"
        raise RuntimeError(msg)


def returns_list() -> object:
    return [{"n": 1}, {"n": 2}]


def returns_tuple() -> object:
    return ({"n": 1},)


def returns_attrs() -> object:
    return [Spread("BTC", 0.9)]


def returns_none() -> object:
    return None


def returns_42() -> object:
    return 42


def returns_one_instance() -> object:
    return Spread("BTC", 0.9)


def returns_dict() -> object:
    return {"n": 1}


def returns_text() -> object:
    return "BTC"


def returns_nan() -> object:
    return [{"deep": [1, {"score": float("nan")}]}]


def returns_a_million() -> object:
    return [{"number": 1_000_000}] * 1_000_000


async def returns_nan_async() -> object:
    return [{"score": float("inf")}]


async def quick_async() -> object:
    await asyncio.sleep(0.01)
    return [{"n": 3}]


def returns_a_coroutine() -> object:
    return quick_async()


def raises_value_error() -> NoReturn:
    raise ValueError("feed is down")


def raises_its_own_timeout() -> NoReturn:
    raise TimeoutError("mine")


async def raises_its_own_timeout_async() -> NoReturn:
    raise TimeoutError("mine")


def raises_system_exit() -> NoReturn:
    raise SystemExit(3)


async def raises_system_exit_async() -> NoReturn:
    raise SystemExit(3)


def raises_keyboard_interrupt() -> NoReturn:
    raise KeyboardInterrupt


def raises_memory_error() -> NoReturn:
    raise MemoryError


def raises_the_unspeakable() -> NoReturn:
    raise Unspeakable


def raises_stop_iteration() -> NoReturn:
    raise StopIteration


def raises_cancelled() -> NoReturn:
    raise asyncio.CancelledError


async def raises_generator_exit_async() -> NoReturn:
    raise GeneratorExit


async def cancels_itself() -> NoReturn:
    raise asyncio.CancelledError


def exhausts_recursion() -> object:
    return [exhausts_recursion()]


def yields_and_raises() -> Iterator[object]:
    yield {"n": 1}
    yield {"n": 2}
    raise ValueError("feed is down")


async def hangs() -> None:
    await asyncio.sleep(3600)


async def yields_and_hangs() -> AsyncIterator[object]:
    yield {"n": 1}
    await asyncio.sleep(3600)


async def swallows_its_cancellation() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


async def fights_every_end(context: ScanContext) -> None:
    while not _let_go(context):
        try:
            await asyncio.sleep(0.05)
        except BaseException:  # noqa: BLE001, S112 - this is what it is for
            continue


async def blocks_the_loop() -> object:
    time.sleep(1.0)  # noqa: ASYNC251 - this is what it is for
    return [{"n": 4}]


def blocks_its_thread(context: ScanContext) -> object:
    while not _let_go(context):
        time.sleep(0.02)
    return [{"late": True}]


def blocks_past_the_budget(context: ScanContext) -> object:
    return blocks_its_thread(context)


def kills_its_process() -> NoReturn:
    os._exit(3)


def _let_go(context: ScanContext) -> bool:
    return Path(str(context.params["gate"])).exists()


Outcome = tuple[str, int, str]
"""The state, how many were found, and a part of the error's text."""

QUIET: dict[Callable[..., object], Outcome] = {
    returns_list: ("found", 2, ""),
    returns_tuple: ("found", 1, ""),
    returns_none: ("empty", 0, ""),
    returns_attrs: ("found", 1, ""),
    quick_async: ("found", 1, ""),
    returns_42: ("failed", 0, "int (42)"),
    returns_dict: ("failed", 0, "returned dict"),
    returns_text: ("failed", 0, "returned str"),
    returns_nan_async: ("failed", 0, "score"),
    raises_value_error: ("failed", 0, "ValueError: feed is down"),
    raises_its_own_timeout: ("failed", 0, "TimeoutError: mine"),
    raises_its_own_timeout_async: ("failed", 0, "TimeoutError: mine"),
    raises_system_exit: ("failed", 0, "SystemExit: 3"),
    raises_system_exit_async: ("failed", 0, "SystemExit: 3"),
    raises_keyboard_interrupt: ("failed", 0, "KeyboardInterrupt"),
    raises_memory_error: ("failed", 0, "MemoryError"),
    raises_the_unspeakable: ("failed", 0, "its str() raised RuntimeError"),
    raises_stop_iteration: ("failed", 0, "StopIteration"),
    raises_cancelled: ("failed", 0, "CancelledError"),
    raises_generator_exit_async: ("failed", 0, "GeneratorExit"),
    cancels_itself: ("failed", 0, "CancelledError"),
    exhausts_recursion: ("failed", 0, "RecursionError"),
    yields_and_raises: ("failed", 2, "ValueError: feed is down"),
}
"""Over at once; also in other processes."""

LOCAL: dict[Callable[..., object], Outcome] = {
    returns_one_instance: ("failed", 0, "returned Spread"),
    returns_nan: ("failed", 0, "deep"),
    returns_a_coroutine: ("failed", 0, "coroutine"),
}
"""Over at once; what they return cannot be pickled."""

LASTING: dict[Callable[..., object], Outcome] = {
    hangs: ("timed_out", 0, "timed out after"),
    yields_and_hangs: ("timed_out", 1, "timed out after"),
    swallows_its_cancellation: ("timed_out", 0, "timed out after"),
    fights_every_end: ("timed_out", 0, "timed out after"),
    blocks_its_thread: ("timed_out", 0, "timed out after"),
    blocks_past_the_budget: ("timed_out", 0, "timed out after"),
    blocks_the_loop: ("found", 1, ""),
}
"""Those that hold on to their time."""

LETHAL: dict[Callable[..., object], Outcome] = {
    kills_its_process: ("failed", 0, "died"),
}
"""Only in a process of its own."""


TIMEOUTS: dict[Callable[..., object], float] = {
    blocks_past_the_budget: 600,
}


def strategies_of(
    *tables: dict[Callable[..., object], Outcome],
) -> tuple[list[Strategy], dict[str, Outcome]]:
    """Give the strategies of the tables, and what must become of each."""
    expected = {call.__name__: outcome for table in tables for call, outcome in table.items()}
    strategies = [
        Strategy(call.__name__, call, timeout=TIMEOUTS.get(call))
        for table in tables
        for call in table
    ]
    return strategies, expected
