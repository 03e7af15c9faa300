"""One executor, how much it takes, and how its tasks end when it breaks. Pure."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import Final, TypeVar

from attrs import define

from oppscan.errors import OppscanError
from oppscan.runner.threads import HUNG_LIMIT

T = TypeVar("T")

GONE: Final = (BrokenExecutor, CancelledError)
"""What a task ends with when its executor, not the strategy, is to blame."""

GONE_BY_NAME: Final = frozenset({"distributed.scheduler.KilledWorker"})
"""The same, of libraries that need not be there. Dask's names all that ran on the worker."""


class WorkerDied(OppscanError):
    """The process that ran a strategy died, twice, the second time with nothing else in it."""


class ExecutorUnusable(OppscanError):
    """The executor took no strategy, so it was not run."""


@define(eq=False)
class Generation:
    """One executor, from its making to its end."""

    executor: Executor
    running: int = 0
    hung: int = 0
    retired: bool = False

    @property
    def workers(self) -> float:
        """How many tasks it runs at once; infinite where it does not tell."""
        workers = getattr(self.executor, "_max_workers", None)
        return workers if isinstance(workers, int) else float("inf")

    @property
    def is_full(self) -> bool:
        """Whether a task would wait."""
        return self.running + self.hung >= self.workers

    @property
    def is_hung(self) -> bool:
        """Whether a task would wait for ever, or too many do already."""
        return self.hung >= min(self.workers, HUNG_LIMIT)


def is_gone(error: BaseException | None) -> bool:
    """Tell whether the executor, not the strategy, is to blame for the end of a task."""
    kind = type(error)
    return isinstance(error, GONE) or f"{kind.__module__}.{kind.__qualname__}" in GONE_BY_NAME


def taken_back(future: Future[T]) -> bool:
    """Tell whether a task could be cancelled before it began."""
    try:
        return future.cancel()
    except Exception:  # noqa: BLE001 - the host's executor; its cluster may be gone
        return False
