"""Strategies that expect a movement to go on.

Each public function is one strategy: its docstring states the rule and the rule's source, the
constants before it are the rule's numbers, in trading days where nothing else is said.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from oppscan.demo.indicators import (
    average_true_range,
    bollinger,
    log_returns,
    rolling_deviation,
    rolling_max,
    rolling_mean,
    rolling_min,
    shifted,
    z_scores,
)
from oppscan.demo.strategies.signals import Opportunity, Signal, scan_shares

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oppscan.demo.market import Market, Series

MOMENTUM_YEAR: Final = 252
MOMENTUM_SKIPPED: Final = 21
MOMENTUM_LEAST: Final = 1.0  # standard deviations of a random walk over the same days

BREAKOUT_ENTRY: Final = 55
BREAKOUT_EXIT: Final = 20
ATR_DAYS: Final = 20

CROSS_FAST: Final = 20
CROSS_SLOW: Final = 50
CROSS_ANGLE: Final = 5
CROSS_DIGITS: Final = 12  # of the distance, relative; what lies below is rounding

SQUEEZE_BAND: Final = 20
SQUEEZE_DEVIATIONS: Final = 2.0
SQUEEZE_MEMORY: Final = 125
SQUEEZE_FRESH: Final = 10

SPIKE_DAYS: Final = 50
SPIKE_LEAST: Final = 2.5  # standard deviations of the logarithm of volume
SPIKE_PAUSE: Final = 5

GAP_LEAST: Final = 0.5  # average true ranges


def momentum(market: Market) -> list[Opportunity]:
    """Follow the past year's return, without its last month, at the start of each month.

    The return is divided by what a random walk of the share's own volatility would reach in that
    time. Moskowitz, Ooi, Pedersen, Time series momentum (2012); the month left out: Carhart, On
    persistence in mutual fund performance (1997).
    """
    return scan_shares(market, "momentum", _momentum)


def _momentum(series: Series) -> Iterator[Signal]:
    days = MOMENTUM_YEAR - MOMENTUM_SKIPPED
    volatility = rolling_deviation(log_returns(series.close), MOMENTUM_YEAR)
    for i in series.month_starts:
        if i < MOMENTUM_YEAR or not volatility[i] > 0:
            continue
        change = math.log(series.close[i - MOMENTUM_SKIPPED] / series.close[i - MOMENTUM_YEAR])
        pace = change / (volatility[i] * math.sqrt(days))
        if abs(pace) >= MOMENTUM_LEAST:
            reason = (
                f"{math.expm1(change):+.1%} in the year to a month ago,"
                f" {abs(pace):.1f} standard deviations of a random walk"
            )
            yield Signal(i, "buy" if pace > 0 else "sell", abs(pace), reason)


def breakout(market: Market) -> list[Opportunity]:
    """Buy a close above the highest high of 55 days, sell one below the lowest low.

    The next signal comes only after an exit: a close beyond the opposite extreme of 20 days.
    Donchian's channel, with the numbers of the Turtles' second system (Faith, 2003).
    """
    return scan_shares(market, "breakout", _breakout)


def _breakout(series: Series) -> Iterator[Signal]:
    top = shifted(rolling_max(series.high, BREAKOUT_ENTRY), 1)
    bottom = shifted(rolling_min(series.low, BREAKOUT_ENTRY), 1)
    exit_long = shifted(rolling_min(series.low, BREAKOUT_EXIT), 1)
    exit_short = shifted(rolling_max(series.high, BREAKOUT_EXIT), 1)
    ranges = average_true_range(series.high, series.low, series.close, ATR_DAYS)
    position = 0
    for i, close in enumerate(series.close):
        if (position > 0 and close < exit_long[i]) or (position < 0 and close > exit_short[i]):
            position = 0
        if position <= 0 and close > top[i]:
            position = 1
            reason = f"closed {close / top[i] - 1:.1%} above the high of {BREAKOUT_ENTRY} days"
            yield Signal(i, "buy", (close - top[i]) / ranges[i], reason)
        elif position >= 0 and close < bottom[i]:
            position = -1
            reason = f"closed {1 - close / bottom[i]:.1%} below the low of {BREAKOUT_ENTRY} days"
            yield Signal(i, "sell", (bottom[i] - close) / ranges[i], reason)


def moving_average_cross(market: Market) -> list[Opportunity]:
    """Follow the 20-day average when it crosses the 50-day one.

    Strength is the angle of the cross: how far the two moved past each other in five days. Brock,
    Lakonishok, LeBaron, Simple technical trading rules (1992), with shorter averages.
    """
    return scan_shares(market, "moving_average_cross", _moving_average_cross)


def _moving_average_cross(series: Series) -> Iterator[Signal]:
    fast = rolling_mean(series.close, CROSS_FAST)
    slow = rolling_mean(series.close, CROSS_SLOW)
    lead = [round(short / long - 1, CROSS_DIGITS) for short, long in zip(fast, slow, strict=True)]
    before = shifted(lead, CROSS_ANGLE)
    side = 0  # on which the fast one was last
    for i, ahead in enumerate(lead):
        now = (ahead > 0) - (ahead < 0)
        if now * side < 0 and not math.isnan(before[i]):
            angle = abs(ahead - before[i])
            reason = (
                f"the {CROSS_FAST}-day average crossed {'above' if now > 0 else 'below'} the"
                f" {CROSS_SLOW}-day one, {angle:.1%} in {CROSS_ANGLE} days"
            )
            yield Signal(i, "buy" if now > 0 else "sell", angle, reason)
        side = now or side


def volatility_squeeze(market: Market) -> list[Opportunity]:
    """Follow the first close outside the Bollinger bands after these were at their narrowest.

    Narrowest: the band width was the lowest of 125 days within the last ten. "The Squeeze" of
    Bollinger (2001).
    """
    return scan_shares(market, "volatility_squeeze", _volatility_squeeze)


def _volatility_squeeze(series: Series) -> Iterator[Signal]:
    lower, middle, upper = bollinger(series.close, SQUEEZE_BAND, SQUEEZE_DEVIATIONS)
    width = [(u - d) / m for d, m, u in zip(lower, middle, upper, strict=True)]
    narrowest = rolling_min(width, SQUEEZE_MEMORY)
    squeezed = -1  # the last day of a squeeze that is not released yet
    for i, close in enumerate(series.close):
        if width[i] <= narrowest[i]:
            squeezed = i
        up = close > upper[i]
        outside = (up or close < lower[i]) and upper[i] > middle[i]
        if squeezed < 0 or i - squeezed > SQUEEZE_FRESH or not outside:
            continue
        beyond = abs(close - middle[i]) / (upper[i] - middle[i])
        reason = (
            f"closed {'above' if up else 'below'} its bands, {width[squeezed]:.1%} wide on"
            f" {series.dates[squeezed]}, the least in {SQUEEZE_MEMORY} days"
        )
        squeezed = -1
        yield Signal(i, "buy" if up else "sell", beyond, reason)


def volume_spike(market: Market) -> list[Opportunity]:
    """Follow the day's direction when far more shares than usual changed hands.

    Volume is compared, as a logarithm, with the 50 days before. After Gervais, Kaniel,
    Mingelgrin, The high-volume return premium (2001).
    """
    return scan_shares(market, "volume_spike", _volume_spike)


def _volume_spike(series: Series) -> Iterator[Signal]:
    # A day without trades has no logarithm; count it as one share.
    unusual = z_scores([math.log(max(1.0, volume)) for volume in series.volume], SPIKE_DAYS)
    usual = shifted(rolling_mean(series.volume, SPIKE_DAYS), 1)
    last = -SPIKE_PAUSE
    for i in range(1, len(series)):
        change = series.close[i] / series.close[i - 1] - 1
        if unusual[i] >= SPIKE_LEAST and change and i - last >= SPIKE_PAUSE:
            last = i
            reason = (
                f"{change:+.1%} on {series.volume[i] / usual[i]:.1f} times the average volume"
                f" of {SPIKE_DAYS} days"
            )
            yield Signal(i, "buy" if change > 0 else "sell", unusual[i], reason)


def gap(market: Market) -> list[Opportunity]:
    """Follow an opening outside the previous day's range, if the day's close holds it.

    The gap must be at least half an average true range wide, and the close must lie beyond the
    open. The "breakaway gap" of Edwards, Magee, Technical Analysis of Stock Trends (1948).
    """
    return scan_shares(market, "gap", _gap)


def _gap(series: Series) -> Iterator[Signal]:
    ranges = average_true_range(series.high, series.low, series.close, ATR_DAYS)
    for i in range(1, len(series)):
        start, end = series.open[i], series.close[i]
        if not ranges[i - 1] > 0:
            continue
        above = start - series.high[i - 1]
        below = series.low[i - 1] - start
        width = max(above, below) / ranges[i - 1]
        up = above > 0
        if width >= GAP_LEAST and (end > start if up else end < start):
            reason = (
                f"opened {abs(start / series.close[i - 1] - 1):.1%} {'above' if up else 'below'}"
                f" the last close and moved on by {abs(end / start - 1):.1%}"
            )
            yield Signal(i, "buy" if up else "sell", width, reason)
