"""Daemon threads for blocking strategies.

Laws
- A job's thread is never killed, for that cannot be done; a job that outlived its time is
  *abandoned*: its answer is dropped, its place is free, and its thread is counted as hung until
  the job ends after all.
- At most ``HUNG_LIMIT`` threads hang; then jobs are refused by name, rather than fill the process.
  Any job may hang, so whoever starts no more than there `has_room` for never has more threads.
- Whatever a job raises, SystemExit and KeyboardInterrupt included, is its answer.
- Threads are daemons, so a hung one never keeps the process from ending. One without a job ends
  after ``IDLE_FOR`` seconds.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Final

from attrs import define

from oppscan.errors import OppscanError
from oppscan.forks import watch_forks

HUNG_LIMIT: Final = 32

IDLE_FOR: Final = 3.0


class TooManyHungThreads(OppscanError):
    """Too many blocking strategies outlived their time and still hold their threads."""


Done = Callable[[object, BaseException | None], None]


@define(eq=False)
class Job:
    """A call on its way: ``done(answer, error)`` is called once, in the job's thread."""

    call: Callable[[], object]
    done: Done
    context: contextvars.Context
    ended: bool = False
    abandoned: bool = False


class BlockingThreads:
    """Threads that are started when they are needed, and kept for the next job."""

    def __init__(self, name: str, hung_limit: int = HUNG_LIMIT) -> None:
        self._name = name
        self._limit = hung_limit
        self._begin()
        watch_forks(self, BlockingThreads._begin)

    def _begin(self) -> None:
        """Start with no threads: a fork carries none over."""
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.RLock()  # the runner's end may come within, by garbage collection
        self._idle = 0
        self._threads = 0
        self._busy = 0
        self._hung = 0
        self._closed = False

    @property
    def hung(self) -> int:
        """How many threads are held by abandoned jobs."""
        return self._hung

    @property
    def has_room(self) -> bool:
        """Whether one more job could hang; or none could be started at all."""
        return self._busy < self._limit or self._hung >= self._limit

    def start(self, call: Callable[[], object], done: Done) -> Job:
        """Run ``call`` in a thread; raises `TooManyHungThreads`."""
        job = Job(call, done, contextvars.copy_context())
        with self._lock:
            if self._hung >= self._limit:
                msg = (
                    f"{self._hung} blocking strategies outlived their time and still hold their "
                    "threads; no more are started until one of them ends"
                )
                raise TooManyHungThreads(msg)
            self._closed = False
            self._busy += 1
            if self._idle:
                self._idle -= 1
            else:
                self._threads += 1
                name = f"{self._name} {self._threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        self._jobs.put(job)
        return job

    def abandon(self, job: Job) -> None:
        """Count a job's thread as hung until the job ends."""
        with self._lock:
            if not job.ended and not job.abandoned:
                job.abandoned = True
                self._hung += 1

    def close(self) -> None:
        """Let idle threads end; busy ones end with their job."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, 0
        for _ in range(idle):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            answer: object = None
            error: BaseException | None = None
            try:
                answer = job.context.run(job.call)
            except BaseException as raised:  # noqa: BLE001 - whatever it is, it is the answer
                error = raised
            with self._lock:
                job.ended = True
                self._busy -= 1
                self._hung -= job.abandoned
                closing = self._closed
                self._idle += not closing
            job.done(answer, error)
            del answer, error, job
            if closing:
                return

    def _next(self) -> Job | None:
        """Wait for a job; None where this thread is to end."""
        while True:
            try:
                return self._jobs.get(timeout=IDLE_FOR)
            except queue.Empty:
                with self._lock:
                    if self._idle:  # else a job is on its way to one of those that wait
                        self._idle -= 1
                        return None
