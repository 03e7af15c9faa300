"""RQ: ``rq worker --with-scheduler scans``."""

import math
import os

from redis import Redis
from rq import Queue, Retry
from service import KEPT, STORE, STRATEGIES

import oppscan.sync as oppscan

queue = Queue("scans", connection=Redis.from_url(os.environ["BROKER_URL"]))
registry = oppscan.connect(STORE, ttl=KEPT)  # made before RQ forks; every work horse connects


def start_scan(user: str, params: dict[str, object]) -> str:
    """Start a scan, in the web process."""
    ticket = registry.start(user, STRATEGIES, params=params)
    if ticket.must_run:
        queue.enqueue(run_scan, ticket.scan_id, retry=Retry(max=3))  # when a work horse dies
    return ticket.scan_id


def run_scan(scan_id: str) -> Retry | None:
    """Run what has no outcome yet."""
    try:
        oppscan.StrategyRunner(registry, STRATEGIES).resume(scan_id)
    except oppscan.ScanAlreadyClaimed as held:  # delivered twice, or its worker just died
        return Retry(max=100, interval=math.ceil(held.retry_after))
    except oppscan.ScanFinished:
        pass
    return None
