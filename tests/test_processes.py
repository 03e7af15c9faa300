"""Real processes on one file: races, SIGKILL, and forks."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import pytest

import oppscan.sync as blocking
from oppscan import ClaimLost, StorageMisconfigured
from tests.hosts.forking import in_child
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


def _await_stalled(registry: blocking.ScanRegistry, scan_id: str, lease: float) -> None:
    """See that no read begun a lease after the last heartbeat still shows a living holder."""
    while True:
        asked = datetime.now(UTC)  # the clock of the host is the store's, to a millisecond
        status = registry.status(scan_id)
        if status.stalled:
            return
        assert status.heartbeat_at is not None
        assert asked < status.heartbeat_at + timedelta(seconds=lease + 0.002)
        time.sleep(0.01)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


@pytest.fixture
def registry(database: Path) -> Iterator[blocking.ScanRegistry]:
    with registry_on(str(database)) as registry:
        yield registry


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


def test_g13_workers_killed_in_mid_scan_lose_nothing(
    database: Path, registry: blocking.ScanRegistry
) -> None:
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
        _await_stalled(registry, scan_id, lease=0.5)
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


def test_g11_writers_side_by_side_lose_no_acknowledged_write(
    database: Path, registry: blocking.ScanRegistry
) -> None:
    names = [f"s{number}" for number in range(700)]
    scans = [registry.start(f"owner {number}", names).scan_id for number in range(3)]
    processes = [_spawn("work", database, scan_id) for scan_id in scans]
    for process, scan_id in zip(processes, scans, strict=True):
        lines = process.communicate(timeout=90)[0].split()
        assert lines == [*names, "done"]
        results = registry.results(scan_id)
        assert [item["of"] for item in results.opportunities] == names


def test_a_forked_child_can_use_a_registry_made_before(registry: blocking.ScanRegistry) -> None:
    ticket = registry.start("ann", ["a", "b"])

    def child() -> str:
        with registry.claim(ticket.scan_id) as scan:
            scan.strategy_finished("a", [{"by": "child"}])
            scan.release()
        return registry.start("bob", ["a"]).scan_id

    other = in_child(child)
    assert registry.status(other).owner == "bob"
    with registry.claim(ticket.scan_id) as scan:
        assert scan.remaining == ("b",)
        scan.strategy_finished("b", [{"by": "parent"}])
    assert registry.results(ticket.scan_id).opportunities == ({"by": "child"}, {"by": "parent"})


def test_a_claim_does_not_cross_a_fork(registry: blocking.ScanRegistry) -> None:
    ticket = registry.start("ann", ["a", "b"])
    with registry.claim(ticket.scan_id) as scan:

        def child() -> str:
            for write in (scan.heartbeat, scan.release, lambda: scan.strategy_started("a")):
                with pytest.raises(ClaimLost):
                    write()
            return "refused"

        assert in_child(child) == "refused"

        def leaving() -> str:
            scan.__exit__(None, None, None)
            return "left"

        assert in_child(leaving) == "left"
        assert registry.status(ticket.scan_id).state == "running"
        scan.strategy_finished("a", [])
        time.sleep(1.2)
        assert not registry.status(ticket.scan_id).stalled
    assert registry.status(ticket.scan_id).state == "complete"


def test_a_memory_store_raises_after_a_fork() -> None:
    registry = blocking.connect("memory:")
    ticket = registry.start("ann", ["a"])
    said = in_child(lambda: str(registry.status(ticket.scan_id)))
    assert said.startswith(StorageMisconfigured.__name__)
    assert registry.status(ticket.scan_id).state == "pending"
