"""The market file is complete and adjusted, and nothing that is no price history becomes one."""

import csv
import gzip
import hashlib
import math
import pickle
from datetime import date, timedelta
from importlib.resources import files
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from oppscan.demo.market import Market, Series
from tests.demo.made import START, series

RANGES = {
    "AAPL": (date(2000, 3, 1), 3270),
    "FB": (date(2012, 5, 18), 196),
    "GOOG": (date(2004, 8, 19), 2148),
    "IBM": (date(2000, 3, 1), 3270),
    "MSFT": (date(2000, 3, 1), 3270),
}
LAST_DAY = date(2013, 3, 1)


def packed() -> bytes:
    return files("oppscan.demo").joinpath("data/stocks.csv.gz").read_bytes()


def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(gzip.decompress(packed()).decode().splitlines()))


def test_file_is_the_published_one() -> None:
    assert len(packed()) == 294_246
    assert hashlib.sha256(packed()).hexdigest() == (
        "5abadf99b2d394f920120a27de6f0df129859d71d4cfb0bf661bcc99446ab1fd"
    )


def test_every_row_is_loaded(market: Market) -> None:
    assert market.symbols == tuple(RANGES)
    assert sum(map(len, market.shares)) == len(rows()) == 12_154
    for share in market.shares:
        assert (share.dates[0], len(share)) == RANGES[share.symbol]
        assert share.dates[-1] == LAST_DAY


def test_no_share_misses_a_trading_day_once_it_is_listed(market: Market) -> None:
    assert market.calendar == market["AAPL"].dates
    for share in market.shares:
        assert share.dates == market.calendar[-len(share) :]


def test_prices_are_adjusted_and_the_traded_close_is_kept(market: Market) -> None:
    by_symbol: dict[str, list[dict[str, str]]] = {}
    for row in rows():
        by_symbol.setdefault(row["Ticker"], []).append(row)
    for symbol, expected in by_symbol.items():
        share = market[symbol]
        assert share.close == pytest.approx([float(row["Adj Close"]) for row in expected], rel=1e-9)
        assert share.traded == tuple(float(row["Close"]) for row in expected)
        factors = [close / traded for close, traded in zip(share.close, share.traded, strict=True)]
        columns = {"Open": share.open, "High": share.high, "Low": share.low}
        for name, values in columns.items():
            unadjusted = [value / f for value, f in zip(values, factors, strict=True)]
            assert unadjusted == pytest.approx([float(row[name]) for row in expected], rel=1e-9)


def test_adjusting_keeps_the_money_that_changed_hands(market: Market) -> None:
    apple = market["AAPL"]
    expected = [float(r["Close"]) * float(r["Volume"]) for r in rows() if r["Ticker"] == "AAPL"]
    turnover = [close * volume for close, volume in zip(apple.close, apple.volume, strict=True)]
    assert turnover == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("symbol", "day", "traded", "change"),
    [
        ("AAPL", date(2005, 2, 28), (88.99, 44.86), 2 * 44.86 / 88.99 - 1),  # two for one
        ("AAPL", date(2000, 6, 21), (101.25, 55.63), 2 * 55.63 / 101.25 - 1),  # two for one
        ("MSFT", date(2003, 2, 18), (48.30, 24.96), 16.61565282547 / 16.076442938105 - 1),
    ],
)
def test_a_split_is_no_jump(
    market: Market, symbol: str, day: date, traded: tuple[float, float], change: float
) -> None:
    share = market[symbol]
    i = share.dates.index(day)
    assert share.traded[i - 1 : i + 1] == traded
    assert share.close[i] / share.close[i - 1] - 1 == pytest.approx(change, abs=1e-6)


@pytest.mark.parametrize(
    ("symbol", "depth", "peak", "trough"),
    [
        ("AAPL", -0.380484, date(2012, 9, 19), LAST_DAY),
        ("FB", -0.536276, date(2012, 5, 18), date(2012, 9, 4)),
        ("GOOG", -0.157373, date(2012, 10, 4), date(2012, 11, 16)),
        ("IBM", -0.122375, date(2012, 4, 3), date(2012, 7, 12)),
        ("MSFT", -0.179676, date(2012, 3, 15), date(2012, 12, 4)),
    ],
)
def test_largest_drawdown_of_the_last_250_days(
    market: Market, symbol: str, depth: float, peak: date, trough: date
) -> None:
    share = market[symbol]
    days = range(max(0, len(share) - 250), len(share))
    worst = min((share.close[j] / share.close[i] - 1, i, j) for i in days for j in days if i <= j)
    assert worst[0] == pytest.approx(depth, abs=1e-6)
    assert (share.dates[worst[1]], share.dates[worst[2]]) == (peak, trough)


def test_market_travels_between_processes(market: Market) -> None:
    assert pickle.loads(pickle.dumps(market)) == market  # noqa: S301


@given(days=st.integers(1, 30), cut=st.integers(-3, 40))
def test_cutting_off_keeps_exactly_the_days_until_then(days: int, cut: int) -> None:
    share = series([float(price) for price in range(1, days + 1)])
    kept = share.until(START + timedelta(days=cut))
    if cut < 0:
        assert kept is None
    else:
        assert kept == series([float(price) for price in range(1, min(cut + 1, days) + 1)])


def test_a_share_is_unknown_before_its_first_day(market: Market) -> None:
    early = market.until(date(2004, 8, 18))
    assert early.symbols == ("AAPL", "IBM", "MSFT")
    assert early.calendar[-1] == date(2004, 8, 18)
    with pytest.raises(KeyError):
        early["GOOG"]
    with pytest.raises(ValueError, match="at least one share"):
        market.until(date(2000, 2, 29))


def test_month_starts_leave_out_the_month_that_may_have_begun_before(market: Market) -> None:
    share = market["FB"]
    starts = [share.dates[i] for i in share.month_starts]
    assert starts[:3] == [date(2012, 6, 1), date(2012, 7, 2), date(2012, 8, 1)]
    assert starts[-1] == LAST_DAY


GOOD = series([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"close": (1.0, 2.0)}, "of one length"),
        ({"volume": (1.0,)}, "of one length"),
        ({"dates": (START, START, START + timedelta(days=1))}, "strictly increasing"),
        ({"dates": (START, START - timedelta(days=1), START)}, "increasing"),
        ({"low": (0.0, 2.0, 3.0)}, "positive"),
        ({"traded": (1.0, -2.0, 3.0)}, "positive"),
        ({"high": (1.0, math.inf, 3.0)}, "finite"),
        ({"traded": (1.0, math.nan, 3.0)}, "finite"),
        ({"volume": (1.0, -1.0, 1.0)}, "not negative"),
        ({"volume": (1.0, math.nan, 1.0)}, "finite"),
        ({"high": (1.0, 1.9, 3.0)}, "between low and high"),
        ({"low": (1.0, 2.1, 3.0)}, "between low and high"),
        ({"open": (1.0, 2.5, 3.0)}, "between low and high"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_what_is_no_price_history_is_refused(broken: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        evolve(GOOD, **broken)


@pytest.mark.parametrize("symbols", [(), ("AAA", "AAA"), ("BBB", "AAA")], ids=repr)
def test_a_market_lists_each_share_once_in_order(symbols: tuple[str, ...]) -> None:
    shares: tuple[Series, ...] = tuple(series([1.0], symbol=symbol) for symbol in symbols)
    with pytest.raises(ValueError, match="at least one share, each once, sorted"):
        Market(shares)
