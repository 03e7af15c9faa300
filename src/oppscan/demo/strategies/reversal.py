"""Strategies that expect a movement to turn.

Each public function is one strategy: its docstring states the rule and the rule's source, the
constants before it are the rule's numbers, in trading days where nothing else is said.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from oppscan.demo import indicators
from oppscan.demo.indicators import NAN, log_returns, rolling_deviation, rolling_sum, shifted
from oppscan.demo.strategies.signals import Opportunity, Side, Signal, scan_shares

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from oppscan.demo.market import Market, Series

REVERSION_DAYS: Final = 5
REVERSION_MEMORY: Final = 60
REVERSION_LEAST: Final = 2.0  # standard deviations

RSI_DAYS: Final = 14
RSI_OVERSOLD: Final = 30.0
RSI_MIDDLE: Final = 50.0
RSI_OVERBOUGHT: Final = 70.0
RSI_DEPTH: Final = 1.0

BAND_DAYS: Final = 20
BAND_DEVIATIONS: Final = 2.0
BAND_DEPTH: Final = 0.1

CORRECTION: Final = 0.10  # of the high; what traders call a correction
RECOVERED: Final = 0.5  # of the loss


def mean_reversion(market: Market) -> list[Opportunity]:
    """Trade against a week's return of two standard deviations or more, on its first day.

    The deviation is that of the 60 days before the week. Lehmann, Fads, martingales, and market
    efficiency (1990).
    """
    return scan_shares(market, "mean_reversion", _mean_reversion)


def _mean_reversion(series: Series) -> Iterator[Signal]:
    returns = log_returns(series.close)
    usual = shifted(rolling_deviation(returns, REVERSION_MEMORY), REVERSION_DAYS)
    weeks = rolling_sum(returns, REVERSION_DAYS)
    was_far = False
    for i, (week, daily) in enumerate(zip(weeks, usual, strict=True)):
        far = daily > 0 and abs(week) >= REVERSION_LEAST * daily * math.sqrt(REVERSION_DAYS)
        if far and not was_far:
            z = week / (daily * math.sqrt(REVERSION_DAYS))
            reason = f"{math.expm1(week):+.1%} in {REVERSION_DAYS} days, {z:+.1f} deviations"
            yield Signal(i, "sell" if z > 0 else "buy", abs(z), reason)
        was_far = far


def rsi(market: Market) -> list[Opportunity]:
    """Buy when the 14-day RSI comes back above 30, sell when it comes back below 70.

    Once per excursion: the same side signals again only after the RSI was beyond 50. Strength is
    the distance of the extreme from the limit. Wilder (1978).
    """
    return scan_shares(market, "rsi", _rsi)


def _rsi(series: Series) -> Iterator[Signal]:
    values = indicators.rsi(series.close, RSI_DAYS)
    low, high = RSI_OVERSOLD, RSI_OVERBOUGHT
    ends = _returns(values, low=low, middle=RSI_MIDDLE, high=high, depth=RSI_DEPTH)
    for i, side, extreme in ends:
        limit, word = (low, "above") if side == "buy" else (high, "below")
        reason = f"RSI back {word} {limit:.0f}: {values[i]:.1f}, from {extreme:.1f}"
        yield Signal(i, side, abs(extreme - limit), reason)


def bollinger(market: Market) -> list[Opportunity]:
    """Buy when the close is back above the lower band, sell when it is back below the upper one.

    Once per excursion: the same side signals again only after the close was beyond the average.
    Strength is the farthest that it had been outside, in standard deviations. Bollinger (2001).
    """
    return scan_shares(market, "bollinger", _bollinger)


def _bollinger(series: Series) -> Iterator[Signal]:
    _, middle, upper = indicators.bollinger(series.close, BAND_DAYS, BAND_DEVIATIONS)
    distances = [
        BAND_DEVIATIONS * (close - mean) / (top - mean) if top > mean else NAN
        for close, mean, top in zip(series.close, middle, upper, strict=True)
    ]
    limit = BAND_DEVIATIONS
    ends = _returns(distances, low=-limit, middle=0.0, high=limit, depth=BAND_DEPTH)
    for i, side, extreme in ends:
        reason = (
            f"back inside the {'lower' if side == 'buy' else 'upper'} band:"
            f" {distances[i]:+.1f} deviations from the average, after {extreme:+.1f}"
        )
        yield Signal(i, side, abs(extreme) - BAND_DEVIATIONS, reason)


def _returns(
    values: Sequence[float], *, low: float, middle: float, high: float, depth: float
) -> Iterator[tuple[int, Side, float]]:
    """Where an excursion of ``depth`` or more beyond a limit ends, its side, and its extreme.

    A side that has signalled rests until the values are beyond the middle.
    """
    below = _rises(values, low, middle, depth)
    above = _rises([-value for value in values], -high, -middle, depth)
    ends: list[tuple[int, Side, float]] = []
    ends.extend((i, "buy", lowest) for i, lowest in below)
    ends.extend((i, "sell", -highest) for i, highest in above)
    yield from sorted(ends)


def _rises(
    values: Sequence[float], low: float, middle: float, depth: float
) -> Iterator[tuple[int, float]]:
    lowest, rested = low, True
    for i, value in enumerate(values):
        if value < low or math.isnan(value):
            lowest = min(lowest, value)
            continue
        if rested and lowest <= low - depth:
            yield i, lowest
            rested = False
        lowest = low
        rested = rested or value > middle


def drawdown_recovery(market: Market) -> list[Opportunity]:
    """Buy when half of a loss of at least 10 % has been made good.

    The loss is counted from the highest to the lowest close since the last such recovery. Half is
    the middle of Rhea's "one third to two thirds" (The Dow Theory, 1932).
    """
    return scan_shares(market, "drawdown_recovery", _drawdown_recovery)


def _drawdown_recovery(series: Series) -> Iterator[Signal]:
    peak = trough = series.close[0]
    for i, close in enumerate(series.close):
        trough = min(trough, close)
        if close > peak:
            peak = trough = close
        loss = 1 - trough / peak
        if loss >= CORRECTION and close >= trough + RECOVERED * (peak - trough):
            reason = f"down {loss:.1%} from its high, now up {close / trough - 1:.1%} from its low"
            yield Signal(i, "buy", loss, reason)
            peak = trough = close
