"""One scan on many workers: ``arq fan_out.Coordinator``, and many times ``arq fan_out.Worker``.

A coordinator holds the scan. Each of its strategies is a job for any worker, awaited.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import arq_tasks
from arq import ArqRedis, cron
from arq.jobs import Job
from searches import NAMES, TIMEOUT, search
from service import KEPT, STORE

import oppscan

Found = list[dict[str, object]]


def spread(name: str, queue: ArqRedis) -> Callable[[oppscan.ScanContext], Awaitable[Found]]:
    """Make a strategy that is run by whichever worker is free."""

    async def on_a_worker(context: oppscan.ScanContext) -> Found:
        job_id = f"{context.scan_id} {name}"  # who resumes finds what runs, or ran, already
        arguments = (name, context.params)
        await queue.enqueue_job("run_search", *arguments, _job_id=job_id, _queue_name="searches")
        return await Job(job_id, queue, "searches").result(context.remaining, poll_delay=0.1)

    return on_a_worker


async def start_scan(
    registry: oppscan.ScanRegistry, queue: ArqRedis, user: str, params: dict[str, object]
) -> str:
    """Start a scan, in the web process."""
    ticket = await registry.start(user, NAMES, params=params)
    if ticket.must_run:
        await queue.enqueue_job("run_scan", ticket.scan_id)
    return ticket.scan_id


async def startup(context: dict[str, Any]) -> None:
    registry = context["registry"] = oppscan.connect(STORE, ttl=KEPT)
    strategies = {name: spread(name, context["redis"]) for name in NAMES}
    context["runner"] = oppscan.StrategyRunner(
        registry, strategies, max_concurrency=len(NAMES), strategy_timeout=TIMEOUT
    )


class Coordinator:
    redis_settings = arq_tasks.BROKER
    functions = [arq_tasks.run_scan]
    cron_jobs = [cron(arq_tasks.resume_stalled, second=set(range(0, 60, 5)))]
    on_startup = startup
    on_shutdown = arq_tasks.shutdown
    max_tries = 100


async def run_search(_: dict[str, Any], name: str, params: dict[str, object]) -> Found:
    """Run one strategy, on any worker."""
    return await search(name, params)


class Worker:
    redis_settings = arq_tasks.BROKER
    queue_name = "searches"
    functions = [run_search]
    max_jobs = 1
    job_timeout = TIMEOUT
