"""From a strategy's signals to the opportunities of a scan: the window scanned, and the score.

A strategy finds its signals over the whole history. Those of the last `SCAN_DAYS` trading days
become opportunities, the earlier ones are their precedents.

Laws
- A signal of day d depends on nothing after d, nor does its score: a precedent counts from the day
  its outcome was known, `HORIZON` trading days after it.
- The score is the chance, estimated from history, that the position (long for "buy", short for
  "sell"), taken at the close of the signal's day, shows a gain `HORIZON` trading days later.
  Strategies are therefore comparable: 0.5 is a coin toss, whatever gave the signal.
- Few precedents prove little: a share of successes is drawn towards a broader one as if by
  `PRIOR` observations of it (the mean of a beta-binomial model): precedents at least as strong
  → all precedents of this strategy, symbol and side → all days of this symbol → 0.5.
- Costs, slippage and the overlap of outcomes are left out: a demonstration, no advice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oppscan.demo.market import Market, Series

SCAN_DAYS: Final = 250  # about a year
HORIZON: Final = 20  # about a month
PRIOR: Final = 10.0
_DIGITS: Final = 4

Opportunity = dict[str, object]
Side = Literal["buy", "sell"]


@frozen
class Signal:
    """What a rule saw at the close of day ``index`` of its subject.

    ``strength``, at least 0, in a unit of the rule's own; ``reason`` says it in words.
    """

    index: int
    side: Side
    strength: float
    reason: str


@frozen(kw_only=True)
class Subject:
    """What signals are about: a share, or a pair of them, and its days.

    ``gain(i, j)`` is what being long from the close of day i to that of day j earned, as a
    logarithm; NaN where no position could be taken. ``facts`` are columns that opportunities
    quote for their day.
    """

    symbol: str
    dates: Sequence[date]
    gain: Callable[[int, int], float]
    facts: Mapping[str, Sequence[float]] = field(factory=dict)


@frozen
class _Outcomes:
    """What a long position from each day's close had earned at the horizon, and running counts.

    ``gains`` are those known by the last day; entry n of a count is about the first n of them.
    """

    gains: Sequence[float]
    known: Sequence[int]
    won: Mapping[Side, Sequence[int]]

    @classmethod
    def of(cls, subject: Subject) -> _Outcomes:
        """Take what the subject's days show. O(days)."""
        gains = [subject.gain(i, i + HORIZON) for i in range(len(subject.dates) - HORIZON)]
        return cls(
            gains=gains,
            known=_counted(not math.isnan(gain) for gain in gains),
            won={
                "buy": _counted(gain > 0 for gain in gains),
                "sell": _counted(gain < 0 for gain in gains),
            },
        )


def share(series: Series, benchmark: Sequence[float] | None = None) -> Subject:
    """A share as a subject; its gain is measured against the logarithm of ``benchmark``, if any."""
    worth = [math.log(close) for close in series.close]
    if benchmark is not None:
        worth = [own - other for own, other in zip(worth, benchmark, strict=True)]
    return Subject(
        symbol=series.symbol,
        dates=series.dates,
        gain=lambda i, j: worth[j] - worth[i],
        facts={"close": series.traded},
    )


def scan_shares(
    market: Market, strategy: str, rule: Callable[[Series], Iterable[Signal]]
) -> list[Opportunity]:
    """The opportunities that a rule finds in each share of the market on its own."""
    return [
        found
        for series in market.shares
        for found in opportunities(market, strategy, share(series), rule(series))
    ]


def opportunities(
    market: Market, strategy: str, subject: Subject, signals: Iterable[Signal]
) -> list[Opportunity]:
    """The signals, given oldest first, of the market's last `SCAN_DAYS`, as JSON objects."""
    first_day = market.calendar[-SCAN_DAYS:][0]
    outcomes = _Outcomes.of(subject)
    earlier: dict[Side, list[Signal]] = {"buy": [], "sell": []}
    found: list[Opportunity] = []
    for signal in signals:
        day = subject.dates[signal.index]
        if day >= first_day:
            precedents = [p for p in earlier[signal.side] if p.index + HORIZON <= signal.index]
            quoted = {name: column[signal.index] for name, column in subject.facts.items()}
            found.append(
                {
                    "strategy": strategy,
                    "symbol": subject.symbol,
                    "date": day.isoformat(),
                    "signal": signal.side,
                    "score": round(_score(signal, precedents, outcomes), _DIGITS),
                    "strength": round(signal.strength, _DIGITS),
                    "precedents": len(precedents),
                    "reason": signal.reason,
                    **{name: round(value, _DIGITS) for name, value in quoted.items()},
                }
            )
        earlier[signal.side].append(signal)
    return found


def _score(signal: Signal, precedents: Sequence[Signal], outcomes: _Outcomes) -> float:
    """The chance of a gain. O(precedents)."""
    days = max(0, signal.index + 1 - HORIZON)
    sign = 1 if signal.side == "buy" else -1
    strong = [precedent for precedent in precedents if precedent.strength >= signal.strength]
    chance = _drawn(outcomes.won[signal.side][days], outcomes.known[days], 0.5)
    for cases in (precedents, strong):
        won = sum(outcomes.gains[case.index] * sign > 0 for case in cases)
        chance = _drawn(won, len(cases), chance)
    return chance


def _drawn(won: int, cases: int, broader: float) -> float:
    """The share of cases won, drawn towards a broader one."""
    return (won + PRIOR * broader) / (cases + PRIOR)


def _counted(flags: Iterable[bool]) -> list[int]:
    return list(accumulate(flags, initial=0))
