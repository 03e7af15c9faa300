"""The market of the demonstration: real daily prices of five shares, 2000-03-01 to 2013-03-01.

Laws
- Prices are adjusted: each day's open, high, low and close are multiplied by that day's
  adjusted close / close, so that a split or a dividend is no jump. Volume is divided by the same
  factor: price times volume stays the money that changed hands. ``traded`` keeps the close as paid.
- The adjustment also covers splits and dividends after the last day, which scales a whole series
  by one constant. Ratios of prices carry no trace of it; levels do. Rules must use ratios only.
- A series is checked when it is made: what exists is sorted, positive and finite.
- Cutting a market off after a day equals never having known the later days.
"""

from __future__ import annotations

import csv
import gzip
import math
from bisect import bisect_right
from datetime import date
from importlib.resources import files
from itertools import groupby, pairwise
from operator import itemgetter, lt
from typing import TYPE_CHECKING, Final

from attrs import Factory, field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

_FILE: Final = "data/stocks.csv.gz"
_COLUMNS: Final = ("Ticker", "Date", "Open", "High", "Low", "Close", "Volume", "Adj Close")


@frozen(kw_only=True)
class Series:
    """Daily prices and volumes of one share, in US dollars and shares, oldest first.

    All columns have one entry per trading day. ``traded`` is the close in the dollars of its day;
    the other prices are adjusted. Raises `ValueError` for columns that are empty, of different
    lengths or out of order, and for prices that are not positive or outside their day's range.
    """

    symbol: str
    dates: tuple[date, ...]
    open: tuple[float, ...]
    high: tuple[float, ...]
    low: tuple[float, ...]
    close: tuple[float, ...]
    volume: tuple[float, ...]
    traded: tuple[float, ...]

    def __attrs_post_init__(self) -> None:
        """Refuse what is no price history. O(days)."""
        prices = (self.open, self.high, self.low, self.close, self.traded)
        if not self.dates or any(len(c) != len(self.dates) for c in (*prices, self.volume)):
            raise ValueError(f"{self.symbol}: columns must be of one length, at least one day")
        if not all(earlier < later for earlier, later in pairwise(self.dates)):
            raise ValueError(f"{self.symbol}: dates must be strictly increasing")
        if not all(math.isfinite(sum(c)) and min(c) > 0 for c in prices):
            raise ValueError(f"{self.symbol}: prices must be positive and finite")
        if not math.isfinite(sum(self.volume)) or min(self.volume) < 0:
            raise ValueError(f"{self.symbol}: volumes must be finite and not negative")
        bodies = zip(self.open, self.close, strict=True)
        inside = (
            low <= min(body) and max(body) <= high
            for low, body, high in zip(self.low, bodies, self.high, strict=True)
        )
        if not all(inside):
            raise ValueError(f"{self.symbol}: open and close must lie between low and high")

    def __len__(self) -> int:
        return len(self.dates)

    @property
    def month_starts(self) -> tuple[int, ...]:
        """The first trading day of each month but the first, whose start may lie before."""
        months = [day.month for day in self.dates]
        return tuple(i for i in range(1, len(months)) if months[i] != months[i - 1])

    def until(self, day: date) -> Series | None:
        """What was known at the close of ``day``; None before the first trading day."""
        days = bisect_right(self.dates, day)
        if not days:
            return None
        return Series(
            symbol=self.symbol,
            dates=self.dates[:days],
            open=self.open[:days],
            high=self.high[:days],
            low=self.low[:days],
            close=self.close[:days],
            volume=self.volume[:days],
            traded=self.traded[:days],
        )


def _trading_days(market: Market) -> tuple[date, ...]:
    return tuple(sorted({day for share in market.shares for day in share.dates}))


@frozen
class Market:
    """Shares in alphabetical order of their symbols; `ValueError` for no shares or one twice.

    ``calendar``: the days on which any share traded, oldest first.
    """

    shares: tuple[Series, ...]
    calendar: tuple[date, ...] = field(
        init=False, eq=False, repr=False, default=Factory(_trading_days, takes_self=True)
    )

    def __attrs_post_init__(self) -> None:
        """Refuse what has no order."""
        if not self.shares or not all(map(lt, self.symbols, self.symbols[1:])):
            raise ValueError("a market has at least one share, each once, sorted by symbol")

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols of all shares."""
        return tuple(share.symbol for share in self.shares)

    def __getitem__(self, symbol: str) -> Series:
        """The share of that symbol; raises `KeyError` for one that is not listed."""
        for share in self.shares:
            if share.symbol == symbol:
                return share
        raise KeyError(symbol)

    def until(self, day: date) -> Market:
        """The market as it was known at the close of ``day``; `ValueError` before its first day."""
        return Market(tuple(cut for share in self.shares if (cut := share.until(day))))


def load() -> Market:
    """Read the market from the file that comes with the package: 12,154 rows, about 50 ms.

    Raises `ValueError` when the file is not what it should be.
    """
    source = files("oppscan.demo").joinpath(_FILE)
    with source.open("rb") as packed, gzip.open(packed, "rt", encoding="ascii", newline="") as text:
        rows = csv.reader(text)
        if tuple(next(rows)) != _COLUMNS:
            raise ValueError(f"{_FILE}: unexpected columns")
        return Market(tuple(_series(*group) for group in groupby(rows, itemgetter(0))))


def _series(symbol: str, rows: Iterable[list[str]]) -> Series:
    _, days, *texts = zip(*rows, strict=True)
    opens, highs, lows, closes, volumes, adjusted = (tuple(map(float, text)) for text in texts)
    factors = tuple(after / before for after, before in zip(adjusted, closes, strict=True))
    return Series(
        symbol=symbol,
        dates=tuple(map(date.fromisoformat, days)),
        open=_scaled(opens, factors),
        high=_scaled(highs, factors),
        low=_scaled(lows, factors),
        close=_scaled(closes, factors),
        volume=tuple(volume / factor for volume, factor in zip(volumes, factors, strict=True)),
        traded=closes,
    )


def _scaled(prices: tuple[float, ...], factors: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(price * factor for price, factor in zip(prices, factors, strict=True))
