"""G1-G9, G11, G13: whatever several workers do, every store answers as the model says.

The positive control: each bug of a table, planted alone, is found within a bounded search.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from oppscan import MemoryBackend
from oppscan.backends.base import TransactionalBackend
from oppscan.backends.sqlite import SQLiteBackend
from oppscan.testing import ManualClock
from tests.machine.bugs import RULES, STORES
from tests.machine.lives import Lives
from tests.machine.planting import Bug, plant

SEARCH = settings(
    max_examples=1_500, stateful_step_count=30, phases=[Phase.generate], report_multiple_bugs=False
)


class OnMemory(Lives):
    @staticmethod
    def backends(clock: ManualClock) -> list[TransactionalBackend]:
        return [MemoryBackend(clock)]


@pytest.fixture
def on_both(tmp_path: Path) -> Iterator[type[Lives]]:
    file = SQLiteBackend(tmp_path / "scans.db")

    class OnBoth(Lives):
        @staticmethod
        def backends(clock: ManualClock) -> list[TransactionalBackend]:
            file.clock = clock
            return [MemoryBackend(clock), file]

    yield OnBoth
    file.close()


def test_all_stores_live_the_life_that_the_guarantees_describe(on_both: type[Lives]) -> None:
    bounds = settings(max_examples=40, stateful_step_count=30)
    run_state_machine_as_test(on_both, settings=bounds)


def test_many_lives_in_memory() -> None:
    bounds = settings(max_examples=60, stateful_step_count=40)
    run_state_machine_as_test(OnMemory, settings=bounds)


@pytest.mark.control
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", RULES, ids=lambda bug: bug.name)
def test_a_planted_bug_in_the_rules_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, bug)
    with pytest.raises(Exception) as found:  # noqa: PT011 - a wrong answer, or an error of any kind
        run_state_machine_as_test(OnMemory, settings=SEARCH)
    assert not isinstance(found.value, (KeyboardInterrupt, NotImplementedError))


@pytest.mark.control
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", STORES, ids=lambda bug: bug.name)
def test_a_planted_bug_in_a_store_is_found(
    bug: Bug, monkeypatch: pytest.MonkeyPatch, on_both: type[Lives]
) -> None:
    plant(monkeypatch, bug)
    with pytest.raises(Exception):  # noqa: B017, PT011 - a wrong answer, or an error of any kind
        run_state_machine_as_test(on_both, settings=SEARCH)
