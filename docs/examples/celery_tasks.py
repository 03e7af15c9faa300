"""Celery: ``celery -A celery_tasks worker``."""

import os

from celery import Celery, Task
from service import KEPT, STORE, STRATEGIES

import oppscan.sync as oppscan

app = Celery("scans", broker=os.environ["BROKER_URL"])
app.conf.task_acks_late = True  # the task of a worker that died
app.conf.task_reject_on_worker_lost = True  # is delivered again

registry = oppscan.connect(STORE, ttl=KEPT)  # made before Celery forks; every child connects
runner = oppscan.StrategyRunner(registry, STRATEGIES)


def start_scan(user: str, params: dict[str, object]) -> str:
    """Start a scan, in the web process."""
    ticket = registry.start(user, STRATEGIES, params=params)
    if ticket.must_run:
        run_scan.delay(ticket.scan_id)
    return ticket.scan_id


@app.task(bind=True, max_retries=None)
def run_scan(self: Task, scan_id: str) -> None:
    """Run what has no outcome yet."""
    try:
        runner.resume(scan_id)
    except oppscan.ScanAlreadyClaimed as held:  # delivered twice, or its worker just died
        raise self.retry(countdown=held.retry_after) from held
    except oppscan.ScanFinished:
        pass
