"""`Hosts`: the processes of an example, the store they share, and the test's own view of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import oppscan.sync as blocking
from oppscan import ScanStatus

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
WORK = Path(__file__).parent / "work"

LEASE = 2.0
PATIENCE = 40.0
OWNER = "ann"
PARAMS = {"symbols": ["IBM"]}
FOUND = ["quick", "quick_async", "waits"]


def until(truth: Callable[[], object], patience: float = PATIENCE, pause: float = 0.02) -> bool:
    """Look again and again until something is true; tell whether it became so in time."""
    deadline = time.monotonic() + patience
    while not truth():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


class Hosts:
    """The processes of one example."""

    def __init__(self, folder: Path, store: str, broker: str = "") -> None:
        self.folder = folder
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.registry = blocking.connect(store)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.log = folder / "log"
        self.env = {
            **os.environ,
            "STORE_URL": store,
            "BROKER_URL": broker,
            "LEDGER": str(self.ledger),
            "LEASE": str(LEASE),
            "EXAMPLES": str(EXAMPLES),
            "HOME": str(folder),  # gunicorn puts a socket there
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(
                [str(WORK), str(EXAMPLES), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
        }

    def spawn(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start ``python -m module arguments…`` in a session of its own."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=self.folder,
                env=self.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def run(self, code: str) -> str:
        """Run a few lines as the web process would, and give what they print."""
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    # --- What strategies do ---------------------------------------------------------------------

    def ran(self) -> Counter[str]:
        """Count how often each strategy was started."""
        return Counter(line.split()[0] for line in self.ledger.read_text().splitlines())

    def holders(self) -> list[int]:
        """List the processes that run, or ran, the strategy that waits; the latest last."""
        lines = [line.split() for line in self.ledger.read_text().splitlines()]
        return [int(process) for name, process in lines if name == "waits"]

    def let_end(self) -> None:
        """Let the strategy that waits end."""
        self.ledger.with_suffix(".go").touch()

    def under_way(self, scan_id: str) -> bool:
        """Tell whether one strategy waits, and all others are through."""
        progress = self.registry.status(scan_id).progress
        return bool(self.holders()) and progress.strategies_completed == len(FOUND) - 1

    # --- The end --------------------------------------------------------------------------------

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(3)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what a worker forked is in its group
            process.wait(10)
        self.registry.close()


H = TypeVar("H", bound=Hosts)


@contextmanager
def hosts(kind: type[H], folder: Path, store: str, broker: str = "") -> Iterator[H]:
    """Give the processes of an example, and print what they logged: pytest shows it on failure."""
    these = kind(folder, store, broker)
    try:
        yield these
    finally:
        these.close()
        print(these.log.read_text()[-8000:])  # noqa: T201


def survives_a_kill(hosts: Hosts, scan_id: str) -> ScanStatus:
    """Kill the process that holds a scan: it reads stalled, another resumes, nothing runs twice."""
    registry = hosts.registry
    assert until(lambda: hosts.under_way(scan_id)), "the scan is not run"
    (holder,) = hosts.holders()
    os.kill(holder, signal.SIGKILL)
    assert until(lambda: registry.status(scan_id).stalled, LEASE + 1, 0.002), "not seen stalled"
    assert len(registry.results(scan_id, partial=True).opportunities) == len(FOUND) - 1
    assert until(lambda: len(hosts.holders()) == 2), "nobody resumed"
    assert hosts.holders()[1] != holder
    assert not registry.status(scan_id).stalled
    hosts.let_end()
    return completes(hosts, scan_id, attempts=2)


def completes(hosts: Hosts, scan_id: str, *, attempts: int) -> ScanStatus:
    """Wait for the end of a scan, and check that all was found, and nothing twice."""
    status = hosts.registry.wait(scan_id, timeout=PATIENCE)
    assert (status.state, status.attempts) == ("complete", attempts)
    found = hosts.registry.results(scan_id).opportunities
    assert sorted(str(item["of"]) for item in found) == FOUND
    assert hosts.ran() == {"quick": 1, "quick_async": 1, "waits": attempts}
    return status
