"""Every strategy finds what its rule, computed the plain and slow way, finds, with the same score.

Nothing here knows of running windows, of incremental counts, or of where the scanned days begin.
"""

import math
from collections.abc import Callable
from datetime import date
from itertools import combinations
from statistics import fmean

import pytest

from oppscan.demo.market import Market
from oppscan.demo.strategies import STRATEGIES
from tests.demo import rules

Gain = Callable[[int, int], float]


def score(signals: rules.Signals, n: int, gain: Gain) -> tuple[float, int]:
    """The chance that signal n gains, and its precedents, from the definition."""
    i, side, strength = signals[n]

    def won(k: int) -> bool:
        return gain(k, k + 20) > 0 if side == "buy" else gain(k, k + 20) < 0

    days = [k for k in range(i - 19) if not math.isnan(gain(k, k + 20))]
    alike = [(k, size) for k, other, size in signals[:n] if other == side and k + 20 <= i]
    strong = [k for k, size in alike if size >= strength]
    chance = (sum(map(won, days)) + 10 * 0.5) / (len(days) + 10)
    chance = (sum(won(k) for k, _ in alike) + 10 * chance) / (len(alike) + 10)
    chance = (sum(map(won, strong)) + 10 * chance) / (len(strong) + 10)
    return chance, len(alike)


def expected(
    market: Market, symbol: str, dates: tuple[date, ...], signals: rules.Signals, gain: Gain
) -> list[dict[str, object]]:
    """What a scan should say of the signals of the last 250 days."""
    last = set(market.calendar[-250:])
    rows = []
    for n, (i, side, strength) in enumerate(signals):
        if dates[i] in last:
            chance, precedents = score(signals, n, gain)
            rows.append(
                {
                    "symbol": symbol,
                    "date": dates[i].isoformat(),
                    "signal": side,
                    "strength": pytest.approx(strength, abs=1e-4),
                    "score": pytest.approx(chance, abs=1e-4),
                    "precedents": precedents,
                }
            )
    return rows


def check(name: str, market: Market, rows: list[dict[str, object]]) -> None:
    assert rows
    assert [{key: o[key] for key in rows[0]} for o in STRATEGIES[name](market)] == rows


def means(market: Market) -> dict[date, float]:
    """Logarithm of an index that moves by the mean move of all shares that traded before."""
    closes = {s.symbol: dict(zip(s.dates, s.close, strict=True)) for s in market.shares}
    index = {market.calendar[0]: 0.0}
    for before, day in zip(market.calendar, market.calendar[1:], strict=False):
        moves = [math.log(c[day] / c[before]) for c in closes.values() if before in c]
        index[day] = index[before] + fmean(moves)
    return index


def check_against_mean(name: str, market: Market, signals: dict[str, rules.Signals]) -> None:
    index = means(market)
    rows = []
    for s in market.shares:
        worth = [math.log(c) - index[d] for c, d in zip(s.close, s.dates, strict=True)]

        def gain(i: int, j: int, worth: list[float] = worth) -> float:
            return worth[j] - worth[i]

        rows += expected(market, s.symbol, s.dates, signals[s.symbol], gain)
    check(name, market, rows)


@pytest.mark.parametrize("name", rules.RULES)
def test_signals_and_scores_are_those_of_the_rule(market: Market, name: str) -> None:
    rows = []
    for s in market.shares:

        def gain(i: int, j: int, closes: tuple[float, ...] = s.close) -> float:
            return closes[j] - closes[i]

        rows += expected(market, s.symbol, s.dates, rules.RULES[name](s), gain)
    check(name, market, rows)


def test_spreads_are_those_of_the_rule(market: Market) -> None:
    rows = []
    for one, other in combinations(market.shares, 2):
        days = min(len(one), len(other))  # all trade on every day once they are listed
        ys, xs = ([math.log(close) for close in s.close[-days:]] for s in (one, other))
        signals, hedges = rules.spreads(xs, ys)

        def gain(
            i: int,
            j: int,
            xs: list[float] = xs,
            ys: list[float] = ys,
            hedges: list[float] = hedges,
        ) -> float:
            return ys[j] - ys[i] - hedges[i] * (xs[j] - xs[i])

        symbol = f"{one.symbol}/{other.symbol}"
        rows += expected(market, symbol, one.dates[-days:], signals, gain)
    check("pairs", market, rows)


def test_leaders_and_laggards_are_those_of_the_rule(market: Market) -> None:
    signals: dict[str, rules.Signals] = {symbol: [] for symbol in market.symbols}
    for day in sorted({s.dates[i] for s in market.shares for i in rules.month_starts(s)}):
        known = [(s, s.dates.index(day)) for s in market.shares if day in s.dates]
        changes = {
            s.symbol: (math.log(s.close[i] / s.close[i - 126]), i) for s, i in known if i >= 126
        }
        if len(changes) >= 3:
            mean = fmean(change for change, _ in changes.values())
            best = max(changes, key=changes.__getitem__)
            worst = min(changes, key=changes.__getitem__)
            signals[best].append((changes[best][1], "buy", abs(changes[best][0] - mean)))
            signals[worst].append((changes[worst][1], "sell", abs(changes[worst][0] - mean)))
    check_against_mean("relative_strength", market, signals)


def test_rebalancing_is_that_of_the_rule(market: Market) -> None:
    signals: dict[str, rules.Signals] = {symbol: [] for symbol in market.symbols}
    since = market.calendar[0]  # the day on which all weights were equal
    for day in market.calendar:
        listed = [s for s in market.shares if s.dates[0] <= day]
        if any(s.dates[0] == day for s in listed):
            since = day
        places = {s.symbol: s.dates.index(day) for s in listed}
        grown = {
            s.symbol: s.close[places[s.symbol]] / s.close[s.dates.index(since)] for s in listed
        }
        weights = {symbol: growth / sum(grown.values()) for symbol, growth in grown.items()}
        off = {symbol: weight - 1 / len(listed) for symbol, weight in weights.items()}
        for symbol, points in off.items():
            if abs(points) >= 0.05:
                side = "sell" if points > 0 else "buy"
                signals[symbol].append((places[symbol], side, abs(points)))
                since = day
    check_against_mean("rebalancing", market, signals)
