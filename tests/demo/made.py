"""Markets made for tests: from a list of closes, or a random walk."""

import random
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from itertools import accumulate

from attrs import evolve

from oppscan.demo.market import Market, Series

START = date(2010, 1, 4)


def series(
    closes: Sequence[float],
    *,
    symbol: str = "AAA",
    opens: Sequence[float] | None = None,
    reach: float = 0.0,
    volumes: Sequence[float] | None = None,
) -> Series:
    """One entry per calendar day; a day's range is its open and close, widened by ``reach``."""
    starts = tuple(closes if opens is None else opens)
    bodies = list(zip(starts, closes, strict=True))
    return Series(
        symbol=symbol,
        dates=tuple(START + timedelta(days=i) for i in range(len(closes))),
        open=starts,
        high=tuple(max(body) + reach for body in bodies),
        low=tuple(min(body) - reach for body in bodies),
        close=tuple(closes),
        volume=tuple([1000.0] * len(closes) if volumes is None else volumes),
        traded=tuple(closes),
    )


def walk(symbol: str, days: int, seed: int) -> Series:
    """A random walk with calm, wild and motionless stretches, gaps and bursts of volume."""
    draw = random.Random(f"{symbol} {seed}")
    moods = [draw.choice((0.0, 0.005, 0.01, 0.05)) for _ in range(days // 40 + 1)]
    jumps = [(draw.gauss(0, moods[i // 40]), draw.gauss(0, moods[i // 40])) for i in range(days)]
    closes = list(accumulate(jumps, lambda price, j: price * 2.0 ** sum(j), initial=50.0))
    opens = [price * 2.0**overnight for price, (overnight, _) in zip(closes, jumps, strict=False)]
    volumes = [float(round(10 ** draw.uniform(0, 4))) for _ in range(days)]
    return series(closes[1:], symbol=symbol, opens=opens, reach=0.001, volumes=volumes)


def changed(market: Market, change: Callable[[Series], Series]) -> Market:
    """The market with each share changed."""
    return Market(tuple(change(share) for share in market.shares))


def scaled(share: Series, factor: float) -> Series:
    """As a later split would adjust it: prices times the factor, volumes over it."""
    return evolve(
        share,
        open=tuple(price * factor for price in share.open),
        high=tuple(price * factor for price in share.high),
        low=tuple(price * factor for price in share.low),
        close=tuple(price * factor for price in share.close),
        volume=tuple(volume / factor for volume in share.volume),
    )
