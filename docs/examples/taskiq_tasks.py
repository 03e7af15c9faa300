"""taskiq: ``taskiq worker taskiq_tasks:broker``."""

import asyncio
import os
from contextlib import suppress

from service import KEPT, STORE, STRATEGIES
from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

import oppscan

broker = RedisStreamBroker(os.environ["BROKER_URL"])
registry = oppscan.connect(STORE, ttl=KEPT)
runner = oppscan.StrategyRunner(registry, STRATEGIES)


async def start_scan(user: str, params: dict[str, object]) -> str:
    """Start a scan, in the web process."""
    ticket = await registry.start(user, STRATEGIES, params=params)
    if ticket.must_run:
        await run_scan.kiq(ticket.scan_id)
    return ticket.scan_id


@broker.task
async def run_scan(scan_id: str) -> None:
    """Run what has no outcome yet."""
    while True:
        try:
            await runner.resume(scan_id)
        except oppscan.ScanAlreadyClaimed as held:  # delivered twice, or its worker just died
            await asyncio.sleep(held.retry_after)
        except oppscan.ScanFinished:
            return


async def resume_stalled() -> None:
    """Take over what a dead worker held: the broker itself looks only when new tasks arrive."""
    while True:
        with suppress(oppscan.StorageError):
            await runner.recover()
        await asyncio.sleep(KEPT.lease)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def startup(state: TaskiqState) -> None:
    state.looking = asyncio.create_task(resume_stalled())


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def shutdown(state: TaskiqState) -> None:
    state.looking.cancel()
    await runner.aclose(drain=0)  # releases what is under way
    await registry.aclose()
