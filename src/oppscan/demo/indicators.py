"""Technical indicators as pure functions of sequences.

Laws
- A result has one entry per entry of the input; entry i depends on the input up to i only.
- Where there is not yet enough input, the entry is NaN. Every comparison with NaN is false, so a
  rule that compares fires nowhere in its warm-up. In inputs NaN may lead, and nowhere else.
- ``width`` is a number of days, at least 1. Every function takes O(n), whatever the width.
- Variances are those of the whole window (divided by ``width``), as Bollinger defines his bands.

Sources: Wilder, New Concepts in Technical Trading Systems (1978), for `wilder`, `rsi`,
`true_range` and its average; Bollinger, Bollinger on Bollinger Bands (2001), for `bollinger`.
"""

from __future__ import annotations

import math
import operator
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAN: Final = math.nan
_ROUNDING: Final = 1e-12  # of windows up to some 1,000 days: each term may add 2.2e-16


def log_returns(values: Sequence[float]) -> list[float]:
    """Natural logarithm of each value over the one before; the first is NaN."""
    returns = [math.log(later / earlier) for earlier, later in pairwise(values)]
    return [NAN, *returns][: len(values)]


def rolling_sum(values: Sequence[float], width: int) -> list[float]:
    """Sum of the last ``width`` values."""
    return _rolling(values, width, operator.add)


def rolling_mean(values: Sequence[float], width: int) -> list[float]:
    """Simple moving average."""
    return [total / width for total in rolling_sum(values, width)]


def rolling_covariance(xs: Sequence[float], ys: Sequence[float], width: int) -> list[float]:
    """Covariance of the last ``width`` pairs; 0 where it cannot be told from rounding."""
    x0, y0 = _origin(xs), _origin(ys)  # the nearer to zero, the fewer digits cancel out
    dx, dy = [x - x0 for x in xs], [y - y0 for y in ys]
    products = rolling_mean([x * y for x, y in zip(dx, dy, strict=True)], width)
    rows = zip(products, rolling_mean(dx, width), rolling_mean(dy, width), strict=True)
    covariances = ((product - x * y, abs(x * y)) for product, x, y in rows)
    return [0.0 if abs(c) <= _ROUNDING * scale else c for c, scale in covariances]


def rolling_deviation(values: Sequence[float], width: int) -> list[float]:
    """Standard deviation of the last ``width`` values."""
    return [math.sqrt(variance) for variance in rolling_covariance(values, values, width)]


def rolling_max(values: Sequence[float], width: int) -> list[float]:
    """Largest of the last ``width`` values."""
    return _rolling(values, width, max)


def rolling_min(values: Sequence[float], width: int) -> list[float]:
    """Smallest of the last ``width`` values."""
    return _rolling(values, width, min)


def shifted(values: Sequence[float], days: int) -> list[float]:
    """The values of ``days`` days before: what was known by then."""
    return [NAN] * min(days, len(values)) + list(values[: max(0, len(values) - days)])


def wilder(values: Sequence[float], width: int) -> list[float]:
    """Wilder's smoothing: the mean of the first ``width``, then 1/``width`` of each new value."""
    start = _warm_up(values) + width
    if start > len(values):
        return [NAN] * len(values)
    seed = math.fsum(values[start - width : start]) / width
    steps = accumulate(values[start:], lambda mean, v: mean + (v - mean) / width, initial=seed)
    return [NAN] * (start - 1) + list(steps)


def rsi(closes: Sequence[float], width: int) -> list[float]:
    """Relative strength index, 0 to 100: the part of gains in all moves; 50 without any move."""
    moves = [later - earlier for earlier, later in pairwise(closes)]
    days = len(closes)
    gains = wilder([NAN, *(max(move, 0.0) for move in moves)][:days], width)
    losses = wilder([NAN, *(max(-move, 0.0) for move in moves)][:days], width)
    return [
        50.0 if gain + loss == 0 else 100 * gain / (gain + loss)
        for gain, loss in zip(gains, losses, strict=True)
    ]


def true_range(
    highs: Sequence[float], lows: Sequence[float], closes: Sequence[float]
) -> list[float]:
    """A day's high less its low, the close before counted as part of the day; the first is NaN."""
    days = zip(highs[1:], lows[1:], closes, strict=False)
    return [NAN, *(max(high, close) - min(low, close) for high, low, close in days)][: len(highs)]


def average_true_range(
    highs: Sequence[float], lows: Sequence[float], closes: Sequence[float], width: int
) -> list[float]:
    """Wilder's average of the true range."""
    return wilder(true_range(highs, lows, closes), width)


def bollinger(
    closes: Sequence[float], width: int, deviations: float
) -> tuple[list[float], list[float], list[float]]:
    """Lower band, moving average, upper band."""
    middle = rolling_mean(closes, width)
    reach = [deviations * deviation for deviation in rolling_deviation(closes, width)]
    lower = [mean - distance for mean, distance in zip(middle, reach, strict=True)]
    upper = [mean + distance for mean, distance in zip(middle, reach, strict=True)]
    return lower, middle, upper


def z_scores(values: Sequence[float], width: int) -> list[float]:
    """Each value's distance from the mean of the ``width`` before it, in their deviations.

    NaN where those do not differ.
    """
    means = shifted(rolling_mean(values, width), 1)
    deviations = shifted(rolling_deviation(values, width), 1)
    rows = zip(values, means, deviations, strict=True)
    return [(v - mean) / deviation if deviation > 0 else NAN for v, mean, deviation in rows]


def _warm_up(values: Sequence[float]) -> int:
    """How many entries are NaN before the first number."""
    return next((i for i, value in enumerate(values) if not math.isnan(value)), len(values))


def _origin(values: Sequence[float]) -> float:
    """The first number: a reference that later entries cannot change."""
    return next((value for value in values if not math.isnan(value)), 0.0)


def _rolling(
    values: Sequence[float], width: int, combine: Callable[[float, float], float]
) -> list[float]:
    """Combine the last ``width`` values, by the blocks of van Herk (1992) and Gil, Werman (1993).

    Values are cut into blocks of ``width``; a window is the tail of one and the head of the next.
    Unlike a running total, no window carries the rounding errors of those before it.
    """
    known = values[_warm_up(values) :]
    blocks = [known[i : i + width] for i in range(0, len(known), width)]
    heads = [head for block in blocks for head in accumulate(block, combine)]
    tails = [tail for block in blocks for tail in [*accumulate(block[::-1], combine)][::-1]]
    windows = list(map(combine, tails, heads[width - 1 :]))
    windows[::width] = heads[width - 1 :: width]  # those that are one block
    return [NAN] * (len(values) - len(windows)) + windows
