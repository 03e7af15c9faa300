"""The fourteen strategies of the demonstration scan, by name, and how their finds are ranked.

A strategy is a pure function of a `Market`: the same market gives the same opportunities, at most
a few dozen, or none. An opportunity is a dictionary of JSON values: ``strategy``, ``symbol`` (of a
pair: both, with a slash), ``date`` of the signal (ISO), ``signal`` ("buy" or "sell"), ``score``
(a chance, 0 to 1: see `oppscan.demo.strategies.signals`), ``strength`` (in the strategy's own
unit), ``precedents`` (how many earlier signals the score rests on) and ``reason``; also the share's
``close`` as it was traded that day or, of a pair, its ``hedge_ratio``.
"""

from __future__ import annotations

import math
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from oppscan.demo.strategies import relative, reversal, trend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oppscan.demo.market import Market

HALF_LIFE: Final = 60.0  # days after which an opportunity counts half: two months
_LEAST_SCORE: Final = 1e-9

STRATEGIES: Final[Mapping[str, Callable[[Market], list[dict[str, object]]]]] = MappingProxyType(
    {
        "momentum": trend.momentum,
        "mean_reversion": reversal.mean_reversion,
        "breakout": trend.breakout,
        "moving_average_cross": trend.moving_average_cross,
        "rsi": reversal.rsi,
        "bollinger": reversal.bollinger,
        "volatility_squeeze": trend.volatility_squeeze,
        "pairs": relative.pairs,
        "gap": trend.gap,
        "volume_spike": trend.volume_spike,
        "drawdown_recovery": reversal.drawdown_recovery,
        "seasonality": relative.seasonality,
        "relative_strength": relative.relative_strength,
        "rebalancing": relative.rebalancing,
    }
)


def rank(opportunity: Mapping[str, object]) -> float:
    """Higher is better: the score, halved for every two months since the signal.

    On a logarithmic scale, so that the order needs no today: whatever the day, the same one comes
    first. Raises `TypeError` or `ValueError` for what no strategy here returns.
    """
    score, day = opportunity.get("score"), opportunity.get("date")
    if not isinstance(score, float) or not isinstance(day, str):
        raise TypeError("an opportunity has a score and a date")
    return math.log2(max(score, _LEAST_SCORE)) + date.fromisoformat(day).toordinal() / HALF_LIFE
