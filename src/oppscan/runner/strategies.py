"""What a strategy is, what it is told, and what its answer means. Pure but for the clock's ticks.

Laws
- A strategy is a function, coroutine function, generator or async generator, of a `ScanContext`
  or of nothing.
- None, or nothing yielded, is ``empty``; a list or tuple of JSON objects is what it found; all
  else is a failure that says what came instead.
- What a generator had yielded before it failed or was stopped is kept with its outcome.
- A mark says what a strategy is named and may take; what is run is what was given: the bound
  method, the function with all its decorators.
"""

from __future__ import annotations

import functools
import inspect
import os
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum, auto
from math import isfinite
from types import FunctionType
from typing import Final, Protocol, TypeVar, overload

from attrs import evolve, field, frozen
from msgspec import Struct

from oppscan.clock import elapsed
from oppscan.errors import InvalidInput
from oppscan.inputs import check_text
from oppscan.model import JSON
from oppscan.runner.collected import Collected
from oppscan.ttl import duration

StrategyCall = Callable[..., object]
Rank = Callable[[Mapping[str, object]], float]
F = TypeVar("F", bound=StrategyCall)

_MARK: Final = "__oppscan_strategy__"

FOREIGN: Final = (Exception, SystemExit, CancelledError, GeneratorExit)
"""What other people's code may raise: everything but the host's own interrupt."""


class StrategyRaised(Exception):
    """A strategy raised in a thread or process of its own; its text is all that crosses."""


class StrategyLate(Exception):
    """A generator in another process stopped in time to send home what it had yielded."""


class Kind(Enum):
    """How a strategy is called."""

    BLOCKING = auto()
    GENERATOR = auto()
    COROUTINE = auto()
    ASYNC_GENERATOR = auto()

    @property
    def blocking(self) -> bool:
        """Whether it must be kept off an event loop."""
        return self is Kind.BLOCKING or self is Kind.GENERATOR


@frozen
class Strategy:
    """A strategy by name. ``timeout`` in seconds (None: the runner's); high ``priority`` first."""

    name: str
    call: StrategyCall
    timeout: float | None = None
    priority: int = 0
    kind: Kind = field(init=False, repr=False, eq=False)
    takes_context: bool = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be run, and look at how it is called."""
        object.__setattr__(self, "kind", kind_of(self.call))
        check_text(self.name, "Strategy.name")
        object.__setattr__(self, "takes_context", takes_context(self.call, self.name))
        if not callable(self.call):
            msg = f"strategy {self.name!r} must be callable, not {type(self.call).__name__}"
            raise InvalidInput(msg)
        if self.timeout is not None:
            duration(self.timeout, f"the timeout of strategy {self.name!r}")
        if isinstance(self.priority, bool) or not isinstance(self.priority, int):
            msg = f"the priority of strategy {self.name!r} must be an int, not {self.priority!r}"
            raise InvalidInput(msg)

    def bound(self, context: ScanContext) -> Callable[[], object]:
        """Give the call that runs it."""
        return functools.partial(self.call, context) if self.takes_context else self.call


def kind_of(call: object) -> Kind:
    """Tell how a strategy is called, also one that is a partial or an object with ``__call__``."""
    inner = _unwrapped(call)
    if not hasattr(inner, "__code__"):
        inner = getattr(inner, "__call__", None)  # noqa: B004 - its own method
    flags = getattr(getattr(inner, "__code__", None), "co_flags", 0)
    return next((kind for flag, kind in _KINDS if flags & flag), Kind.BLOCKING)


def takes_context(call: object, name: str = "it") -> bool:
    """Tell whether a strategy wants a `ScanContext`: its first argument has no default.

    `InvalidInput` for one that wants more than that.
    """
    wanted = _required(call)
    if wanted > 1:
        msg = f"strategy {name!r} must take a ScanContext, or nothing, not {wanted} arguments"
        raise InvalidInput(msg)
    return wanted > 0


def _required(call: object) -> int:
    """Count the arguments without which a strategy cannot be called."""
    if not callable(call):
        return 0
    if isinstance(call, FunctionType) and not hasattr(call, "__wrapped__"):  # the quick way
        code = call.__code__
        by_name = code.co_kwonlyargcount - len(call.__kwdefaults__ or ())
        given = code.co_argcount - len(call.__defaults__ or ())
        return given if not by_name else max(2, given + by_name)
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return 1
    wanted = [p for p in parameters if p.default is p.empty and p.kind not in _VARIABLE]
    by_name = sum(p.kind is p.KEYWORD_ONLY for p in wanted)
    return len(wanted) if not by_name else max(2, len(wanted))


_VARIABLE: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _unwrapped(call: object) -> object:
    while isinstance(call, functools.partial):
        call = call.func
    return call


_KINDS: Final = (
    (inspect.CO_ASYNC_GENERATOR, Kind.ASYNC_GENERATOR),
    (inspect.CO_COROUTINE, Kind.COROUTINE),
    (inspect.CO_GENERATOR, Kind.GENERATOR),
)


class _Mark(Struct, frozen=True):
    """What `strategy` notes on a function."""

    name: str | None
    timeout: float | None
    priority: int


@overload
def strategy(call: F, /) -> F: ...


@overload
def strategy(
    *, name: str | None = None, timeout: float | None = None, priority: int = 0
) -> Callable[[F], F]: ...


def strategy(
    call: F | None = None,
    /,
    *,
    name: str | None = None,
    timeout: float | None = None,
    priority: int = 0,
) -> F | Callable[[F], F]:
    """Mark a function as a strategy: its name (by default its own), timeout and priority.

    The function stays what it is, so it can be called, tested and sent to other processes.
    """

    def mark(marked: F) -> F:
        Strategy(name or _name_of(marked), _nothing, timeout, priority)  # refuses what is wrong
        setattr(marked, _MARK, _Mark(name, timeout, priority))
        return marked

    return mark if call is None else mark(call)


def _nothing() -> None:
    """Stand for what is not yet known: a method is bound later."""


def _name_of(call: object) -> str:
    name = getattr(_unwrapped(call), "__name__", "")
    if not name or name == "<lambda>":
        msg = f"{call!r} has no name of its own; give a mapping of names, or a Strategy"
        raise InvalidInput(msg)
    return str(name)


Strategies = Mapping[str, StrategyCall | Strategy] | Sequence[StrategyCall | Strategy]


def gather(strategies: Strategies) -> dict[str, Strategy]:
    """Give a runner's strategies by name; `InvalidInput` for what is none, or named twice."""
    if isinstance(strategies, Mapping):
        listed = [_as_strategy(call, name) for name, call in strategies.items()]
    else:
        listed = [_as_strategy(call) for call in _each(strategies)]
    named: dict[str, Strategy] = {}
    for item in listed:
        if item.name in named:
            msg = f"two strategies are named {item.name!r}"
            raise InvalidInput(msg)
        named[item.name] = item
    return named


def _each(strategies: object) -> Iterable[object]:
    if isinstance(strategies, (str, bytes)) or not isinstance(strategies, Iterable):
        msg = f"strategies must be a mapping or a sequence of callables, not {strategies!r}"
        raise InvalidInput(msg)
    return strategies


def _as_strategy(call: object, name: str | None = None) -> Strategy:
    if isinstance(call, Strategy):
        return call if name is None else evolve(call, name=name)
    if not callable(call):
        msg = f"a strategy must be callable, not {type(call).__name__}"
        raise InvalidInput(msg)
    mark = getattr(call, _MARK, None)
    if not isinstance(mark, _Mark):
        mark = _Mark(None, None, 0)
    name = mark.name if name is None else name
    return Strategy(_name_of(call) if name is None else name, call, mark.timeout, mark.priority)


class Token(Protocol):
    """Tells a strategy that it should stop."""

    def is_set(self) -> bool:
        """Whether it should stop."""
        ...


class Flag:
    """A token within one process: one attribute, far cheaper than an event with its lock."""

    __slots__ = ("_set",)

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        """Tell the strategy to stop."""
        self._set = True

    def is_set(self) -> bool:
        """Whether it should stop."""
        return self._set


@frozen
class FileToken:
    """A token that crosses to other processes of this host: set when its file is there."""

    path: str

    def is_set(self) -> bool:
        """Whether it should stop."""
        return os.path.exists(self.path)  # noqa: PTH110 - asked often, from hot loops


@frozen
class ScanContext:
    """What a strategy is told. ``remaining`` and ``cancelled`` are as of the moment of asking."""

    owner: str
    scan_id: str
    name: str
    params: JSON
    metadata: JSON
    _deadline: float = field(repr=False)
    _token: Token = field(repr=False)

    @property
    def remaining(self) -> float:
        """Seconds until this strategy is timed out; never below 0."""
        return max(0.0, self._deadline - elapsed())

    @property
    def cancelled(self) -> bool:
        """Whether it should stop: cancelled, timed out, or the runner is closing."""
        return self._token.is_set() or elapsed() >= self._deadline


@frozen
class ContextToken:
    """A context as a token: set when the strategy was told to stop, or its time is over."""

    context: ScanContext

    def is_set(self) -> bool:
        """Whether it should stop."""
        return self.context.cancelled


def call_blocking(
    bound: Callable[[], object],
    kind: Kind,
    collected: Collected,
    token: Token,
    late: Token | None = None,
) -> object:
    """Run a blocking strategy where it is called; a generator until it ends or should stop.

    What a generator yields once ``late`` is set is dropped.
    """
    if kind is not Kind.GENERATOR:
        return bound()
    for item in bound():  # type: ignore[attr-defined]
        if late is not None and late.is_set():
            break
        collected.add(item)
        if token.is_set():
            break
    return collected


def opportunities_of(answer: object) -> list[object] | tuple[object, ...]:
    """Read a strategy's answer; `InvalidInput` for what is no list or tuple, nor None."""
    if answer is None:
        return ()
    if isinstance(answer, (list, tuple)):
        return answer
    if inspect.iscoroutine(answer):
        answer.close()
        msg = "it returned a coroutine; define it with `async def`"
        raise InvalidInput(msg)
    shown = ascii(answer)[:100]
    msg = f"it returned {type(answer).__name__} ({shown}), not a list or tuple of opportunities"
    raise InvalidInput(msg)


def score(rank: Rank, opportunity: Mapping[str, object]) -> float:
    """Rank one opportunity; what cannot be ranked comes last."""
    try:
        value = float(rank(opportunity))
    except FOREIGN:  # the opportunity is kept all the same
        return -float("inf")
    return value if isfinite(value) else -float("inf")
