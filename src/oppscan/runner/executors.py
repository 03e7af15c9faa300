"""Blocking strategies in an executor: process pools, loky, a Dask cluster.

Laws
- A worker process that dies fails what it ran, not its neighbours: all that a broken executor
  had under way is run once more, each alone in an executor of its own (or one after the other in
  the executor that was given), and what breaks that one too is the culprit and fails by name.
- A broken executor that came from a factory is replaced at once. One with a hung task is
  retired: it takes no more, and its processes are killed as soon as nothing else runs there.
- An executor that the host made is never shut down or killed. In place of a pool of processes
  that broke, an equal one is made; of another kind that takes nothing, that is said.
- "Cancelled" is never taken for "stopped": a task that the executor gave up without being asked
  counts as broken.
- Where all executors are one, the given one or those of one cluster, suspects run one after the
  other, and nothing new is started beside them.
- No more is submitted than can begin at once, where the executor tells how much that is: waiting in
  its queue is no part of a strategy's time.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Generator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from concurrent.futures import ThreadPoolExecutor as Threads
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from socket import gethostname
from typing import Final, cast
from weakref import finalize

from oppscan.clock import elapsed
from oppscan.errors import InvalidInput
from oppscan.forks import watch_forks
from oppscan.runner.collected import Collected
from oppscan.runner.dask import is_dask, submit
from oppscan.runner.generation import (
    ExecutorUnusable,
    Generation,
    WorkerDied,
    is_gone,
    taken_back,
)
from oppscan.runner.killing import kill
from oppscan.runner.parcel import Answer, Parcel
from oppscan.runner.places import Running, Task
from oppscan.runner.strategies import FileToken, Kind, StrategyLate, StrategyRaised, Token
from oppscan.runner.threads import BlockingThreads, Done, TooManyHungThreads
from oppscan.runner.twins import twin_of

ExecutorSource = Executor | Callable[[], Executor]

LANES: Final = 4
"""How many suspects run at once, each alone: a hung one must not hold up all the others."""

_MOMENT: Final = 1.0


class ExecutorPlace:
    """Runs tasks in an executor that is given, or made anew by a factory whenever it must be."""

    def __init__(self, source: ExecutorSource, threads: BlockingThreads) -> None:
        if not isinstance(source, Executor) and not callable(source):
            msg = f"executor must be an Executor or a factory of one, not {source!r}"
            raise InvalidInput(msg)
        self._given = source if isinstance(source, Executor) else None
        self._factory = None if isinstance(source, Executor) else source
        self._threads = threads
        self._parents: list[Executor] = []
        self._begin()
        watch_forks(self, ExecutorPlace._begin_in_child)

    def _begin(self) -> None:
        """Start with no executor made."""
        self._lock = threading.RLock()  # the runner's end may come within, by garbage collection
        self._current: Generation | None = None
        self._lanes = threading.Semaphore(LANES)
        self._one = threading.Lock()  # for suspects where all executors are one
        self._shared = self._factory is None
        self._suspects = 0
        self._idle: list[Executor] = []
        self._singles: set[Executor] = set()
        self._folder: str | None = None
        self._tidy: finalize[[str, bool], ExecutorPlace] | None = None
        self._numbers = count()
        self._closed = False

    def _begin_in_child(self) -> None:
        """Start afresh; the parent's executors are neither used, killed nor tidied away here."""
        self._parents += [*self._singles, *([self._current.executor] if self._current else [])]
        if self._tidy is not None:
            self._tidy.detach()
        self._begin()

    def start(self, task: Task, done: Done) -> Running:
        """Submit a task; raises `TooManyHungThreads` where a given executor is full of them."""
        return _InExecutor(self, task, done)

    @property
    def has_room(self) -> bool:
        """Whether a task would begin at once; also where it would be refused at once."""
        with self._lock:
            generation = self._current
            if self._shared and self._suspects:
                return False
            if generation is None or generation.retired:
                return True
            return generation.is_hung or not generation.is_full

    def close(self) -> None:
        """End the executor, where it is ours, with its processes."""
        with self._lock:
            self._closed = True
            generation, self._current = self._current, None
            tidy, self._tidy, self._folder = self._tidy, None, None
            used = [*self._singles, *([generation.executor] if generation else [])]
            self._singles.clear()
            self._idle.clear()
        self._threads.close()
        for executor in used:
            self._end(executor)
        if tidy is not None:
            tidy()

    @property
    def has_more(self) -> bool:
        """Whether an executor that broke can be replaced."""
        return self._factory is not None

    def make(self) -> Executor:
        """Give the host's executor, or a new one of the factory's."""
        if self._factory is None:
            return cast("Executor", self._given)
        made = self._factory()
        if not isinstance(made, Executor):
            msg = f"the executor factory made {type(made).__name__}, not an Executor"
            raise InvalidInput(msg)
        same = made in self._singles or (self._current and made is self._current.executor)
        if same or is_dask(made):
            self._shared = True
        return made

    def _end(self, executor: Executor) -> None:
        """End an executor that is ours."""
        if executor is not self._given:
            kill(executor)

    def flag(self) -> str:
        """Name a file whose coming into being tells one task to stop."""
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.mkdtemp(prefix="oppscan-")
                self._tidy = finalize(self, shutil.rmtree, self._folder, True)  # noqa: FBT003
            return str(Path(self._folder, str(next(self._numbers))))

    def enter(self) -> Generation:
        """Take a place in the current executor."""
        with self._lock:
            generation = self._current
            if generation is None or generation.retired:
                generation = self._current = Generation(self.make())
            if generation.is_hung:
                msg = f"{generation.hung} strategies outlived their time in the given executor"
                raise TooManyHungThreads(msg)
            generation.running += 1
            return generation

    def leave(
        self, generation: Generation, *, hung: bool = False, gone: BaseException | None = None
    ) -> None:
        """Give the place back; end an executor that is retired once nothing but hung ones run."""
        with self._lock:
            given = generation.executor is self._given
            if given and isinstance(gone, BrokenExecutor) and self._factory is None:
                self._factory = twin_of(generation.executor)
                self._shared = self._factory is None
            generation.running -= 1
            generation.hung += hung
            generation.retired |= (hung and not given) or (gone is not None and self.has_more)
            over = generation.retired and not generation.running
        if over:
            self._end(generation.executor)

    def returned(self, generation: Generation) -> None:
        """Note that a hung task has ended after all."""
        with self._lock:
            generation.hung -= 1

    @contextmanager
    def alone(self) -> Generator[Executor]:
        """Give an executor in which nothing else runs; a few at a time, reused until one breaks."""
        with self._lanes, ExitStack() as stack:
            with self._lock:
                executor = self._idle.pop() if self._idle else None
                if executor is None:
                    executor = self.make()
                    self._singles.add(executor)
            if self._shared:
                stack.enter_context(self._one)
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
                if not kept:
                    self._end(executor)

    def suspect(self, again: Callable[[], object], done: Done) -> None:
        """Run what a broken executor had under way once more."""
        with self._lock:
            self._suspects += 1

        def cleared(answer: object, error: BaseException | None) -> None:
            with self._lock:
                self._suspects -= 1
            done(answer, error)

        self.aside(again, cleared)

    def aside(self, call: Callable[[], object], done: Done) -> None:
        """Do what takes time off the caller's thread."""
        try:
            self._threads.start(call, done)
        except TooManyHungThreads as error:
            done(None, error)


class _InExecutor:
    """A task in an executor."""

    def __init__(self, place: ExecutorPlace, task: Task, done: Done) -> None:
        self._place = place
        self._task = task
        self._done = done
        self._flag: str | None = None
        self._ends_at = elapsed() + task.seconds
        self._lock = threading.Lock()
        self._over = False
        self._generation: Generation | None = None
        self._future: Future[Answer] | None = None
        self._begin()

    def abandon(self) -> None:
        """Tell the strategy to stop, and count it as hung where it still runs."""
        if not self._settle():
            return
        self._task.token.set()
        if self._flag is not None:
            with suppress(OSError):
                Path(self._flag).touch()
        self._task.collected.recall()
        generation, future = self._take_place(), self._future
        if generation is not None and future is not None:
            waiting = taken_back(future)
            self._place.leave(generation, hung=not waiting)
            if not waiting:
                future.add_done_callback(lambda _: self._place.returned(generation))

    def _parcel(self, executor: Executor) -> Parcel:
        task = self._task
        strategy, context, collected = task.strategy, task.context, task.collected
        token: Token = task.token
        if not isinstance(executor, Threads):
            self._flag = self._flag or self._place.flag()
            token, collected.notes = FileToken(self._flag), f"{self._flag}.found"
            collected = Collected(collected.limit, collected.notes)
        return Parcel(
            strategy.call, strategy.kind, strategy.takes_context,
            context.owner, context.scan_id, context.name, context.params, context.metadata,
            max(0.0, self._ends_at - elapsed()), self._ends_at, gethostname(),
            token, collected,
        )  # fmt: skip

    def _begin(self) -> None:
        generation = self._place.enter()
        try:
            future = submit(generation.executor, self._parcel(generation.executor).run)
        except (BrokenExecutor, RuntimeError) as error:  # broken, or shut down by its host
            self._place.leave(generation, gone=_bare(error))
            if not self._place.has_more:
                msg = f"the given executor is broken or shut down; it was not run ({error!r:.200})"
                raise ExecutorUnusable(msg) from _bare(error)
            self._place.suspect(self._run_alone, self._deliver)
            return
        self._generation, self._future = generation, future
        future.add_done_callback(self._ended)

    def _ended(self, future: Future[Answer]) -> None:
        generation = self._take_place()
        if generation is None:
            return  # abandoned: its place was given back
        error = CancelledError() if future.cancelled() else future.exception()
        if is_gone(error):
            self._place.leave(generation, gone=error)
            self._place.suspect(self._run_alone, self._deliver)
            return
        self._place.leave(generation)
        if self._settle():
            self._give(future, error)

    def _take_place(self) -> Generation | None:
        """Give the place that is to be given back, to the first who asks."""
        with self._lock:
            generation, self._generation = self._generation, None
        return generation

    def _run_alone(self) -> object:
        answer = self._answer_alone()
        return None if answer is None else self._unpack(answer)

    def _answer_alone(self) -> Answer | None:
        with self._place.alone() as executor:
            if self._over:
                return None  # nobody waits for it any more
            try:
                future = submit(executor, self._parcel(executor).run)
            except (BrokenExecutor, RuntimeError) as error:
                msg = f"the executor is broken or shut down; it was not run ({error!r:.200})"
                raise ExecutorUnusable(msg) from _bare(error)
            try:
                left = max(0.0, self._ends_at - elapsed())
                return future.result(left + _MOMENT)  # its runner gives up first
            except Exception as error:
                if not is_gone(error):
                    raise
                self._task.collected.recall()
                msg = f"the process that ran it died, twice ({type(error).__name__})"
                raise WorkerDied(msg) from _bare(error)

    def _deliver(self, answer: object, error: BaseException | None) -> None:
        if self._settle():
            self._done(answer, error)

    def _settle(self) -> bool:
        """Let the first end of the task count."""
        with self._lock:
            first, self._over = not self._over, True
        return first

    def _give(self, future: Future[Answer], error: BaseException | None) -> None:
        """Turn an answer into what is recorded, off the executor's own thread."""
        if error is not None:
            self._done(None, error)
        else:
            self._place.aside(lambda: self._unpack(future.result()), self._done)

    def _unpack(self, answer: Answer) -> object:
        collected = self._task.collected
        collected.items = list(answer.found)
        collected.forget()
        if answer.late:
            raise StrategyLate
        if answer.error is not None:
            raise StrategyRaised(answer.error)
        generates = self._task.strategy.kind is Kind.GENERATOR
        return self._task.finish(collected if generates else answer.value)


def _bare(error: Exception) -> Exception:
    """Take an error off the frames it came through: an executor may keep it, and they keep it."""
    return error.with_traceback(None)
