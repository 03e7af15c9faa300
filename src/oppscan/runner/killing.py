"""The end of an executor that is ours, and of its processes, whatever they do.

Laws
- An executor may call back with its own lock held (process pools do, from Python 3.12 on), and
  wants that lock to shut down; so it is shut down by a thread of its own.
- Its processes are killed first, for which no lock is needed: even where Python ends before that
  thread does, nothing that hangs is left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from multiprocessing import active_children
from typing import Protocol, cast


class _Process(Protocol):
    def kill(self) -> None: ...


def kill(executor: Executor) -> None:
    """End an executor of ours with its processes, whatever they do; waits for nothing."""
    processes: Mapping[object, _Process] = getattr(executor, "_processes", None) or {}
    _kill_all(processes)
    ending = threading.Thread(
        target=_shut_down, args=(executor, processes), name="oppscan executor's end", daemon=True
    )
    with suppress(RuntimeError):  # no new threads at Python's exit, which itself shuts it down
        ending.start()


def _shut_down(executor: Executor, processes: Mapping[object, _Process]) -> None:
    kill_workers = getattr(executor, "kill_workers", lambda: None)  # from Python 3.14 on
    with suppress(Exception):
        kill_workers()
    with suppress(Exception):
        try:
            executor.shutdown(wait=False, cancel_futures=True)
        except TypeError:  # loky's
            cast("Callable[..., None]", executor.shutdown)(wait=False, kill_workers=True)
    _kill_all(processes)  # those that a late task started
    active_children()  # has those that are dead give back what the system keeps of them


def _kill_all(processes: Mapping[object, _Process]) -> None:
    for process in list(processes.values()):
        with suppress(Exception):
            process.kill()
