"""The rules of the strategies once more, in the plainest words: windows are slices, no shortcuts.

Each rule takes a share and gives its signals over the whole history: day, side, strength.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import mul
from statistics import fmean, pstdev, stdev

from oppscan.demo import indicators as ta
from oppscan.demo.market import Series

Signals = list[tuple[int, str, float]]
Rule = Callable[[Series], Signals]


def month_starts(s: Series) -> list[int]:
    return [i for i in range(1, len(s)) if s.dates[i].replace(day=1) > s.dates[i - 1]]


def returns(s: Series, first: int, last: int) -> list[float]:
    return [math.log(s.close[i] / s.close[i - 1]) for i in range(first, last + 1)]


def mean_true_range(s: Series) -> list[float]:
    return ta.average_true_range(s.high, s.low, s.close, 20)


def momentum(s: Series) -> Signals:
    found = []
    for i in month_starts(s):
        if i >= 252:
            change = math.log(s.close[i - 21] / s.close[i - 252])
            pace = change / (pstdev(returns(s, i - 251, i)) * math.sqrt(231))
            if abs(pace) >= 1:
                found.append((i, "buy" if pace > 0 else "sell", abs(pace)))
    return found


def mean_reversion(s: Series) -> Signals:
    zs = [0.0] * 65
    for i in range(65, len(s)):
        week = math.log(s.close[i] / s.close[i - 5])
        zs.append(week / (pstdev(returns(s, i - 64, i - 5)) * math.sqrt(5)))
    far = [abs(z) >= 2 for z in zs]
    return [
        (i, "buy" if zs[i] < 0 else "sell", abs(zs[i]))
        for i in range(65, len(zs))
        if far[i] and not far[i - 1]
    ]


def breakout(s: Series) -> Signals:
    found: Signals = []
    ranges = mean_true_range(s)
    held = ""
    for i in range(55, len(s)):
        close = s.close[i]
        if (held == "buy" and close < min(s.low[i - 20 : i])) or (
            held == "sell" and close > max(s.high[i - 20 : i])
        ):
            held = ""
        top, bottom = max(s.high[i - 55 : i]), min(s.low[i - 55 : i])
        side = "buy" if close > top else "sell" if close < bottom else ""
        if side and side != held:
            held = side
            found.append((i, side, max(close - top, bottom - close) / ranges[i]))
    return found


def moving_average_cross(s: Series) -> Signals:
    lead = [
        fmean(s.close[i - 19 : i + 1]) / fmean(s.close[i - 49 : i + 1]) - 1
        for i in range(49, len(s))
    ]
    return [
        (i + 49, "buy" if lead[i] > 0 else "sell", abs(lead[i] - lead[i - 5]))
        for i in range(5, len(lead))
        if lead[i] * lead[i - 1] < 0
    ]


def _returned(values: Sequence[float], limit: float, middle: float, depth: float) -> Signals:
    """Ends of stretches below the limit; for those above, everything with its sign changed."""
    found: Signals = []
    for i in range(1, len(values)):
        if not values[i - 1] < limit <= values[i]:
            continue
        start = max((k for k in range(i) if not values[k] < limit), default=-1)
        extreme = min(values[start + 1 : i])
        rested = not found or any(value > middle for value in values[found[-1][0] : i])
        if extreme <= limit - depth and rested:
            found.append((i, "buy", limit - extreme))
    return found


def _both_sides(values: Sequence[float], low: float, middle: float, depth: float) -> Signals:
    high = 2 * middle - low
    mirrored = _returned([-value for value in values], -high, -middle, depth)
    return sorted(
        _returned(values, low, middle, depth) + [(i, "sell", size) for i, _, size in mirrored]
    )


def rsi(s: Series) -> Signals:
    return _both_sides(ta.rsi(s.close, 14), 30, 50, 1)


def _distances(s: Series, width: int) -> list[float]:
    windows = [s.close[max(0, i - width + 1) : i + 1] for i in range(len(s))]
    return [
        (w[-1] - fmean(w)) / pstdev(w) if len(w) == width and pstdev(w) else math.nan
        for w in windows
    ]


def bollinger(s: Series) -> Signals:
    return _both_sides(_distances(s, 20), -2, 0, 0.1)


def volatility_squeeze(s: Series) -> Signals:
    found: Signals = []
    distances = _distances(s, 20)
    windows = [s.close[i - 19 : i + 1] for i in range(19, len(s))]
    width = [math.inf] * 19 + [pstdev(window) / fmean(window) for window in windows]
    for i in range(143, len(s)):
        released = found[-1][0] if found else -1
        squeezes = [k for k in range(max(143, i - 10), i + 1) if k > released]
        if abs(distances[i]) > 2 and any(width[k] == min(width[k - 124 : k + 1]) for k in squeezes):
            found.append((i, "buy" if distances[i] > 0 else "sell", abs(distances[i]) / 2))
    return found


def gap(s: Series) -> Signals:
    found: Signals = []
    ranges = mean_true_range(s)
    for i in range(21, len(s)):
        up = (s.open[i] - s.high[i - 1]) / ranges[i - 1]
        down = (s.low[i - 1] - s.open[i]) / ranges[i - 1]
        if up >= 0.5 and s.close[i] > s.open[i]:
            found.append((i, "buy", up))
        elif down >= 0.5 and s.close[i] < s.open[i]:
            found.append((i, "sell", down))
    return found


def volume_spike(s: Series) -> Signals:
    found: Signals = []
    for i in range(50, len(s)):
        usual = [math.log(volume) for volume in s.volume[i - 50 : i]]
        z = (math.log(s.volume[i]) - fmean(usual)) / pstdev(usual)
        change = s.close[i] - s.close[i - 1]
        if z >= 2.5 and change and not any(i - 5 < k for k, _, _ in found[-1:]):
            found.append((i, "buy" if change > 0 else "sell", z))
    return found


def drawdown_recovery(s: Series) -> Signals:
    found: Signals = []
    start = 0
    for i in range(len(s)):
        peak = max(range(start, i + 1), key=s.close.__getitem__)
        top, bottom = s.close[peak], min(s.close[peak : i + 1])
        if 1 - bottom / top >= 0.1 and s.close[i] >= (top + bottom) / 2:
            found.append((i, "buy", 1 - bottom / top))
            start = i
    return found


def seasonality(s: Series) -> Signals:
    found: Signals = []
    starts = month_starts(s)
    for n, i in enumerate(starts):
        past = [
            s.close[end - 1] / s.close[start] - 1
            for start, end in pairwise(starts[: n + 1])
            if s.dates[start].month == s.dates[i].month
        ]
        if len(past) >= 5:
            t = fmean(past) / (stdev(past) / math.sqrt(len(past)))
            if abs(t) >= 1.5:
                found.append((i, "buy" if t > 0 else "sell", abs(t)))
    return found


def spreads(xs: Sequence[float], ys: Sequence[float]) -> tuple[Signals, list[float]]:
    """Signals of a pair, and its hedge ratio by day."""
    found: Signals = []
    hedges = [math.nan] * 119
    held = 0.0
    for i in range(119, len(xs)):
        x, y = xs[i - 119 : i + 1], ys[i - 119 : i + 1]
        mean_x, mean_y = fmean(x), fmean(y)
        dx, dy = [value - mean_x for value in x], [value - mean_y for value in y]
        xx, xy, yy = (sum(map(mul, a, b)) for a, b in ((dx, dx), (dx, dy), (dy, dy)))
        hedges.append(xy / xx)
        z = (dy[-1] - xy / xx * dx[-1]) / math.sqrt((yy - xy * xy / xx) / 120)
        if z * held <= 0:
            held = 0.0
        if not held and abs(z) >= 2 and xy / math.sqrt(xx * yy) >= 0.7:
            held = z
            found.append((i, "sell" if z > 0 else "buy", abs(z)))
    return found, hedges


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        momentum,
        mean_reversion,
        breakout,
        moving_average_cross,
        rsi,
        bollinger,
        volatility_squeeze,
        gap,
        volume_spike,
        drawdown_recovery,
        seasonality,
    )
}
