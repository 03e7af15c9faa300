"""Whatever strategies do, in one scan: each gets the outcome it deserves, and only it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

from oppscan import ScanState, ScanStatus
from tests.runner import hostile
from tests.runner.rig import PATIENCE, Rig, until

BUDGET = 6.0
TIMEOUT = 3.0


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """Name the file that lets go what hangs for ever; it is there when the test ends."""
    path = tmp_path / "gate"
    yield path
    path.touch()


def _disagreements(status: ScanStatus, expected: dict[str, hostile.Outcome]) -> list[str]:
    found = []
    for outcome in status.outcomes:
        state, count, text = expected[outcome.name]
        if (outcome.state, outcome.found) != (state, count) or text not in (outcome.error or ""):
            found.append(f"{outcome} is not {expected[outcome.name]}")
    return found


# One that ignores even GeneratorExit is destroyed by force, which Python reports.
@pytest.mark.filterwarnings("ignore:.*fights_every_end:pytest.PytestUnraisableExceptionWarning")
def test_each_hostile_strategy_gets_its_outcome_and_harms_no_other(rig: Rig, gate: Path) -> None:
    strategies, expected = hostile.strategies_of(hostile.QUIET, hostile.LOCAL, hostile.LASTING)
    runner = rig.runner(strategies, max_concurrency=64, strategy_timeout=TIMEOUT, budget=BUDGET)
    began = time.monotonic()
    going = runner.begin(params={"gate": str(gate)})
    assert until(lambda: rig.registry.has_active_scan("ann"))
    seen_stalled = False
    while not going.done():
        seen_stalled |= rig.registry.latest("ann").stalled
        time.sleep(0.02)
        assert time.monotonic() - began < PATIENCE
    took = time.monotonic() - began
    status = going.result()
    assert _disagreements(status, expected) == []
    assert status.state is ScanState.COMPLETE
    assert status.attempts == 1
    assert not seen_stalled, "a strategy that blocks everything for a second must cost no lease"
    assert BUDGET / 2 < took < BUDGET + 1.5
    assert len(rig.registry.results(status.scan_id).opportunities) == sum(
        count for _, count, _ in expected.values()
    )
    gate.touch()  # what was left behind ends now, and answers late
    assert until(lambda: _hung(runner.inner) == 0)
    time.sleep(0.1)
    assert rig.registry.status(status.scan_id) == status


def test_g12_a_million_opportunities_are_refused_and_harm_no_other(rig: Rig) -> None:
    strategies, expected = hostile.strategies_of(hostile.QUIET)
    runner = rig.runner(
        {**{one.name: one for one in strategies}, "million": hostile.returns_a_million},
        max_concurrency=64,
    )
    status = runner.run(params={"gate": "none"})
    expected["million"] = ("failed", 0, "over the limit")
    assert _disagreements(status, expected) == []
    assert status.attempts == 1


def _hung(runner: object) -> int:
    place = runner._place  # type: ignore[attr-defined]  # noqa: SLF001
    return place._threads.hung  # type: ignore[no-any-return]  # noqa: SLF001


def test_hostile_strategies_in_other_processes_harm_no_other(rig: Rig, gate: Path) -> None:
    strategies, expected = hostile.strategies_of(
        hostile.QUIET, {hostile.blocks_its_thread: ("timed_out", 0, "timed out")}, hostile.LETHAL
    )
    pool = partial(ProcessPoolExecutor, 2, mp_context=get_context("spawn"))
    runner = rig.runner(
        strategies, max_concurrency=64, strategy_timeout=4.5, budget=30.0, executor=pool
    )
    status = runner.run(params={"gate": str(gate)})
    assert _disagreements(status, expected) == []
    assert status.state is ScanState.COMPLETE
