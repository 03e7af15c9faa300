"""Strategies in a real Dask cluster on this machine, also when a worker of it is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("face", ["async", "blocking"])
def test_a_scan_outlives_a_killed_dask_worker(tmp_path: Path, face: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.runner.dask_host", face, str(tmp_path / "ledger")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines["quick"] == "found"
    assert lines["steady"] == "found"
    assert lines["dies_once"] == "found"
    assert lines["dies"].startswith("failed KilledWorker")
    assert lines["scan"] == "complete"
    assert lines["again"] == "found"
