"""What a run may take, and in which order it goes. Pure.

Laws
- The budget bounds a run whatever its strategies do. A reserve of it is kept for recording the
  end, so strategies must be through before.
- High priority goes first; equal ones in declared order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from oppscan.errors import ClaimLost, InvalidInput, OppscanError, StorageError
from oppscan.inputs import check_count, check_text
from oppscan.model import ScanStatus
from oppscan.runner.strategies import Rank, Strategies, Strategy, gather
from oppscan.ttl import duration

RESERVE_PART: Final = 0.1
RESERVE_MOST: Final = 5.0
"""A tenth of the budget, at most five seconds: two writes even to a slow store."""


LOOK_EVERY: Final = 0.1
"""Seconds between looks at a scan that another worker runs."""

LEAVE_WITHIN: Final = 5.0
"""Seconds for releasing scans on SIGTERM; hosts are commonly killed ten or more later."""


class Released(SystemExit):
    """Leaves the block of a claim, which releases the scan."""


class Plan(Struct, frozen=True):
    """The settings of a runner, checked."""

    strategies: Mapping[str, Strategy]
    max_concurrency: int
    strategy_timeout: float
    budget: float
    rank: Rank | None

    @property
    def working_time(self) -> float:
        """Seconds of the budget in which strategies may run."""
        return self.budget - min(RESERVE_MOST, self.budget * RESERVE_PART)

    def timeout_of(self, strategy: Strategy) -> float:
        """Give the seconds that one strategy may take."""
        return self.strategy_timeout if strategy.timeout is None else strategy.timeout

    def order(self, names: Iterable[str]) -> list[str]:
        """Give names in the order in which they are started."""
        return sorted(names, key=lambda name: -self.strategies[name].priority)

    def covers(self, status: ScanStatus) -> bool:
        """Tell whether this runner has every strategy that still wants its outcome."""
        return all(item.state.done or item.name in self.strategies for item in status.outcomes)

    def check_open(self, *, closed: bool) -> None:
        """Refuse to run with a runner that was closed."""
        if closed:
            msg = "this runner was closed; make another one"
            raise InvalidInput(msg)

    def patience(self, scan_id: str, left: float) -> float:
        """Give the pause before the next look at another worker's scan, or `TimeoutError`."""
        if left <= 0:
            msg = f"scan {scan_id} is still run by another worker after the whole budget"
            raise TimeoutError(msg)
        return min(LOOK_EVERY, left)

    def chosen(self, only: Iterable[str] | None) -> tuple[str, ...]:
        """Give the names of the strategies to run; ``only`` must name known ones."""
        if only is None:
            return tuple(self.strategies)
        if isinstance(only, (str, bytes)) or not isinstance(only, Iterable):
            msg = f"only must be a collection of names, not {only!r}"
            raise InvalidInput(msg)
        wanted = {check_text(name, "each of only") for name in only}
        unknown = wanted - set(self.strategies)
        if unknown:
            msg = f"only: this runner has no strategy {', '.join(sorted(map(repr, unknown)))}"
            raise InvalidInput(msg)
        return tuple(name for name in self.strategies if name in wanted)


def take(todo: deque[str], has_room: Callable[[str], bool]) -> str | None:
    """Take the first that finds room where it runs; None where none does."""
    for name in todo:
        if has_room(name):
            todo.remove(name)  # most often the very first
            return name
    return None


class Recovery:
    """A search for stalled scans to finish: until the limit is reached, or the list ends."""

    def __init__(self, limit: int) -> None:
        self.left: int = check_count(limit, "limit")
        self.wanted: int = limit  # how many to list
        self.goes_on: bool = True
        self.finished: list[ScanStatus] = []
        self._seen: set[str] = set()

    def news(self, stalled: Sequence[ScanStatus]) -> list[str]:
        """Give the ids in a list that were not looked at before; next time, list more."""
        found = [status.scan_id for status in stalled if status.scan_id not in self._seen]
        self._seen.update(found)
        self.goes_on = len(stalled) >= self.wanted
        self.wanted *= 2
        return found


def closing_of(scan_id: str) -> ClaimLost:
    """Tell the caller of a run that its scan was released because the runner was closed."""
    msg = f"the runner was closed, so scan {scan_id} was released; any worker can resume it"
    return ClaimLost(msg, scan_id=scan_id)


def left_to_others(error: OppscanError) -> str:
    """Say why a stalled scan was not recovered: another worker was quicker, or it is gone.

    What is no such reason, a failure of the store, is raised.
    """
    if isinstance(error, StorageError):
        raise error
    return f"not recovered: {error}"


def make_plan(
    strategies: Strategies,
    max_concurrency: int,
    strategy_timeout: float,
    budget: float,
    rank: Rank | None,
) -> Plan:
    """Check the settings of a runner."""
    if rank is not None and not callable(rank):
        msg = f"rank must be a function of an opportunity, not {rank!r}"
        raise InvalidInput(msg)
    return Plan(
        gather(strategies),
        check_count(max_concurrency, "max_concurrency"),
        duration(strategy_timeout, "strategy_timeout"),
        duration(budget, "budget"),
        rank,
    )
