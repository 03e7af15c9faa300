"""A process that runs the scan's strategies, with `oppscan.StrategyRunner`.

It takes up whatever scan it is told to: a new one, or one that a killed worker left behind. The
strategies compute in milliseconds; so that one can watch, each also rests for a moment, which
``--pace 0`` turns off. Run by the demonstration as ``python -m oppscan.demo.worker``.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from attrs import field, frozen

import oppscan
from oppscan import ScanAlreadyClaimed, StrategyRunner
from oppscan.demo.child import heard, leave_with_parent, run, tell
from oppscan.demo.market import Market, load
from oppscan.demo.strategies import STRATEGIES, rank
from oppscan.demo.wire import NAMESPACE, Go, Job, Ready

AT_A_TIME: Final = 3
TEMPO: Final = (0.7, 1.3, 1.0, 1.2, 0.8)  # of a rest: so that not all end at the same moment

Opportunities = list[dict[str, object]]


@frozen
class Notebook:
    """The names of the strategies that this process began, in a file that outlives it."""

    path: Path

    def note(self, name: str) -> None:
        """Append a name: one write, which a killed process has either made or not."""
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, f"{name}\n".encode())
        finally:
            os.close(handle)


@frozen
class Turnstile:
    """Lets so many pass, and keeps the others waiting for good; None lets all pass."""

    places: int | None
    _taken: list[str] = field(factory=list)
    _lock: threading.Lock = field(factory=threading.Lock)

    def enter(self, name: str) -> None:
        """Pass, or wait."""
        with self._lock:
            self._taken.append(name)
            passes = self.places is None or len(self._taken) <= self.places
        if not passes:
            threading.Event().wait()


def paced(market: Market, job: Job) -> Mapping[str, Callable[[], Opportunities]]:
    """Give the strategies as the runner takes them: on this market, noted down, at a human pace."""
    notebook, turnstile = Notebook(Path(job.log)), Turnstile(job.hold_after)
    return {
        name: _paced(name, job.pause * TEMPO[place % len(TEMPO)], market, notebook, turnstile)
        for place, name in enumerate(STRATEGIES)
    }


def _paced(
    name: str, rest: float, market: Market, notebook: Notebook, turnstile: Turnstile
) -> Callable[[], Opportunities]:
    def run_strategy() -> Opportunities:
        notebook.note(name)
        turnstile.enter(name)
        found = STRATEGIES[name](market)
        threading.Event().wait(rest)
        return found

    return run_strategy


def describe(market: Market) -> str:
    """Say in a few words what is scanned."""
    first, last = market.calendar[0].year, market.calendar[-1].year
    days = sum(map(len, market.shares))
    return f"{days:,} daily prices of {', '.join(market.symbols)}, {first}-{last}"


async def work(job: Job) -> None:
    """Read the market, wait for the scan, and run what is left of it."""
    market = load()
    async with oppscan.connect(job.store, namespace=NAMESPACE) as registry:
        runner = StrategyRunner(registry, paced(market, job), max_concurrency=AT_A_TIME, rank=rank)
        async with runner:
            await registry.ping()
            tell(Ready(describe(market)))
            scan_id = heard(Go).scan_id  # nothing else runs in this loop yet
            leave_with_parent()
            await _take_up(runner, scan_id)


async def _take_up(runner: StrategyRunner, scan_id: str) -> None:
    """Run what is left of a scan, once nobody else holds it."""
    while True:
        try:
            await runner.resume(scan_id)
        except ScanAlreadyClaimed as held:
            await asyncio.sleep(held.retry_after)
        else:
            return


def main(job: Job) -> None:
    """Do a worker's work."""
    asyncio.run(work(job))


if __name__ == "__main__":
    run(main)
