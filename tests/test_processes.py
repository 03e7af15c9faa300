"""Real processes on one file: races, SIGKILL, and forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

import oppscan.sync as blocking
from oppscan import ClaimLost, StorageMisconfigured
from tests.workers import registry_on

ROOT = Path(__file__).parent.parent


def _spawn(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.workers", *map(str, arguments)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )


def _out(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def _until_stalled(registry: blocking.ScanRegistry, scan_id: str, within: float) -> float:
    began = time.monotonic()
    while not registry.status(scan_id).stalled:
        assert time.monotonic() - began < within, "a dead worker's scan must read stalled"
        time.sleep(0.01)
    return time.monotonic() - began


def test_g9_racing_processes_have_one_winner_for_each_owner(tmp_path: Path) -> None:
    database, go, owners = tmp_path / "a.db", tmp_path / "go", 40
    processes = [_spawn("race", database, go, owners) for _ in range(4)]
    for process in processes:
        assert _out(process).readline() == "ready\n"
    go.touch()
    answers = [process.communicate(timeout=60)[0].split("\n")[:owners] for process in processes]
    for number in range(owners):
        words = [lines[number].split() for lines in answers]
        assert len({scan_id for scan_id, _ in words}) == 1
        assert sorted(word for _, word in words) == ["created"] + ["joined"] * 3
    assert all(process.returncode == 0 for process in processes)


def test_g13_workers_killed_in_mid_scan_lose_nothing(tmp_path: Path) -> None:
    database = tmp_path / "a.db"
    registry = registry_on(str(database))
    names = [f"s{number}" for number in range(1200)]
    scan_id = registry.start("ann", names).scan_id
    acknowledged: list[str] = []
    for kill in range(4):
        process = _spawn("work", database, scan_id)
        acknowledged += [_out(process).readline().strip() for _ in range(100 + 37 * kill)]
        process.send_signal(signal.SIGKILL)
        acknowledged += _out(process).read().split()
        process.wait(timeout=10)
        _out(process).close()
        assert _until_stalled(registry, scan_id, within=2.0) <= 0.5 + 0.25
        results = registry.results(scan_id, partial=True)
        found = [item["of"] for item in results.opportunities]
        assert set(acknowledged) - {"done"} <= set(found)
        assert len(found) == len(set(found)) == results.status.progress.strategies_completed
        assert len(found) <= len(acknowledged) + kill + 1
    process = _spawn("work", database, scan_id)
    assert process.communicate(timeout=60)[0].endswith("done\n")
    final = registry.results(scan_id)
    assert sorted(str(item["of"]) for item in final.opportunities) == sorted(names)
    assert final.status.attempts == 5
    assert final.status.progress.opportunities_found == len(names)


def test_g11_writers_side_by_side_lose_no_acknowledged_write(tmp_path: Path) -> None:
    database = tmp_path / "a.db"
    registry = registry_on(str(database))
    names = [f"s{number}" for number in range(700)]
    scans = [registry.start(f"owner {number}", names).scan_id for number in range(3)]
    processes = [_spawn("work", database, scan_id) for scan_id in scans]
    for process, scan_id in zip(processes, scans, strict=True):
        lines = process.communicate(timeout=90)[0].split()
        assert lines == [*names, "done"]
        results = registry.results(scan_id)
        assert [item["of"] for item in results.opportunities] == names


def _in_child(action: Callable[[], str]) -> str:
    """Run an action in a forked child, and give what it said."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is the point
        child = os.fork()
    if child == 0:
        try:
            said = action()
        except BaseException as error:  # noqa: BLE001 - told to the parent
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_a_forked_child_can_use_a_registry_made_before(tmp_path: Path) -> None:
    registry = registry_on(str(tmp_path / "a.db"))
    ticket = registry.start("ann", ["a", "b"])

    def child() -> str:
        with registry.claim(ticket.scan_id) as scan:
            scan.strategy_finished("a", [{"by": "child"}])
            scan.release()
        return registry.start("bob", ["a"]).scan_id

    other = _in_child(child)
    assert registry.status(other).owner == "bob"
    with registry.claim(ticket.scan_id) as scan:
        assert scan.remaining == ("b",)
        scan.strategy_finished("b", [{"by": "parent"}])
    assert registry.results(ticket.scan_id).opportunities == ({"by": "child"}, {"by": "parent"})


def test_a_claim_does_not_cross_a_fork(tmp_path: Path) -> None:
    registry = registry_on(str(tmp_path / "a.db"))
    ticket = registry.start("ann", ["a", "b"])
    with registry.claim(ticket.scan_id) as scan:

        def child() -> str:
            for write in (scan.heartbeat, scan.release, lambda: scan.strategy_started("a")):
                with pytest.raises(ClaimLost):
                    write()
            return "refused"

        assert _in_child(child) == "refused"

        def leaving() -> str:
            scan.__exit__(None, None, None)
            return "left"

        assert _in_child(leaving) == "left"
        assert registry.status(ticket.scan_id).state == "running"
        scan.strategy_finished("a", [])
        time.sleep(1.2)
        assert not registry.status(ticket.scan_id).stalled
    assert registry.status(ticket.scan_id).state == "complete"


def test_a_memory_store_raises_after_a_fork() -> None:
    registry = blocking.connect("memory:")
    ticket = registry.start("ann", ["a"])
    said = _in_child(lambda: str(registry.status(ticket.scan_id)))
    assert said.startswith(StorageMisconfigured.__name__)
    assert registry.status(ticket.scan_id).state == "pending"
