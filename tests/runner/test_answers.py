"""What strategies give: kept, refused or ranked."""

# ruff: noqa: ANN401 - strategies may be anything
from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

from oppscan import Limits, ScanContext, ScanState
from tests.runner.rig import Rig, states_of, until


def _found(rig: Rig, scan_id: str) -> list[object]:
    items = rig.registry.results(scan_id, partial=True).opportunities
    return [item["n"] for item in items]


def test_what_a_generator_yielded_before_it_failed_is_kept(rig: Rig) -> None:
    def fails() -> Iterator[object]:
        yield {"n": 1}
        raise ValueError("feed is down")

    async def fails_too() -> AsyncIterator[object]:
        yield {"n": 2}
        raise ValueError("feed is down")

    status = rig.runner([fails, fails_too], max_concurrency=1).run()
    assert states_of(status) == {"fails": "failed", "fails_too": "failed"}
    assert [outcome.found for outcome in status.outcomes] == [1, 1]
    assert _found(rig, status.scan_id) == [1, 2]


def test_what_a_generator_yielded_before_its_time_was_over_is_kept(rig: Rig) -> None:
    def hangs(context: ScanContext) -> Iterator[object]:
        yield {"n": 1}
        while not context.cancelled:
            time.sleep(0.01)
        yield {"n": 3}

    async def hangs_too() -> AsyncIterator[object]:
        yield {"n": 2}
        await asyncio.sleep(60)

    status = rig.runner([hangs, hangs_too], strategy_timeout=0.3).run()
    assert states_of(status) == {"hangs": "timed_out", "hangs_too": "timed_out"}
    assert sorted(map(str, _found(rig, status.scan_id))) == ["1", "2"]


def test_a_generator_that_never_ends_is_stopped(rig: Rig) -> None:
    def endless() -> Iterator[object]:
        while True:
            time.sleep(0.01)
            yield {"n": 1}

    async def endless_too() -> AsyncIterator[object]:
        while True:
            await asyncio.sleep(0.01)
            yield {"n": 2}

    status = rig.runner([endless, endless_too], strategy_timeout=0.3).run()
    assert states_of(status) == {"endless": "timed_out", "endless_too": "timed_out"}
    assert all(outcome.found > 1 for outcome in status.outcomes)


def test_nothing_yielded_is_empty(rig: Rig) -> None:
    def nothing() -> Iterator[object]:
        yield from ()

    async def nothing_too() -> AsyncIterator[object]:
        nothing: tuple[object, ...] = ()
        for item in nothing:
            yield item

    status = rig.runner([nothing, nothing_too]).run()
    assert states_of(status) == {"nothing": "empty", "nothing_too": "empty"}


def test_junk_that_a_generator_yielded_fails_it_and_what_came_before_is_kept(rig: Rig) -> None:
    def junk() -> Iterator[object]:
        yield {"n": 1}
        yield {"n": {1, 2}}

    def junk_and_error() -> Iterator[object]:
        yield {"n": float("nan")}
        raise ValueError("feed is down")

    async def junk_too() -> AsyncIterator[object]:
        yield {"n": 2}
        yield 42

    status = rig.runner([junk, junk_and_error, junk_too], max_concurrency=1).run()
    assert [(o.state, o.found) for o in status.outcomes] == [
        ("failed", 1),
        ("failed", 0),
        ("failed", 1),
    ]
    assert "[1]" in str(status.outcome("junk").error)
    assert "[0]['n']: nan" in str(status.outcome("junk_and_error").error)
    assert "not int" in str(status.outcome("junk_too").error)
    assert _found(rig, status.scan_id) == [1, 2]


def test_g12_finds_over_the_limit_of_the_scan_fail_their_strategy_alone(rig: Rig) -> None:
    def large() -> object:
        return [{"n": "x" * 600}]

    def large_too() -> object:
        return [{"n": "y" * 600}]

    def small() -> object:
        return [{"n": 1}]

    limits = Limits(max_scan_bytes=1000)
    status = rig.runner([large, large_too, small], max_concurrency=1, limits=limits).run()
    assert states_of(status) == {"large": "found", "large_too": "failed", "small": "found"}
    assert "max_scan_bytes" in str(status.outcome("large_too").error)


def test_a_late_answer_changes_nothing(rig: Rig) -> None:
    answered = threading.Event()

    def late() -> object:
        rig.gate.wait(20)
        answered.set()
        return [{"n": 1}]

    runner = rig.runner([late], strategy_timeout=0.1)
    status = runner.run()
    assert states_of(status) == {"late": "timed_out"}
    rig.gate.set()
    assert answered.wait(5)
    time.sleep(0.1)
    assert rig.registry.status(status.scan_id) == status
    assert _found_nothing(rig, status.scan_id)


def _found_nothing(rig: Rig, scan_id: str) -> bool:
    return rig.registry.results(scan_id, partial=True).opportunities == ()


def _rank(item: Mapping[str, object]) -> float:
    return float(str(item["n"]))


def _scatter(start: int) -> Any:
    return lambda: [{"n": n} for n in range(start, 30, 3)]


def test_ranked_results_come_best_first_on_every_page(rig: Rig) -> None:
    strategies = {f"s{start}": _scatter(start) for start in range(3)}
    scan_id = rig.runner(strategies, rank=_rank).run().scan_id
    assert _found(rig, scan_id) == list(range(29, -1, -1))
    paged: list[object] = []
    page = rig.registry.results(scan_id, limit=7)
    while page.opportunities:
        paged += [item["n"] for item in page.opportunities]
        page = rig.registry.results(scan_id, limit=7, after=page.cursor)
    assert paged == list(range(29, -1, -1))


def test_what_cannot_be_ranked_is_kept_and_comes_last(rig: Rig) -> None:
    def it() -> object:
        return [{"n": "junk"}, {"n": 1}, {"n": "nan"}, {}, {"n": 2}]

    status = rig.runner([it], rank=_rank).run()
    found = rig.registry.results(status.scan_id).opportunities
    assert found[:2] == ({"n": 2}, {"n": 1})
    assert len(found) == 5
    assert states_of(status) == {"it": "found"}


def test_what_was_found_before_a_failure_is_ranked_too(rig: Rig) -> None:
    def fails() -> Iterator[object]:
        yield {"n": 1}
        yield {"n": 9}
        raise ValueError

    status = rig.runner({"fails": fails, "works": lambda: [{"n": 5}]}, rank=_rank).run()
    assert status.outcome("fails").error == "ValueError"
    assert _found(rig, status.scan_id) == [9, 5, 1]


def test_a_plain_function_that_returns_a_coroutine_is_told_to_be_async(rig: Rig) -> None:
    async def inner() -> None:
        """Never awaited."""

    status = rig.runner({"it": lambda: inner()}).run()  # noqa: PLW0108 - it must be a function
    assert "async def" in str(status.outcome("it").error)
    assert status.state is ScanState.FAILED


def test_finds_can_be_read_while_the_scan_runs(rig: Rig) -> None:
    def quick() -> object:
        return [{"n": 1}]

    def slow() -> None:
        rig.gate.wait(20)

    scan_id = rig.runner([quick, slow]).start().scan_id
    assert until(lambda: rig.registry.status(scan_id).progress.strategies_completed == 1)
    assert _found(rig, scan_id) == [1]
    assert rig.registry.status(scan_id).state is ScanState.RUNNING
    rig.gate.set()
    assert rig.registry.wait(scan_id, timeout=10).state is ScanState.COMPLETE


@pytest.mark.parametrize("how", ["thread", "loop"])
def test_a_strategy_in_time_is_never_taken_for_another_outcome(rig: Rig, how: str) -> None:
    def in_thread() -> object:
        time.sleep(0.05)
        return [{"n": 1}]

    async def in_loop() -> object:
        await asyncio.sleep(0.05)
        return [{"n": 1}]

    call = in_thread if how == "thread" else in_loop
    status = rig.runner({f"s{n}": call for n in range(30)}).run()
    assert set(states_of(status).values()) == {"found"}
