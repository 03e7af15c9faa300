"""What a scan costs grows with its strategies, and no faster: counted, not timed."""

# ruff: noqa: ANN401 - strategies may be anything
from __future__ import annotations

from typing import Any

import msgspec
import pytest

from oppscan import Limits
from oppscan.ops import Apply
from oppscan.testing import FaultyStore
from tests.runner.rig import Rig, states_of

SMALL, LARGE = 200, 2000
MARGIN = 1.2
"""Of ten times as many strategies, twelve times the cost at most."""


def _cost(rig: Rig, many: int, call: Any) -> tuple[int, int]:
    """Give the requests, and the bytes in them, of a scan of so many strategies."""
    store = FaultyStore(rig.store)
    runner = rig.runner(
        {f"s{number:05}": call for number in range(many)},
        store=store,
        max_concurrency=1,  # with more, how many outcomes share a commit is a matter of luck
        limits=Limits(max_strategies=LARGE),
        strategy_timeout=600,
        budget=1200,
    )
    store.reset()
    status = runner.run(f"owner {many}")
    assert set(states_of(status).values()) == {"found"}
    return store.counts["Apply"], sum(map(_bytes_of, store.requests))


def _bytes_of(request: object) -> int:
    return len(msgspec.msgpack.encode(request)) if isinstance(request, Apply) else 0


async def coroutine() -> object:
    return [{"n": 1}]


def function() -> object:
    return [{"n": 1}]


@pytest.mark.parametrize("call", [coroutine, function], ids=lambda call: call.__name__)
def test_ten_times_the_strategies_cost_at_most_twelve_times_the_requests_and_bytes(
    rig: Rig, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oppscan.runner.run.QUICK", 0.0)  # how many share a commit is luck too
    if rig.face == "blocking" and call is coroutine:
        large = LARGE // 4  # an event loop is made for each, and that takes its time
        small = SMALL // 4
    else:
        small, large = SMALL, LARGE
    requests, size = _cost(rig, small, call)
    more_requests, more_size = _cost(rig, large, call)
    assert more_size <= 10 * size * MARGIN
    assert more_requests <= 10 * requests * MARGIN
    assert requests <= 2 * small + 5


def test_the_measure_sees_what_grows_faster() -> None:
    """A cost of n, n times."""
    small, large = (sum(len(msgspec.msgpack.encode(["x"] * n)) for _ in range(n)) for n in (10, 99))
    assert large > 10 * small * MARGIN
