"""Two versions of oppscan side by side on one store: neither misreads the other.

The next version is this one, copied and changed as a release to come might: its claims note where
they were made, and a scan that is released is ``paused``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import oppscan.sync as blocking
from oppscan import CorruptRecord, TTLPolicy
from tests.hosts.rig import PATIENCE, until

LEASE = 0.5
POLICY = TTLPolicy(lease=LEASE)
NAMES = ["a", "b", "c"]

MOVES = "    (Move.FINISH, _P)"
RELEASE = "        Move.RELEASE,\n"
CLAIM = "        productive=False,\n        started"
SHOWN = "        error=head.error,\n"
NOTE = '        extra={**head.extra, "claimed_on": "rack 7"},\n'

CHANGES = (
    ("model.py", "    CANCELLED = ", '    PAUSED = "paused"\n    CANCELLED = ', 2),
    ("model.py", "({ScanState.PENDING,", "({ScanState.PAUSED, ScanState.PENDING,", 1),
    ("model.py", "    eta: datetime", "    claimed_on: object = None\n    eta: datetime", 1),
    ("record.py", "({ScanState.PENDING.value,", '({"paused", ScanState.PENDING.value,', 1),
    ("lifecycle.py", "RELEASE, _R): (_R,)", "RELEASE, _R): (ScanState.PAUSED,)", 1),
    ("lifecycle.py", MOVES, f"    (Move.CLAIM, ScanState.PAUSED): (_R,),\n{MOVES}", 1),
    ("lifecycle.py", RELEASE, f"{RELEASE}        ScanState.PAUSED,\n", 1),
    ("lifecycle.py", CLAIM, NOTE + CLAIM, 1),
    (
        "views.py",
        "        eta=",
        '        claimed_on=head.extra.get("claimed_on"),\n        eta=',
        1,
    ),
)
"""What the next version changes: file, before, after, and how often it is there."""

PRELUDE = f"""
import json, os
import oppscan.sync as oppscan
registry = oppscan.connect(os.environ["STORE_URL"], ttl=oppscan.TTLPolicy(lease={LEASE}))
def tell(status):
    print(json.dumps(status.to_dict()))
"""


class Next:
    """Workers of the next version."""

    def __init__(self, folder: Path, store: str) -> None:
        package = Path(blocking.__file__).parents[1]
        shutil.copytree(package, folder / "oppscan", ignore=shutil.ignore_patterns("__pycache__"))
        for name, before, after, times in CHANGES:
            file = folder / "oppscan" / name
            text = file.read_text()
            assert text.count(before) == times, f"{name} has changed: where is {before!r}?"
            file.write_text(text.replace(before, after, 1))
        self._env = {**os.environ, "STORE_URL": store, "PYTHONPATH": str(folder)}

    def run(self, code: str, *, exit_code: int = 0) -> Any:  # noqa: ANN401 - what it tells
        """Run a few lines, and give what they tell."""
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + code],
            env=self._env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == exit_code, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    def status(self, scan_id: str) -> dict[str, Any]:
        return dict(self.run(f"tell(registry.status({scan_id!r}))"))


@pytest.fixture
def new(tmp_path: Path, store_url: str) -> Next:
    return Next(tmp_path / "next", store_url)


@pytest.fixture
def registry(store_url: str) -> Iterator[blocking.ScanRegistry]:
    with blocking.connect(store_url, ttl=POLICY) as registry:
        yield registry


def test_g14_a_field_of_the_next_version_is_carried_along(
    registry: blocking.ScanRegistry, new: Next
) -> None:
    scan_id = registry.start("ann", NAMES).scan_id
    assert new.status(scan_id) | {"claimed_on": None} == new.status(scan_id)
    crash = f"""
with registry.claim({scan_id!r}) as scan:
    scan.strategy_finished("a", [{{"by": "next"}}])
    os._exit(7)
"""
    new.run(crash, exit_code=7)
    assert until(lambda: registry.status(scan_id).stalled)
    assert new.status(scan_id)["claimed_on"] == "rack 7"
    with registry.claim(scan_id) as scan:
        assert scan.remaining == ("b", "c")
        scan.strategy_finished("b", [{"by": "this"}])
        scan.heartbeat()
        assert new.status(scan_id)["claimed_on"] == "rack 7"
        scan.strategy_failed("c", "no feed")
    mine = registry.extend(scan_id, 7200)
    theirs = new.status(scan_id)
    assert theirs.pop("claimed_on") == "rack 7"
    assert theirs == mine.to_dict()
    assert registry.results(scan_id).opportunities == ({"by": "next"}, {"by": "this"})


REFUSED: dict[str, Callable[[blocking.ScanRegistry, str], object]] = {
    "status": lambda registry, scan_id: registry.status(scan_id),
    "results": lambda registry, scan_id: registry.results(scan_id, partial=True),
    "claim": lambda registry, scan_id: registry.claim(scan_id).__enter__(),
    "cancel": lambda registry, scan_id: registry.cancel(scan_id),
    "extend": lambda registry, scan_id: registry.extend(scan_id, 7200),
    "wait": lambda registry, scan_id: registry.wait(scan_id, timeout=1),
    "latest": lambda registry, _: registry.latest("ann"),
    "has_active_scan": lambda registry, _: registry.has_active_scan("ann"),
    "start": lambda registry, _: registry.start("ann", NAMES),
}


def test_g14_a_state_of_the_next_version_is_refused_by_name_and_left_alone(
    registry: blocking.ScanRegistry, new: Next
) -> None:
    scan_id = registry.start("ann", NAMES).scan_id
    other = registry.start("bob", NAMES).scan_id
    with registry.claim(other) as scan:
        scan.release()
    new.run(f"""
with registry.claim({scan_id!r}) as scan:
    scan.strategy_finished("a", [{{"by": "next"}}])
    scan.release()
""")
    paused = new.status(scan_id)
    assert (paused["state"], paused["done"]) == ("paused", False)
    for call in REFUSED.values():
        with pytest.raises(CorruptRecord, match=r"newer oppscan.*'paused'.*upgrade this worker"):
            call(registry, scan_id)
    assert new.status(scan_id) == paused, "nothing was changed"
    assert registry.history("ann").items == ()
    assert [status.scan_id for status in registry.stalled()] == [other]
    with blocking.StrategyRunner(registry, dict.fromkeys(NAMES, lambda: None)) as runner:
        assert [status.scan_id for status in runner.recover()] == [other]
    registry.purge()
    new.run(f"""
with registry.claim({scan_id!r}) as scan:
    for name in scan.remaining:
        scan.strategy_finished(name, [])
""")
    status = registry.status(scan_id)
    assert (status.state, status.attempts) == ("complete", 2)
    assert registry.results(scan_id).opportunities == ({"by": "next"},)
