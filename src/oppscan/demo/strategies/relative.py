"""Strategies that compare: a share with the others, with its pair, or with its own calendar.

Each public function is one strategy: its docstring states the rule and the rule's source, the
constants before it are the rule's numbers, in trading days where nothing else is said.
"""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import combinations, pairwise
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Final

from oppscan.demo.indicators import NAN, rolling_covariance, rolling_mean
from oppscan.demo.strategies.signals import (
    Opportunity,
    Side,
    Signal,
    Subject,
    opportunities,
    scan_shares,
    share,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from oppscan.demo.market import Market, Series

PAIR_DAYS: Final = 120
PAIR_OPEN: Final = 2.0  # standard deviations of the spread
PAIR_CORRELATION: Final = 0.7  # one share explains half of the variance of the other
PAIR_LEFT: Final = 1e-9  # of a variance; less is rounding

STRENGTH_DAYS: Final = 126
STRENGTH_SHARES: Final = 3

SEASON_YEARS: Final = 5
SEASON_LEAST: Final = 1.5  # t-statistic
MONTHS: Final = (  # a scan's words do not depend on the locale
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)

BAND_POINTS: Final = 0.05  # of the portfolio


def pairs(market: Market) -> list[Opportunity]:
    """Trade the spread of two correlated shares when it is two standard deviations wide.

    Hedge ratio and spread come from a least squares fit of the logarithms of both prices over 120
    days; the next signal comes only after the spread was back at 0. "buy" buys the first share and
    sells the second, weighted by the ratio. The fit: Vidyamurthy, Pairs trading (2004); the two
    deviations: Gatev, Goetzmann, Rouwenhorst, Pairs trading (2006).
    """
    return [
        found
        for one, other in combinations(market.shares, 2)
        for found in _pair(market, one, other)
    ]


def _pair(market: Market, one: Series, other: Series) -> list[Opportunity]:
    prices = dict(zip(other.dates, other.close, strict=True))
    both = [(day, close) for day, close in zip(one.dates, one.close, strict=True) if day in prices]
    dates = [day for day, _ in both]
    ys = [math.log(close) for _, close in both]
    xs = [math.log(prices[day]) for day in dates]
    hedges, correlations, zs = _fit(xs, ys)
    subject = Subject(
        symbol=f"{one.symbol}/{other.symbol}",
        dates=dates,
        gain=lambda i, j: ys[j] - ys[i] - hedges[i] * (xs[j] - xs[i]),
        facts={"hedge_ratio": hedges},
    )
    signals = _spreads(one.symbol, other.symbol, hedges, correlations, zs)
    return opportunities(market, "pairs", subject, signals)


def _fit(xs: list[float], ys: list[float]) -> tuple[list[float], list[float], list[float]]:
    """Of y on x over `PAIR_DAYS`: slope, correlation, the last residual in standard deviations."""
    hedges, correlations, zs = [], [], []
    rows = zip(
        (x - mean for x, mean in zip(xs, rolling_mean(xs, PAIR_DAYS), strict=True)),
        (y - mean for y, mean in zip(ys, rolling_mean(ys, PAIR_DAYS), strict=True)),
        rolling_covariance(xs, xs, PAIR_DAYS),
        rolling_covariance(xs, ys, PAIR_DAYS),
        rolling_covariance(ys, ys, PAIR_DAYS),
        strict=True,
    )
    for dx, dy, xx, xy, yy in rows:
        hedge = xy / xx if xx > 0 else NAN
        correlation = xy / math.sqrt(xx * yy) if xx > 0 and yy > 0 else NAN
        left = 1 - correlation * correlation
        hedges.append(hedge)
        correlations.append(correlation)
        zs.append((dy - hedge * dx) / math.sqrt(yy * left) if left > PAIR_LEFT else NAN)
    return hedges, correlations, zs


def _spreads(
    one: str, other: str, hedges: list[float], correlations: list[float], zs: list[float]
) -> Iterator[Signal]:
    side = 0  # of the spread that was signalled and is not closed yet
    for i, z in enumerate(zs):
        if z * side <= 0:
            side = 0
        if not side and abs(z) >= PAIR_OPEN and correlations[i] >= PAIR_CORRELATION:
            side = 1 if z > 0 else -1
            reason = (
                f"{one} is {abs(z):.1f} deviations {'above' if z > 0 else 'below'}"
                f" {hedges[i]:.2f} x {other}, correlation {correlations[i]:.2f}"
            )
            yield Signal(i, "sell" if z > 0 else "buy", abs(z), reason)


def relative_strength(market: Market) -> list[Opportunity]:
    """At the start of each month buy the leader of the past half year and sell the laggard.

    Strength is its return less the mean of all shares that have traded so long; gains are measured
    against the mean as well. Levy, Relative strength as a criterion for investment selection
    (1967).
    """
    changes: dict[date, dict[str, tuple[float, int]]] = defaultdict(dict)
    for series in market.shares:
        for i in series.month_starts:
            if (start := i - STRENGTH_DAYS) >= 0:
                change = math.log(series.close[i] / series.close[start])
                changes[series.dates[i]][series.symbol] = change, i
    signals: dict[str, list[Signal]] = defaultdict(list)
    for _, ranked in sorted(changes.items()):
        if len(ranked) < STRENGTH_SHARES:
            continue
        mean = fmean(change for change, _ in ranked.values())
        order = sorted(ranked, key=ranked.__getitem__)
        picks: tuple[tuple[str, Side, str], ...] = (
            (order[-1], "buy", "first"),
            (order[0], "sell", "last"),
        )
        for symbol, side, place in picks:
            change, i = ranked[symbol]
            if change == mean:
                continue
            reason = (
                f"{place} of {len(ranked)} over {STRENGTH_DAYS} days:"
                f" {math.expm1(change):+.1%}, {math.expm1(change - mean):+.1%} against their mean"
            )
            signals[symbol].append(Signal(i, side, abs(change - mean), reason))
    return _against_mean(market, "relative_strength", signals)


def rebalancing(market: Market) -> list[Opportunity]:
    """Restore equal weights when a share's weight is off by five points of the portfolio.

    Sell what outgrew the band and buy what fell below it; then all weights are equal again. A new
    share joins at its first close. The five-point half of Swedroe's 5/25 rule. Gains are measured
    against the mean of all shares.
    """
    signals: dict[str, list[Signal]] = defaultdict(list)
    weights: dict[str, float] = {}
    for _, today in sorted(_growth(market).items()):
        if not today.keys() <= weights.keys():
            weights = dict.fromkeys(sorted({*weights, *today}), 1.0)
            continue
        for symbol, (factor, _) in today.items():
            weights[symbol] *= factor
        total = math.fsum(weights.values())
        target = 1 / len(weights)
        off = {symbol: weights[symbol] / total - target for symbol in today}
        breached = [symbol for symbol in off if abs(off[symbol]) >= BAND_POINTS]
        for symbol in breached:
            side: Side = "sell" if off[symbol] > 0 else "buy"
            reason = f"{target + off[symbol]:.1%} of an equal-weight portfolio, target {target:.1%}"
            signals[symbol].append(Signal(today[symbol][1], side, abs(off[symbol]), reason))
        if breached:
            weights = dict.fromkeys(weights, 1.0)
    return _against_mean(market, "rebalancing", signals)


def seasonality(market: Market) -> list[Opportunity]:
    """At the start of a month follow what the same month did in the years before.

    At least five years, and a mean of 1.5 standard errors. A month counts from the close of its
    first trading day. Heston, Sadka, Seasonality in the cross-section of stock returns (2008).
    """
    return scan_shares(market, "seasonality", _seasonality)


def _seasonality(series: Series) -> Iterator[Signal]:
    history: dict[int, list[float]] = defaultdict(list)
    for before, start in pairwise(series.month_starts):
        ended, begun = series.dates[before].month, series.dates[start].month
        history[ended].append(series.close[start - 1] / series.close[before] - 1)
        past = history[begun]
        if len(past) < SEASON_YEARS or not (spread := stdev(past)):
            continue
        t = fmean(past) / (spread / math.sqrt(len(past)))
        if abs(t) >= SEASON_LEAST:
            reason = (
                f"{MONTHS[begun - 1]} returned {fmean(past):+.1%} on average in {len(past)} years,"
                f" t = {t:+.1f}"
            )
            yield Signal(start, "buy" if t > 0 else "sell", abs(t), reason)


def _growth(market: Market) -> dict[date, dict[str, tuple[float, int]]]:
    """By day and symbol: the close over the one before, 1 on the first day, and the day's index."""
    growth: dict[date, dict[str, tuple[float, int]]] = defaultdict(dict)
    for series in market.shares:
        previous = series.close[0]
        for i, (day, close) in enumerate(zip(series.dates, series.close, strict=True)):
            growth[day][series.symbol] = close / previous, i
            previous = close
    return growth


def _mean_index(market: Market) -> dict[date, float]:
    """Logarithm of an index that moves by the mean of its shares' logarithmic returns.

    A share counts from its second day.
    """
    growth = _growth(market)
    level = 0.0
    index = {}
    for day in market.calendar:
        moves = [math.log(factor) for factor, i in growth[day].values() if i]
        level += fmean(moves) if moves else 0.0
        index[day] = level
    return index


def _against_mean(
    market: Market, strategy: str, signals: Mapping[str, Sequence[Signal]]
) -> list[Opportunity]:
    """The opportunities of shares whose gains are what they earn beyond the mean of all."""
    mean = _mean_index(market)
    return [
        found
        for series in market.shares
        for found in opportunities(
            market,
            strategy,
            share(series, [mean[day] for day in series.dates]),
            signals.get(series.symbol, ()),
        )
    ]
