"""Random scans of random strategies on a random store: whatever happens, the promises hold."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import Any

import pytest

import oppscan
from oppscan import OppscanError, ScanContext, ScanStatus, Strategy, TTLPolicy
from oppscan.ops import Apply
from oppscan.testing import Fault, FaultyStore
from tests.runner.rig import census_of_loop

SEEDS = range(24)
"""About ten seconds in all."""

BUDGET = 1.0
OP_TIMEOUT = 0.3
SLACK = 4.0
"""Seconds on top of the budget that a machine which is busy elsewhere may cost."""


class Zoo:
    """Strategies of all kinds, made at random; they note who ran, and how many at once."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.ran: Counter[str] = Counter()
        self.now = 0
        self.most = 0
        self.errors: list[str] = []

    def strategies(self) -> list[Strategy]:
        kinds = (
            self.quick, self.slow, self.hangs, self.raises, self.cancels_itself, self.swallows,
            self.yields, self.ignores_its_close, self.blocks, self.blocks_long, self.generates,
        )  # fmt: skip
        many = self._random.choice([1, 5, 40, 150])
        weights = [20, 9, 1, 5, 3, 1, 5, 1, 5, 1, 3]
        return [
            Strategy(
                f"s{number}",
                self._random.choices(kinds, weights)[0],
                timeout=self._random.choice([None, 0.05, 0.3]),
                priority=self._random.choice([0, 0, 5]),
            )
            for number in range(many)
        ]

    def _enter(self, context: ScanContext) -> None:
        self.ran[context.name] += 1

    @contextmanager
    def _counted(self, context: ScanContext) -> Iterator[None]:
        """Count who runs on the event loop at the same time."""
        self._enter(context)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            yield
        finally:
            self.now -= 1

    async def quick(self, context: ScanContext) -> object:
        self._enter(context)
        return [{"of": context.name}]

    async def slow(self, context: ScanContext) -> object:
        with self._counted(context):
            await asyncio.sleep(0.02)
        return ()

    async def hangs(self, context: ScanContext) -> None:
        with self._counted(context):
            await asyncio.sleep(60)

    async def raises(self, context: ScanContext) -> None:
        self._enter(context)
        raise ValueError(context.name)

    async def cancels_itself(self, context: ScanContext) -> None:
        self._enter(context)
        task = asyncio.current_task()
        if task is not None:
            task.cancel()
        await asyncio.sleep(1)

    async def swallows(self, context: ScanContext) -> None:
        with self._counted(context):
            while True:
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)

    async def yields(self, context: ScanContext) -> AsyncIterator[object]:
        self._enter(context)
        for number in range(3):
            yield {"of": context.name, "n": number}
            await asyncio.sleep(0.001)

    async def ignores_its_close(self, context: ScanContext) -> AsyncIterator[object]:
        self._enter(context)
        with suppress(GeneratorExit, asyncio.CancelledError):
            for number in range(200):
                yield {"n": number}
                await asyncio.sleep(0.01)
        yield {"n": "once more"}

    def blocks(self, context: ScanContext) -> object:
        self._enter(context)
        time.sleep(0.01)
        return [{"of": context.name}]

    def blocks_long(self, context: ScanContext) -> None:
        self._enter(context)
        while not context.cancelled:
            time.sleep(0.01)

    def generates(self, context: ScanContext) -> Iterator[object]:
        self._enter(context)
        yield {"of": context.name}
        yield {"of": context.name}


def _harm(store: FaultyStore, random: Random) -> None:
    """Script faults: single ones, or a store that is slow all the time."""
    if random.random() < 0.2:
        store.always(Fault.SLOW, on=Apply)
    else:
        faults = random.choices([Fault.PASS, Fault.FAIL, Fault.DROP, Fault.SLOW], [6, 1, 1, 1], k=9)
        store.plan(Fault.PASS, Fault.PASS, *faults, on=Apply)


async def _attempt(runner: oppscan.StrategyRunner, cancelled: float | None) -> ScanStatus | None:
    """Run a scan, perhaps cancelled; None where it had no end of its own."""
    task = asyncio.ensure_future(runner.run("ann"))
    if cancelled is not None:
        await asyncio.sleep(cancelled)
        task.cancel()
    await asyncio.wait({task}, timeout=BUDGET + SLACK)
    assert task.done(), "the run does not end"
    try:
        return task.result()
    except (OppscanError, asyncio.CancelledError):
        return None


async def _quiet(loop: asyncio.AbstractEventLoop) -> list[str]:
    """Give what stays on the loop beside this very task."""
    left: list[str] = []
    for _ in range(100):
        left = [item for item in census_of_loop(loop) if "_with_tasks()" not in item]
        if not left:
            break
        await asyncio.sleep(0.02)
    return left


async def _scene(seed: int) -> None:
    random = Random(seed)
    loop, troubles = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: troubles.append(context))
    zoo, places = Zoo(random), random.choice([1, 3, 8, 200])
    memory = oppscan.MemoryBackend()
    store = FaultyStore(memory)
    registry = oppscan.ScanRegistry(store, ttl=TTLPolicy(lease=2.0), op_timeout=OP_TIMEOUT)
    strategies = zoo.strategies()
    runner = oppscan.StrategyRunner(
        registry, strategies, max_concurrency=places, strategy_timeout=0.4, budget=BUDGET
    )
    _harm(store, random)
    cancelled = random.choice([None, None, random.uniform(0.0, 0.3)])
    status = await _attempt(runner, cancelled)
    assert zoo.most <= places
    assert all(times == 1 for times in zoo.ran.values())
    ran = dict(zoo.ran)
    if status is not None:
        states = {outcome.name: outcome.state for outcome in status.outcomes}
        assert len(states) == len(strategies)
        assert all(state.done for state in states.values())
        assert {name for name, state in states.items() if state != "skipped"} == set(ran)
        results = await oppscan.ScanRegistry(memory).results(status.scan_id, partial=True)
        assert len(results.opportunities) == sum(outcome.found for outcome in status.outcomes)
    await runner.aclose()
    assert await _quiet(loop) == []
    assert zoo.ran == ran  # nothing was started afterwards
    gc.collect()
    assert troubles == []


def _eager() -> Callable[..., Any] | None:
    return getattr(asyncio, "eager_task_factory", None)  # from Python 3.12 on


async def _with_tasks(factory: Callable[..., Any] | None, seed: int) -> None:
    if factory is not None:
        asyncio.get_running_loop().set_task_factory(factory)
    await _scene(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_a_run_ends_in_time_and_each_strategy_ends_once(seed: int) -> None:
    asyncio.run(_with_tasks(_eager() if seed % 4 == 0 else None, seed))
