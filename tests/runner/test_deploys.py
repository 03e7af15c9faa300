"""Deploys and crashes: what a process that ends, however it ends, leaves to the next one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import oppscan.sync as blocking
from oppscan import OutcomeState, ScanFinished, ScanNotFound, ScanState, ScanStatus
from tests.runner.hosts import OWNER, POLICY, Work
from tests.runner.rig import states_of, until

ROOT = Path(__file__).parent.parent.parent
HOSTS = ["runs_on_a_loop", "runs_in_the_main_thread", "runs_in_the_background", "serves_http"]


class Place:
    """A database and a ledger, the hosts that use them, and the test's own view."""

    def __init__(self, folder: Path) -> None:
        self.database = f"sqlite:///{folder / 'scans.db'}"
        self.ledger = folder / "ledger"
        self.registry = blocking.connect(self.database, ttl=POLICY)
        self.hosts: list[subprocess.Popen[bytes]] = []

    def spawn(self, role: str) -> subprocess.Popen[bytes]:
        """Start a host."""
        command = [sys.executable, "-m", "tests.runner.hosts", role, self.database]
        host = subprocess.Popen([*command, str(self.ledger)], cwd=ROOT)
        self.hosts.append(host)
        if role == "serves_http":
            port = self.ledger.with_suffix(".port")
            assert until(lambda: port.exists() and port.read_text())
            assert until(lambda: self._post(port.read_text()))
        return host

    def _post(self, port: str) -> bool:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/", method="POST")
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                return bool(answer.status == 202)
        except OSError:
            return False

    def under_way(self) -> bool:
        """Whether the quick ones are through and the others run."""
        try:
            status = self.registry.latest(OWNER)
        except ScanNotFound:
            return False
        return Counter(states_of(status).values()) == {"found": 2, "running": 2}

    def ran(self) -> Counter[str]:
        """Count how often each strategy was started."""
        return Counter(self.ledger.read_text().split())

    def resume(self, scan_id: str) -> ScanStatus:
        """Run the rest in this process."""
        self.ledger.with_suffix(".go").touch()
        with blocking.StrategyRunner(self.registry, Work(str(self.ledger)).strategies) as runner:
            return runner.resume(scan_id)

    def close(self) -> None:
        for host in self.hosts:
            host.kill()
            host.wait(10)
        self.registry.close()


@pytest.fixture
def place(tmp_path: Path, nothing_left_behind: None) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


@pytest.mark.parametrize("role", HOSTS)
def test_g13_sigterm_releases_the_scan_at_once_and_another_worker_resumes_it(
    place: Place, role: str
) -> None:
    host = place.spawn(role)
    assert until(place.under_way)
    scan_id = place.registry.latest(OWNER).scan_id
    began = time.monotonic()
    host.send_signal(signal.SIGTERM)
    code = host.wait(15)
    assert time.monotonic() - began < 6
    assert code in {-signal.SIGTERM, 0}
    status = place.registry.status(scan_id)
    assert (status.state, status.stalled, status.attempts) == (ScanState.RUNNING, True, 1)
    assert place.registry.results(scan_id, partial=True).opportunities
    status = place.resume(scan_id)
    assert set(states_of(status).values()) == {"found"}
    ran = place.ran()
    assert (ran["quick"], ran["quick_async"]) == (1, 1)
    if role == "runs_in_the_main_thread":
        assert place.registry.latest("bob").stalled
    assert len(place.registry.results(scan_id).opportunities) == 4


@pytest.mark.parametrize("role", ["runs_in_a_pool_of_its_own", "exits_without_closing"])
def test_sigterm_releases_at_once_and_waits_for_no_thread_of_the_hosts(
    place: Place, role: str
) -> None:
    host = place.spawn(role)
    assert until(place.under_way)
    scan_id = place.registry.latest(OWNER).scan_id
    began = time.monotonic()
    host.send_signal(signal.SIGTERM)
    assert until(lambda: place.registry.status(scan_id).stalled, within=POLICY.lease * 0.7)
    assert host.wait(15) in {-signal.SIGTERM, 0}
    assert time.monotonic() - began < 4
    assert place.registry.status(scan_id).attempts == 1


def test_sigterm_with_nothing_to_release_ends_the_host(place: Place) -> None:
    host = place.spawn("idles_on_a_loop")
    assert until(place.ledger.exists)
    host.send_signal(signal.SIGTERM)
    assert host.wait(10) == -signal.SIGTERM


@pytest.mark.parametrize("role", HOSTS)
def test_g7_sigkill_leaves_the_scan_stalled_within_one_lease(place: Place, role: str) -> None:
    host = place.spawn(role)
    assert until(place.under_way)
    scan_id = place.registry.latest(OWNER).scan_id
    host.send_signal(signal.SIGKILL)
    host.wait(10)
    began = time.monotonic()
    assert until(lambda: place.registry.status(scan_id).stalled)
    assert time.monotonic() - began < POLICY.lease + 1.0
    status = place.resume(scan_id)
    assert set(states_of(status).values()) == {"found"}
    assert (place.ran()["quick"], place.ran()["quick_async"]) == (1, 1)


def test_g13_a_scan_that_kills_every_worker_is_given_up(place: Place) -> None:
    scan_id = place.registry.start(OWNER, ["waits"]).scan_id
    with place.registry.claim(scan_id) as claim:
        claim.release()
    for attempt in range(1, 4):
        assert until(lambda: place.registry.status(scan_id).stalled)
        assert place.spawn("kills_itself").wait(20) == -signal.SIGKILL
        assert place.ran() == {"waits": attempt}
    assert until(lambda: place.registry.status(scan_id).stalled)
    with (
        blocking.StrategyRunner(place.registry, Work(str(place.ledger)).strategies) as runner,
        pytest.raises(ScanFinished),
    ):
        runner.resume(scan_id)
    status = place.registry.status(scan_id)
    assert status.state is ScanState.FAILED
    assert "abandoned after 3 attempts" in str(status.error)
    assert place.ran() == {"waits": 3}


def test_a_runner_works_in_a_forked_child(place: Place) -> None:
    assert place.spawn("forks").wait(20) == 0
    assert place.ledger.read_text() == "empty"


@pytest.mark.parametrize("role", HOSTS)
def test_cancel_from_another_process_stops_a_scan_within_one_heartbeat(
    place: Place, role: str
) -> None:
    place.spawn(role)
    assert until(place.under_way)
    scan_id = place.registry.latest(OWNER).scan_id
    began = time.monotonic()
    place.registry.cancel(scan_id)
    status = place.registry.wait(scan_id, timeout=10)
    assert time.monotonic() - began < POLICY.lease / 4 + 1.0
    assert status.state is ScanState.CANCELLED
    assert status.outcome("waits").state is OutcomeState.CANCELLED
    found = place.registry.results(scan_id, partial=True).opportunities
    assert sorted(str(item["of"]) for item in found) == ["quick", "quick_async"]
