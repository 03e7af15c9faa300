"""arq: ``arq arq_tasks.WorkerSettings``."""

import os
from typing import Any

from arq import ArqRedis, Retry, cron
from arq.connections import RedisSettings
from service import KEPT, STORE, STRATEGIES

import oppscan

BROKER = RedisSettings.from_dsn(os.environ["BROKER_URL"])


async def start_scan(
    registry: oppscan.ScanRegistry, queue: ArqRedis, user: str, params: dict[str, object]
) -> str:
    """Start a scan, in the web process."""
    ticket = await registry.start(user, STRATEGIES, params=params)
    if ticket.must_run:
        await queue.enqueue_job("run_scan", ticket.scan_id)
    return ticket.scan_id


async def run_scan(context: dict[str, Any], scan_id: str) -> None:
    """Run what has no outcome yet."""
    try:
        await context["runner"].resume(scan_id)
    except oppscan.ScanAlreadyClaimed as held:  # delivered twice, or its worker just died
        raise Retry(defer=held.retry_after) from held
    except oppscan.ScanFinished:
        pass


async def resume_stalled(context: dict[str, Any]) -> None:
    """Enqueue what a dead worker held: arq itself delivers it again after ``job_timeout``."""
    for scan in await context["registry"].stalled():
        await context["redis"].enqueue_job("run_scan", scan.scan_id)


async def startup(context: dict[str, Any]) -> None:
    registry = context["registry"] = oppscan.connect(STORE, ttl=KEPT)
    context["runner"] = oppscan.StrategyRunner(registry, STRATEGIES)


async def shutdown(context: dict[str, Any]) -> None:
    await context["runner"].aclose(drain=0)  # releases what is under way
    await context["registry"].aclose()


class WorkerSettings:
    redis_settings = BROKER
    functions = [run_scan]
    cron_jobs = [cron(resume_stalled, second=set(range(0, 60, 5)))]
    on_startup = startup
    on_shutdown = shutdown
    max_tries = 100
