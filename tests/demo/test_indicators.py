"""Indicators agree with values worked out by hand, with their definitions, and never look ahead."""

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oppscan.demo import indicators as ta

NAN = math.nan
Indicator = Callable[[Sequence[float]], list[float]]

prices = st.floats(1.0, 1000.0)
histories = st.lists(prices, max_size=60)
widths = st.integers(1, 12)


def same(got: Sequence[float], expected: Sequence[float]) -> bool:
    return list(got) == pytest.approx(list(expected), nan_ok=True, abs=1e-12)


def test_rolling_values_by_hand() -> None:
    values = [3.0, 1.0, 2.0, 5.0, 4.0]
    assert same(ta.rolling_sum(values, 3), [NAN, NAN, 6, 8, 11])
    assert same(ta.rolling_mean(values, 2), [NAN, 2, 1.5, 3.5, 4.5])
    assert same(ta.rolling_max(values, 3), [NAN, NAN, 3, 5, 5])
    assert same(ta.rolling_min(values, 3), [NAN, NAN, 1, 1, 2])
    assert same(ta.shifted(values, 2), [NAN, NAN, 3, 1, 2])
    assert same(ta.shifted(values, 9), [NAN] * 5)


def test_deviation_by_hand() -> None:
    # Mean 5; squared distances 9, 1, 1, 1, 0, 0, 4, 16: their mean is 4.
    assert ta.rolling_deviation([2, 4, 4, 4, 5, 5, 7, 9], 8)[-1] == pytest.approx(2.0)


def test_covariance_by_hand() -> None:
    # Means 2 and 5; products of distances 3, 0, 1.
    assert ta.rolling_covariance([1, 2, 3], [2, 7, 6], 3)[-1] == pytest.approx(4 / 3)


def test_log_returns_by_hand() -> None:
    assert same(ta.log_returns([1.0, math.e, 1.0]), [NAN, 1, -1])


def test_wilder_by_hand() -> None:
    # Seed (1 + 2 + 3) / 3 = 2; then 2 + 2 / 3; then 8 / 3 + (5 - 8 / 3) / 3.
    assert same(ta.wilder([1, 2, 3, 4, 5], 3), [NAN, NAN, 2, 8 / 3, 31 / 9])


def test_rsi_by_hand() -> None:
    # Moves +1, -1, +2, -3: mean gain 0.5, 1.25, 0.625; mean loss 0.5, 0.25, 1.625.
    closes = [10, 11, 10, 12, 9]
    assert same(ta.rsi(closes, 2), [NAN, NAN, 50, 100 * 1.25 / 1.5, 100 * 0.625 / 2.25])


def test_rsi_at_its_ends() -> None:
    assert ta.rsi([1, 2, 3, 4], 2)[2:] == [100, 100]
    assert ta.rsi([4, 3, 2, 1], 2)[2:] == [0, 0]
    assert ta.rsi([5, 5, 5, 5], 2)[2:] == [50, 50]


def test_true_range_by_hand() -> None:
    # Day 1 lies within reach of day 0, day 2 opens far above it, day 3 far below.
    highs, lows, closes = [10, 11, 20, 9], [8, 9, 18, 7], [9, 10, 19, 8]
    assert same(ta.true_range(highs, lows, closes), [NAN, 2, 10, 12])
    assert same(ta.average_true_range(highs, lows, closes, 2), [NAN, NAN, 6, 9])


def test_bollinger_by_hand() -> None:
    lower, middle, upper = ta.bollinger([1, 2, 3, 4, 5], 5, 2.0)
    reach = 2 * math.sqrt(2)
    assert (lower[-1], middle[-1], upper[-1]) == pytest.approx((3 - reach, 3, 3 + reach))


def test_z_score_by_hand() -> None:
    # The four before: mean 2, deviation 1. The value itself is not among them.
    assert same(ta.z_scores([1, 3, 1, 3, 5], 4), [NAN, NAN, NAN, NAN, 3])


@pytest.mark.parametrize(
    ("indicator", "definition"),
    [
        (ta.rolling_sum, sum),
        (ta.rolling_max, max),
        (ta.rolling_min, min),
        (ta.rolling_mean, lambda window: sum(window) / len(window)),
        (
            ta.rolling_deviation,
            lambda w: math.sqrt(sum((x - sum(w) / len(w)) ** 2 for x in w) / len(w)),
        ),
    ],
    ids=["sum", "max", "min", "mean", "deviation"],
)
@given(values=histories, width=widths, unknown=st.integers(0, 5))
def test_rolling_values_are_those_of_each_window(
    indicator: Callable[[Sequence[float], int], list[float]],
    definition: Callable[[Sequence[float]], float],
    values: list[float],
    width: int,
    unknown: int,
) -> None:
    got = indicator([NAN] * unknown + values, width)
    warm_up = min(unknown + width - 1, len(got))
    assert len(got) == unknown + len(values)
    assert all(map(math.isnan, got[:warm_up]))
    windows = [values[i : i + width] for i in range(len(values) - width + 1)]
    assert got[warm_up:] == pytest.approx([definition(w) for w in windows], rel=1e-9, abs=2e-3)


@given(values=histories, other=prices, width=widths)
def test_values_that_do_not_differ_have_no_deviation(
    values: list[float], other: float, width: int
) -> None:
    constant = [*values, *[other] * (2 * width)]
    assert ta.rolling_deviation(constant, width)[-1] == 0
    assert math.isnan(ta.z_scores(constant, width)[-1])


INDICATORS: dict[str, Indicator] = {
    "log_returns": ta.log_returns,
    "rolling_sum": lambda v: ta.rolling_sum(v, 5),
    "rolling_mean": lambda v: ta.rolling_mean(v, 5),
    "rolling_deviation": lambda v: ta.rolling_deviation(v, 5),
    "rolling_covariance": lambda v: ta.rolling_covariance(v, [x * x for x in v], 5),
    "rolling_max": lambda v: ta.rolling_max(v, 5),
    "rolling_min": lambda v: ta.rolling_min(v, 5),
    "shifted": lambda v: ta.shifted(v, 3),
    "wilder": lambda v: ta.wilder(v, 5),
    "rsi": lambda v: ta.rsi(v, 5),
    "true_range": lambda v: ta.true_range([x + 1 for x in v], [x - 1 for x in v], v),
    "average_true_range": lambda v: ta.average_true_range(v, v, v, 5),
    "lower band": lambda v: ta.bollinger(v, 5, 2.0)[0],
    "upper band": lambda v: ta.bollinger(v, 5, 2.0)[2],
    "z_scores": lambda v: ta.z_scores(v, 5),
}


@pytest.mark.parametrize("name", INDICATORS)
@given(values=histories, known=st.integers(0, 60))
def test_entries_do_not_change_when_more_days_are_known(
    name: str, values: list[float], known: int
) -> None:
    indicator = INDICATORS[name]
    before, after = indicator(values[:known]), indicator(values)[:known]
    assert [str(value) for value in before] == [str(value) for value in after]  # to the last bit


def test_looking_ahead_would_be_noticed() -> None:
    values = [1.0, 2.0, 3.0]

    def centred(v: Sequence[float]) -> list[float]:
        return [x - sum(v) / len(v) for x in v]

    assert centred(values[:2]) != centred(values)[:2]


@given(values=histories, factor=st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_rsi_is_a_percentage_and_has_no_unit(values: list[float], factor: float) -> None:
    got = ta.rsi(values, 5)
    assert all(0 <= value <= 100 for value in got[5:])
    assert same(ta.rsi([value * factor for value in values], 5), got)


@given(values=histories)
def test_bands_surround_their_average(values: list[float]) -> None:
    rows = list(zip(*ta.bollinger(values, 5, 2.0), strict=True))
    assert all(lower <= middle <= upper for lower, middle, upper in rows[4:])
