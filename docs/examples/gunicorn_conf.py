"""gunicorn: what a worker does beside answering requests."""

import threading
import time
from contextlib import suppress
from typing import Any

from scans import runner
from service import KEPT

import oppscan

workers = 3


def post_worker_init(worker: Any) -> None:
    """Take over what a worker left behind that died; every worker looks."""
    threading.Thread(target=resume_stalled, daemon=True).start()


def resume_stalled() -> None:
    while True:
        with suppress(oppscan.StorageError):  # the store is down: look again later
            runner.recover()
        time.sleep(KEPT.lease)


def worker_exit(server: Any, worker: Any) -> None:
    """Release what still runs after five seconds, so that another worker resumes it at once."""
    runner.close(drain=5)
