"""What users see: frozen values, no behaviour beyond simple questions about themselves.

Laws
- Every value is immutable; times are aware UTC datetimes, durations are float seconds.
- ``to_dict()`` gives data that ``json.dumps`` takes as it is.
- Nothing here knows how a scan is stored, or what time it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import Any, ClassVar, Generic, TypeVar, overload

from attrs import field, frozen

JSON = dict[str, object]
T_co = TypeVar("T_co", covariant=True)


class ScanState(StrEnum):
    """Where a scan is in its life. ``stalled`` is a flag beside it, not a state."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def done(self) -> bool:
        """Whether nothing can change the scan any more."""
        return self not in _LIVE_STATES


_LIVE_STATES = frozenset({ScanState.PENDING, ScanState.RUNNING})


class OutcomeState(StrEnum):
    """What became of one strategy. All but the first two are final."""

    PENDING = "pending"
    RUNNING = "running"
    FOUND = "found"
    EMPTY = "empty"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def done(self) -> bool:
        """Whether the strategy has its outcome."""
        return self not in _OPEN_OUTCOMES

    @property
    def succeeded(self) -> bool:
        """Whether the strategy ran to its end, with or without a find."""
        return self in {OutcomeState.FOUND, OutcomeState.EMPTY}


_OPEN_OUTCOMES = frozenset({OutcomeState.PENDING, OutcomeState.RUNNING})


def _jsonable(value: object) -> object:
    """Turn a model value into what ``json.dumps`` takes."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Model):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return value


class Model:
    """What every value here can do."""

    __slots__ = ()
    __attrs_attrs__: ClassVar[tuple[Any, ...]] = ()

    def __repr__(self) -> str:
        """Give all fields by name; once for all models, which spares imports a third."""
        values = (f"{a.name}={getattr(self, a.name)!r}" for a in self.__attrs_attrs__)
        return f"{type(self).__name__}({', '.join(values)})"

    def to_dict(self) -> JSON:
        """Give JSON-ready data: datetimes as ISO 8601 text, tuples as lists."""
        names = (attribute.name for attribute in self.__attrs_attrs__)
        return {name: _jsonable(getattr(self, name)) for name in names}


@frozen(repr=False)
class Progress(Model):
    """How far a scan is.

    ``succeeded + failed + timed_out + skipped == strategies_completed`` when the scan reports
    outcomes; ``skipped`` counts the cancelled ones too. ``percentage`` is unrounded, and 100.0
    exactly when every strategy has an outcome. ``source`` tells where the total came from
    (``outcomes``, ``total_strategies``, ``strategies_completed``, ``strategy_performance``,
    ``declared``) and takes no part in comparisons.
    """

    strategies_completed: int
    total_strategies: int
    opportunities_found: int
    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    skipped: int = 0
    percentage: float = 0.0
    source: str = field(default="outcomes", eq=False)

    def __str__(self) -> str:
        """Give the short form, ``3/14``."""
        return f"{self.strategies_completed}/{self.total_strategies}"


@frozen(repr=False)
class StrategyOutcome(Model):
    """What became of one strategy.

    ``found`` counts its opportunities. ``duration`` is in seconds, from its reported start to its
    outcome, and None when no start was reported. ``error`` is text such as
    ``"ValueError: feed is down"``, cut at 2,000 characters.
    """

    name: str
    state: OutcomeState = OutcomeState.PENDING
    found: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration: float | None = None
    error: str | None = None


@frozen(repr=False)
class ScanStatus(Model):
    """One consistent view of one scan, as of one instant of the store's clock."""

    scan_id: str
    owner: str
    key: str
    state: ScanState
    done: bool
    stalled: bool
    cancel_requested: bool
    attempts: int
    revision: int
    progress: Progress
    created_at: datetime
    expires_at: datetime
    params: JSON = field(factory=dict)
    metadata: JSON = field(factory=dict)
    outcomes: tuple[StrategyOutcome, ...] = ()
    error: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    heartbeat_at: datetime | None = None
    progressed_at: datetime | None = None
    eta: datetime | None = None

    def outcome(self, name: str) -> StrategyOutcome:
        """Give the outcome of strategy ``name``; `KeyError` where the scan has no such strategy."""
        for outcome in self.outcomes:
            if outcome.name == name:
                return outcome
        msg = f"scan {self.scan_id} lists no strategy {name!r}"
        raise KeyError(msg)

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        from oppscan.notebooks import status_html

        return status_html(self.to_dict())


@frozen(repr=False)
class ScanResults(Model):
    """What a scan found.

    ``opportunities`` are the dicts exactly as given, in order of arrival unless ranked;
    ``by_strategy`` groups the same dicts by strategy, in declared order. ``summary`` is what
    ``complete`` was given. ``cursor``, given back as ``after=``, asks for what came since.
    """

    opportunities: tuple[JSON, ...]
    by_strategy: dict[str, tuple[JSON, ...]]
    outcomes: tuple[StrategyOutcome, ...]
    status: ScanStatus
    summary: JSON | None
    cursor: str

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        from oppscan.notebooks import results_html

        return results_html(self.to_dict())


@frozen(repr=False)
class Ticket(Model):
    """What `start` answers.

    ``joined``: an equal scan was there already. ``must_run``: the caller should see to it that
    the scan is run, because it was created now or joined while stalled.
    """

    scan_id: str
    key: str
    joined: bool
    must_run: bool
    status: ScanStatus


@frozen(repr=False)
class Reuse(Model):
    """When `start` may hand out a scan that is there already.

    ``Reuse.ACTIVE`` joins a live equal scan, ``Reuse.NEVER`` starts one that stands outside.
    """

    ACTIVE: ClassVar[Reuse]
    NEVER: ClassVar[Reuse]

    join_live: bool
    join_fresh: bool = False
    fresh_for: float = 0.0

    @staticmethod
    def fresh(seconds: float | timedelta) -> Reuse:
        """Join a live equal scan, or a complete one finished at most ``seconds`` ago.

        `start` refuses what is no duration.
        """
        plain = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        return Reuse(join_live=True, join_fresh=True, fresh_for=plain)


Reuse.ACTIVE = Reuse(join_live=True)
Reuse.NEVER = Reuse(join_live=False)


@frozen(repr=False)
class Page(Model, Sequence[T_co], Generic[T_co]):
    """A page of a listing; ``cursor``, given back as ``after=``, asks for the next one."""

    items: tuple[T_co, ...]
    cursor: str | None = None

    def __len__(self) -> int:
        """Count the items on this page."""
        return len(self.items)

    def __iter__(self) -> Iterator[T_co]:
        """Walk this page."""
        return iter(self.items)

    @overload
    def __getitem__(self, index: int) -> T_co: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T_co, ...]: ...
    def __getitem__(self, index: int | slice) -> T_co | tuple[T_co, ...]:
        """Give one item, or a slice."""
        return self.items[index]


@frozen(repr=False)
class LookupStepTrace(Model):
    """One step of a lookup: its name, what it saw, how long it took, and the time to live left.

    ``saw`` is one of ``found``, ``expired``, ``lost``, ``corrupt``, ``unknown``, ``unreachable``;
    of ``near``, ``kept``: this process remembers what ``detail`` says.
    ``took`` and ``ttl_left`` are seconds; steps answered by one shared request share its time.
    """

    name: str
    saw: str
    detail: str = ""
    took: float = 0.0
    ttl_left: float | None = None


@frozen(repr=False)
class LookupTrace(Model):
    """Every step that a lookup asked, in order, and what the answer was in the end."""

    scan_id: str | None
    owner: str | None
    steps: tuple[LookupStepTrace, ...]
    answer: str
    status: ScanStatus | None = None

    def __str__(self) -> str:
        """Give one line: ``record: unknown > owner_index: lost => lost``."""
        path = " > ".join(f"{step.name}: {step.saw}" for step in self.steps)
        return f"{path or 'no step asked'} => {self.answer}"


@frozen(repr=False)
class Event(Model):
    """What observers are told: ``kind``, the scan it is about, and plain details."""

    kind: str
    scan_id: str | None = None
    owner: str | None = None
    detail: JSON = field(factory=dict)
