"""Blocking strategies in an executor: process pools, loky, a Dask cluster.

Laws
- A worker process that dies fails what it ran, not its neighbours: all that a broken executor
  had under way is run once more, each alone in an executor of its own (or one after the other in
  the executor that was given), and what breaks that one too is the culprit and fails by name.
- A broken executor that came from a factory is replaced at once. One with a hung task is
  retired: it takes no more, and its processes are killed as soon as nothing else runs there.
- An executor that the host made is never shut down or killed. "Cancelled" is never taken for
  "stopped": a task that the executor gave up without being asked counts as broken.
- What a strategy raises crosses the processes as text, so that no exception can fail to unpickle.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Generator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from socket import gethostname
from typing import Final

from attrs import define
from msgspec import Struct

from oppscan.clock import elapsed
from oppscan.errors import InvalidInput, OppscanError
from oppscan.forks import watch_forks
from oppscan.inputs import describe_error
from oppscan.model import JSON
from oppscan.runner.dask import submit
from oppscan.runner.killing import kill
from oppscan.runner.places import Running, Task
from oppscan.runner.strategies import (
    Collected,
    ContextToken,
    FileToken,
    Kind,
    ScanContext,
    StrategyLate,
    StrategyRaised,
    call_blocking,
)
from oppscan.runner.threads import HUNG_LIMIT, BlockingThreads, Done, TooManyHungThreads

ExecutorSource = Executor | Callable[[], Executor]

HOMEWARD: Final = 0.5
"""Seconds that a generator stops early, so that what it yielded gets home before its timeout."""

LANES: Final = 4
"""How many suspects run at once, each alone: a hung one must not hold up all the others."""

_MOMENT: Final = 1.0

GONE: Final = (BrokenExecutor, CancelledError)
"""What a task ends with when its executor, not the strategy, is to blame."""

GONE_BY_NAME: Final = frozenset({"distributed.scheduler.KilledWorker"})
"""The same, of libraries that need not be there. Dask's names all that ran on the worker."""


class WorkerDied(OppscanError):
    """The process that ran a strategy died, twice, the second time with nothing else in it."""


class Answer(Struct, frozen=True):
    """What comes back from another process."""

    value: object = None
    found: tuple[object, ...] = ()
    error: str | None = None
    late: bool = False


class Parcel(Struct, frozen=True):
    """What is sent to another process."""

    call: Callable[..., object]
    kind: Kind
    takes_context: bool
    owner: str
    scan_id: str
    name: str
    params: JSON
    metadata: JSON
    seconds: float
    ends_at: float
    host: str
    flag: str

    def run(self) -> Answer:
        """Run the strategy; whatever it raises comes back as text."""
        token = FileToken(self.flag)
        near = self.host == gethostname()  # the monotonic clock is one for a whole host
        ends_at = self.ends_at if near else elapsed() + self.seconds
        deadline = ends_at - min(HOMEWARD, self.seconds / 4)
        context = ScanContext(
            self.owner, self.scan_id, self.name, self.params, self.metadata, deadline, token
        )
        bound = partial(self.call, context) if self.takes_context else self.call
        collected = Collected()
        try:
            value = call_blocking(bound, self.kind, collected, ContextToken(context))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer
            return Answer(None, tuple(collected.items), describe_error(error, "error"))
        if self.kind is Kind.GENERATOR and context.cancelled:
            return Answer(None, tuple(collected.items), late=True)
        return Answer(value)


@define(eq=False)
class _Generation:
    """One executor, from its making to its end."""

    executor: Executor
    running: int = 0
    hung: int = 0
    retired: bool = False


class ExecutorPlace:
    """Runs tasks in an executor that is given, or made anew by a factory whenever it must be."""

    def __init__(self, source: ExecutorSource, threads: BlockingThreads) -> None:
        if not isinstance(source, Executor) and not callable(source):
            msg = f"executor must be an Executor or a factory of one, not {source!r}"
            raise InvalidInput(msg)
        self._source = source
        self._threads = threads
        self._parents: list[Executor] = []
        self._begin()
        watch_forks(self, ExecutorPlace._begin_in_child)

    def _begin(self) -> None:
        """Start with no executor made."""
        self._lock = threading.Lock()
        self._current: _Generation | None = None
        self._lanes = threading.Semaphore(LANES if self.owned else 1)
        self._idle: list[Executor] = []
        self._singles: set[Executor] = set()
        self._folder: str | None = None
        self._numbers = count()
        self._closed = False

    def _begin_in_child(self) -> None:
        """Start afresh; the parent's executors are neither used, killed nor tidied away here."""
        self._parents += [*self._singles, *([self._current.executor] if self._current else [])]
        self._begin()

    def start(self, task: Task, done: Done) -> Running:
        """Submit a task; raises `TooManyHungThreads` where a given executor is full of them."""
        return _InExecutor(self, task, done)

    def close(self) -> None:
        """End the executor, where it is ours, with its processes."""
        with self._lock:
            self._closed = True
            generation, self._current = self._current, None
            folder, self._folder = self._folder, None
            ours = [*self._singles, *([generation.executor] if generation else [])]
            self._singles.clear()
            self._idle.clear()
        self._threads.close()
        for executor in ours if self.owned else ():
            kill(executor)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def owned(self) -> bool:
        """Whether executors are ours to end and to replace."""
        return not isinstance(self._source, Executor)

    def make(self) -> Executor:
        """Give the host's executor, or a new one of the factory's."""
        if isinstance(self._source, Executor):
            return self._source
        made = self._source()
        if not isinstance(made, Executor):
            msg = f"the executor factory made {type(made).__name__}, not an Executor"
            raise InvalidInput(msg)
        return made

    def flag(self) -> str:
        """Name a file whose coming into being tells one task to stop."""
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.mkdtemp(prefix="oppscan-")
            return str(Path(self._folder, str(next(self._numbers))))

    def enter(self) -> _Generation:
        """Take a place in the current executor."""
        with self._lock:
            generation = self._current
            if generation is None or generation.retired:
                generation = self._current = _Generation(self.make())
            if generation.hung >= HUNG_LIMIT:
                msg = f"{generation.hung} strategies outlived their time in the given executor"
                raise TooManyHungThreads(msg)
            generation.running += 1
            return generation

    def leave(self, generation: _Generation, *, hung: bool = False, broken: bool = False) -> None:
        """Give the place back; end an executor that is retired once nothing but hung ones run."""
        with self._lock:
            generation.running -= 1
            generation.hung += hung
            generation.retired |= self.owned and (hung or broken)
            over = generation.retired and not generation.running
        if over:
            kill(generation.executor)

    def returned(self, generation: _Generation) -> None:
        """Note that a hung task has ended after all."""
        with self._lock:
            generation.hung -= 1

    @contextmanager
    def alone(self) -> Generator[Executor]:
        """Give an executor in which nothing else runs; a few at a time, reused until one breaks."""
        with self._lanes:
            with self._lock:
                executor = self._idle.pop() if self._idle else None
            if executor is None:
                executor = self.make()
                with self._lock:
                    self._singles.add(executor)
            whole = False
            try:
                yield executor
                whole = True
            finally:
                with self._lock:
                    kept = whole and not self._closed
                    if kept:
                        self._idle.append(executor)
                    else:
                        self._singles.discard(executor)
                if self.owned and not kept:
                    kill(executor)

    def second_try(self, again: Callable[[], object], done: Done) -> None:
        """Run what a broken executor had under way once more, off the caller's thread."""
        try:
            self._threads.start(again, done)
        except TooManyHungThreads as error:
            done(None, error)


class _InExecutor:
    """A task in an executor."""

    def __init__(self, place: ExecutorPlace, task: Task, done: Done) -> None:
        self._place = place
        self._task = task
        self._done = done
        self._flag = place.flag()
        self._ends_at = elapsed() + task.seconds
        self._lock = threading.Lock()
        self._over = False
        self._generation: _Generation | None = None
        self._future: Future[Answer] | None = None
        self._begin()

    def abandon(self) -> None:
        """Tell the strategy to stop, and count it as hung where it still runs."""
        if not self._settle():
            return
        self._task.token.set()
        with suppress(OSError):
            Path(self._flag).touch()
        generation, future = self._take_place(), self._future
        if generation is not None and future is not None:
            waiting = _taken_back(future)
            self._place.leave(generation, hung=not waiting)
            if not waiting:
                future.add_done_callback(lambda _: self._place.returned(generation))

    def _parcel(self) -> Parcel:
        strategy, context = self._task.strategy, self._task.context
        return Parcel(
            strategy.call,
            strategy.kind,
            strategy.takes_context,
            context.owner,
            context.scan_id,
            context.name,
            context.params,
            context.metadata,
            max(0.0, self._ends_at - elapsed()),
            self._ends_at,
            gethostname(),
            self._flag,
        )

    def _begin(self) -> None:
        generation = self._place.enter()
        try:
            future = submit(generation.executor, self._parcel().run)
        except (BrokenExecutor, RuntimeError):  # broken, or shut down by its host
            self._again(generation)
            return
        self._generation, self._future = generation, future
        future.add_done_callback(self._ended)

    def _ended(self, future: Future[Answer]) -> None:
        generation = self._take_place()
        if generation is None:
            return  # abandoned: its place was given back
        error = CancelledError() if future.cancelled() else future.exception()
        if _is_gone(error):
            self._again(generation)
            return
        self._place.leave(generation)
        if self._settle():
            self._give(None if error else future.result(), error)

    def _take_place(self) -> _Generation | None:
        """Give the place that is to be given back, to the first who asks."""
        with self._lock:
            generation, self._generation = self._generation, None
        return generation

    def _again(self, generation: _Generation) -> None:
        """The executor broke: run once more, with nothing else beside it."""
        self._place.leave(generation, broken=True)
        self._place.second_try(self._run_alone, self._deliver)

    def _run_alone(self) -> object:
        answer = self._answer_alone()
        return None if answer is None else self._unpack(answer)

    def _answer_alone(self) -> Answer | None:
        with self._place.alone() as executor:
            if self._over:
                return None  # nobody waits for it any more
            left = self._ends_at - elapsed()
            try:
                future = submit(executor, self._parcel().run)
                return future.result(max(0.0, left) + _MOMENT)  # its runner gives up first
            except Exception as error:
                if not _is_gone(error) and not isinstance(error, RuntimeError):
                    raise
                msg = f"the process that ran it died, twice ({type(error).__name__})"
                raise WorkerDied(msg) from error

    def _deliver(self, answer: object, error: BaseException | None) -> None:
        if self._settle():
            self._done(answer, error)

    def _settle(self) -> bool:
        """Let the first end of the task count."""
        with self._lock:
            first, self._over = not self._over, True
        return first

    def _give(self, answer: Answer | None, error: BaseException | None) -> None:
        """Turn an answer into what is recorded, off the executor's own thread."""
        if answer is None:
            self._done(None, error)
        else:
            self._place.second_try(lambda: self._unpack(answer), self._done)

    def _unpack(self, answer: Answer) -> object:
        self._task.collected.items.extend(answer.found)
        if answer.late:
            raise StrategyLate
        if answer.error is not None:
            raise StrategyRaised(answer.error)
        return self._task.finish(answer.value)


def _is_gone(error: BaseException | None) -> bool:
    kind = type(error)
    return isinstance(error, GONE) or f"{kind.__module__}.{kind.__qualname__}" in GONE_BY_NAME


def _taken_back(future: Future[Answer]) -> bool:
    """Tell whether a task could be cancelled before it began."""
    try:
        return future.cancel()
    except Exception:  # noqa: BLE001 - the host's executor; its cluster may be gone
        return False
