"""Worker processes for tests: ``python -m tests.workers ROLE DATABASE ARGUMENTS…``.

They report on standard output, one line for each acknowledged write.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from oppscan.sync import ScanRegistry, TTLPolicy, connect

POLICY = TTLPolicy(lease=0.5)


def registry_on(database: str) -> ScanRegistry:
    return connect(f"sqlite:///{database}", ttl=POLICY, op_timeout=20)


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - this is how the parent is told


def race(database: str, go: str, owners: str) -> None:
    """Start one scan for each owner, as soon as the file ``go`` is there."""
    registry = registry_on(database)
    registry.ping()
    say("ready")
    while not Path(go).exists():
        time.sleep(0.001)
    for number in range(int(owners)):
        ticket = registry.start(f"owner {number}", ["a"])
        say(ticket.scan_id, "joined" if ticket.joined else "created")


def work(database: str, scan_id: str) -> None:
    """Claim a scan and finish its strategies one by one."""
    with registry_on(database).claim(scan_id) as scan:
        for name in scan.remaining:
            scan.strategy_finished(name, [{"of": name}])
            say(name)
    say("done")


if __name__ == "__main__":
    roles: dict[str, Callable[..., None]] = {"race": race, "work": work}
    roles[sys.argv[1]](*sys.argv[2:])
