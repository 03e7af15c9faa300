"""Strategies in a real Dask cluster on this machine, also when a worker of it is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

PATIENCE = 280  # seconds; each killed worker is started anew, which takes a busy machine long


def _told(*arguments: object) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.runner.dask_host", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


@pytest.mark.timeout(PATIENCE + 20)
@pytest.mark.parametrize("face", ["async", "blocking"])
def test_a_scan_outlives_a_killed_dask_worker(tmp_path: Path, face: str) -> None:
    lines = _told(face, tmp_path / "ledger")
    assert lines["quick"] == "found"
    assert lines["steady"] == "found"
    assert lines["dies_once"] == "found"
    assert lines["dies"].startswith("failed WorkerDied")
    assert "KilledWorker" in lines["dies"]
    assert lines["scan"] == "complete"
    assert lines["again"] == "found"


@pytest.mark.timeout(PATIENCE + 20)
def test_executors_of_one_cluster_are_one_and_only_the_culprit_fails(tmp_path: Path) -> None:
    lines = _told("async", tmp_path / "ledger", "factory")
    assert [lines[name] for name in ("quick", "steady", "dies_once", "again")] == ["found"] * 4
    assert lines["dies"].startswith("failed WorkerDied")


@pytest.mark.timeout(PATIENCE + 20)
@pytest.mark.parametrize("face", ["async", "blocking"])
def test_an_answer_that_dask_lost_is_no_hang_but_a_second_try(tmp_path: Path, face: str) -> None:
    ledger = tmp_path / "ledger"
    lines = _told(face, ledger, "lost")
    assert lines == {"quick": "found", "scan": "complete", "again": "found"}
    assert len(ledger.read_text().splitlines()) == 3


@pytest.mark.timeout(PATIENCE + 20)
@pytest.mark.parametrize("face", ["async", "blocking"])
def test_what_still_waits_in_dask_when_its_time_is_up_never_runs(tmp_path: Path, face: str) -> None:
    ledger = tmp_path / "ledger"
    lines = _told(face, ledger, "queued")
    assert lines["quick"].startswith("timed_out")
    assert [line.split()[0] for line in ledger.read_text().splitlines()] == ["obeys", "quick"]


def test_a_dask_executor_that_its_host_shut_down_fails_strategies_by_name(tmp_path: Path) -> None:
    lines = _told("blocking", tmp_path / "ledger", "shut")
    assert lines["quick"].startswith("failed ExecutorUnusable")
    assert "RuntimeError" in lines["quick"]
