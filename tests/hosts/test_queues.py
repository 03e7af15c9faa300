"""The examples of task queues, run as they are in the documentation, with the real packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from tests.hosts.rig import OWNER, PARAMS, Hosts, completes, hosts, survives_a_kill, until

WORKERS = 2


@frozen
class Queue:
    """How a queue's workers are started, how a scan is, and how its task is sent once more."""

    worker: tuple[str, ...]
    start: str
    again: str


START = f"e.start_scan({OWNER!r}, {PARAMS!r})"

_ARQ = """
import asyncio, arq, service, oppscan, arq_tasks as e
async def main():
    queue = await arq.create_pool(e.BROKER)
    async with oppscan.connect(service.STORE, ttl=service.KEPT) as registry:
        {}
    await queue.aclose()
asyncio.run(main())
"""
_TASKIQ = """
import asyncio, taskiq_tasks as e
async def main():
    await e.broker.startup()
    {}
    await e.broker.shutdown()
asyncio.run(main())
"""

QUEUES = {
    "celery": Queue(
        ("celery", "-A", "celery_tasks", "worker", "--concurrency=2", "--loglevel=INFO"),
        f"import celery_tasks as e; print({START})",
        "import celery_tasks as e; e.run_scan.delay({scan_id!r})",
    ),
    "rq": Queue(
        ("rq.cli", "worker", "--with-scheduler", "--url", "{broker}", "scans"),
        f"import rq_tasks as e; print({START})",
        "import rq_tasks as e; e.queue.enqueue(e.run_scan, {scan_id!r})",
    ),
    "arq": Queue(
        ("arq", "arq_tasks.WorkerSettings"),
        _ARQ.format(f"print(await e.start_scan(registry, queue, {OWNER!r}, {PARAMS!r}))"),
        _ARQ.format("await queue.enqueue_job('run_scan', {scan_id!r})"),
    ),
    "taskiq": Queue(
        ("taskiq", "worker", "taskiq_tasks:broker", "--workers=1"),
        _TASKIQ.format(f"print(await {START})"),
        _TASKIQ.format("await e.run_scan.kiq({scan_id!r})"),
    ),
}


@pytest.fixture
def place(tmp_path: Path, redis_url: str) -> Iterator[Hosts]:
    with hosts(Hosts, tmp_path, redis_url, redis_url) as place:
        yield place


@pytest.fixture(params=QUEUES)
def queue(request: pytest.FixtureRequest, place: Hosts, redis_url: str) -> Queue:
    """Give a queue, with workers that are being started."""
    queue = QUEUES[request.param]
    for number in range(WORKERS):
        names = [f"--hostname=worker{number}@%h"] if request.param == "celery" else []
        module, *arguments = (word.format(broker=redis_url) for word in queue.worker)
        place.spawn(module, *arguments, *names)
    return queue


def test_g13_a_killed_worker_reads_stalled_and_another_one_resumes(
    place: Hosts, queue: Queue
) -> None:
    survives_a_kill(place, place.run(queue.start))


def test_g9_a_task_that_is_delivered_twice_waits_and_runs_nothing_twice(
    place: Hosts, queue: Queue
) -> None:
    scan_id = place.run(queue.start)
    assert until(lambda: place.under_way(scan_id))
    place.run(queue.again.format(scan_id=scan_id))
    assert place.run(queue.start) == scan_id, "an equal request joins"
    place.let_end()
    completes(place, scan_id, attempts=1)
