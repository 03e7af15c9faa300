"""What running strategies costs: ``python tests/benchmarks/runner.py [STRATEGIES]``.

Prints, for each face, the time and memory per trivial strategy, everything recorded in the memory
store, at a tenth of the strategies and at all of them; and, for the async face, the ratio to a
bare ``asyncio.TaskGroup`` that runs the same coroutines, measured in turns in the same run.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable

import oppscan
import oppscan.sync as blocking

ROUNDS = 5
MOST = 10_000


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is what it is for


async def trivial() -> None:
    """Do nothing, as a coroutine."""


def trivial_blocking() -> None:
    """Do nothing, as a function."""


async def bare(many: int) -> None:
    """Run as many coroutines as tasks of one group."""
    async with asyncio.TaskGroup() as group:
        for _ in range(many):
            group.create_task(trivial())


def on_a_loop(many: int) -> float:
    """Give the seconds of one scan in the async face."""
    names = {f"s{number}": trivial for number in range(many)}

    async def scan() -> float:
        async with oppscan.StrategyRunner(oppscan.connect("memory:"), names, budget=600) as runner:
            began = time.perf_counter()
            status = await runner.run("ann")
            took = time.perf_counter() - began
        if status.progress.succeeded != many:
            raise SystemExit(f"not all strategies ran: {status.progress}")
        return took

    return asyncio.run(scan())


def in_a_group(many: int) -> float:
    """Give the seconds of a bare task group."""

    async def timed() -> float:
        began = time.perf_counter()
        await bare(many)
        return time.perf_counter() - began

    return asyncio.run(timed())


def in_threads(many: int) -> float:
    """Give the seconds of one scan in the blocking face."""
    names = {f"s{number}": trivial_blocking for number in range(many)}
    with blocking.StrategyRunner(blocking.connect("memory:"), names, budget=600) as runner:
        began = time.perf_counter()
        status = runner.run("ann")
        took = time.perf_counter() - began
    if status.progress.succeeded != many:
        raise SystemExit(f"not all strategies ran: {status.progress}")
    return took


def peak_of(call: Callable[[int], float], many: int) -> int:
    """Give the most bytes that were allocated at once."""
    gc.collect()
    tracemalloc.start()
    call(many)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main(most: int) -> None:
    few = most // 10
    for warm_up in (on_a_loop, in_a_group):
        warm_up(few)
    pairs = [(on_a_loop(most), in_a_group(most)) for _ in range(ROUNDS)]
    each = [took / most * 1e6 for took, _ in pairs]
    group = [took / most * 1e6 for _, took in pairs]
    ratio = statistics.median(a / b for a, b in zip(each, group, strict=True))
    say(f"async face, {most} coroutines: {statistics.median(each):.1f} us each")
    say(f"bare TaskGroup:               {statistics.median(group):.1f} us each")
    say(f"ratio:                        {ratio:.1f} (aim: at most 6)")
    for name, call in (("async", on_a_loop), ("blocking", in_threads)):
        small, large = (min(call(many) for _ in range(3)) for many in (few, most))
        low, high = (peak_of(call, many) for many in (few, most))
        say(
            f"{name} face, {few} -> {most}: time x{large / small:.1f}, "
            f"memory x{high / low:.1f} (aim: at most 12); "
            f"{large / most * 1e6:.1f} us and {high / most:.0f} bytes each"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else MOST)
