"""The example that spreads one scan over many workers of a queue (arq)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.rig import LEASE, OWNER, PARAMS, PATIENCE, Hosts, hosts, until

WORKERS = 4
NAMES = [f"strategy-{number}" for number in range(1, 15)]
START = f"""
import asyncio, arq, arq_tasks, service, oppscan, fan_out as e
async def main():
    queue = await arq.create_pool(arq_tasks.BROKER)
    async with oppscan.connect(service.STORE, ttl=service.KEPT) as registry:
        print(await e.start_scan(registry, queue, {OWNER!r}, {PARAMS!r}))
    await queue.aclose()
asyncio.run(main())
"""


@pytest.fixture
def place(tmp_path: Path, redis_url: str) -> Iterator[Hosts]:
    with hosts(Hosts, tmp_path, redis_url, redis_url) as place:
        yield place


def _begin(place: Hosts) -> tuple[int, str]:
    """Start workers, a coordinator and a scan, and wait until only the held searches run."""
    for _ in range(WORKERS):
        place.spawn("arq", "fan_out.Worker")
    coordinator = place.spawn("arq", "fan_out.Coordinator")
    scan_id = place.run(START)
    assert until(lambda: _all_but_the_held(place, scan_id))
    return coordinator.pid, scan_id


def _all_but_the_held(place: Hosts, scan_id: str) -> bool:
    completed = place.registry.status(scan_id).progress.strategies_completed
    return completed == len(NAMES) - 2 and len(place.ran()) == len(NAMES)


def test_g13_a_killed_coordinator_is_replaced_and_no_search_is_repeated(place: Hosts) -> None:
    first, scan_id = _begin(place)
    os.kill(first, signal.SIGKILL)
    assert until(lambda: place.registry.status(scan_id).stalled, LEASE + 1, 0.002)
    place.spawn("arq", "fan_out.Coordinator")
    assert until(lambda: not place.registry.status(scan_id).stalled)
    place.let_end()
    status = place.registry.wait(scan_id, timeout=PATIENCE)
    assert (status.state, status.attempts) == ("complete", 2)
    found = place.registry.results(scan_id).opportunities
    assert sorted(str(item["of"]) for item in found) == sorted(NAMES)
    assert place.ran() == dict.fromkeys(NAMES, 1)
    processes = {line.split()[1] for line in place.ledger.read_text().splitlines()}
    assert len(processes) == WORKERS, "every worker took part"


def test_a_killed_worker_costs_its_own_search_only(place: Hosts) -> None:
    place.env["SEARCH_TIMEOUT"] = "6"
    _, scan_id = _begin(place)
    lines = [line.split() for line in place.ledger.read_text().splitlines()]
    (victim,) = [process for name, process in lines if name == NAMES[-1]]
    os.kill(int(victim), signal.SIGKILL)
    place.let_end()
    status = place.registry.wait(scan_id, timeout=PATIENCE)
    assert (status.state, status.attempts) == ("complete", 1)
    assert status.outcome(NAMES[-1]).state == "timed_out"
    assert status.progress.succeeded == len(NAMES) - 1
