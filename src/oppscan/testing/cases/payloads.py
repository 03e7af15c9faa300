"""§ Progress from payloads, I7, G8: hosts that post whole result dictionaries."""

# ruff: noqa: D102, PLR2004, S101 - cases, not code

from __future__ import annotations

from typing import Any

import pytest

from oppscan import InvalidInput, Limits, ScanState
from oppscan.testing.cases.base import Cases, calls
from oppscan.testing.world import World

_PERFORMANCE = {"a": {"ms": 1}, "b": {}, "c": {}, "d": {}}

# The name of a row; the payload; is it partial; completed of total, found, and the source.
_TABLE: list[tuple[str, dict[str, Any], bool, tuple[int, int, int, str]]] = [
    (
        "all-stated",
        {"metadata": {"total_strategies": 14, "strategies_completed": 3}, "opportunities": [{}]},
        True,
        (3, 14, 1, "total_strategies"),
    ),
    (
        "total-missing-takes-performance-dict",
        {"metadata": {"strategies_completed": 2}, "strategy_performance": _PERFORMANCE},
        True,
        (2, 4, 0, "strategy_performance"),
    ),
    (
        "total-zero-takes-performance-list",
        {"metadata": {"total_strategies": 0}, "strategy_performance": [1, 2, 3, 4, 5]},
        True,
        (0, 5, 0, "strategy_performance"),
    ),
    (
        "completed-is-the-larger",
        {"metadata": {"strategies_completed": 9}, "strategy_performance": _PERFORMANCE},
        True,
        (9, 9, 0, "strategies_completed"),
    ),
    ("nothing-takes-declared", {}, True, (0, 3, 0, "declared")),
    ("nothing-final-is-all", {}, False, (3, 3, 0, "declared")),
    ("metadata-is-junk", {"metadata": "junk"}, True, (0, 3, 0, "declared")),
    (
        "counts-are-junk",
        {
            "metadata": {"total_strategies": "many", "strategies_completed": None},
            "strategy_performance": 7,
            "opportunities": "none",
        },
        True,
        (0, 3, 0, "declared"),
    ),
    (
        "negative-and-boolean-are-junk",
        {"metadata": {"total_strategies": -4, "strategies_completed": True}},
        True,
        (0, 3, 0, "declared"),
    ),
    (
        "completed-is-clamped",
        {"metadata": {"total_strategies": 5, "strategies_completed": 50}},
        True,
        (5, 5, 0, "total_strategies"),
    ),
    (
        "fractions-are-junk",
        {"metadata": {"total_strategies": 4.5, "strategies_completed": 1.5}},
        True,
        (0, 3, 0, "declared"),
    ),
    (
        "final-without-completed-is-total",
        {"metadata": {"total_strategies": 14}, "opportunities": [{}, {}]},
        False,
        (14, 14, 2, "total_strategies"),
    ),
    (
        "final-with-completed-keeps-it",
        {"metadata": {"total_strategies": 14, "strategies_completed": 13}},
        False,
        (13, 14, 0, "total_strategies"),
    ),
    (
        "final-with-zero-completed-and-performance",
        {"metadata": {"total_strategies": 0}, "strategy_performance": _PERFORMANCE},
        False,
        (4, 4, 0, "strategy_performance"),
    ),
]


class PayloadCases(Cases):
    """Progress that is derived."""

    @pytest.mark.parametrize(
        ("payload", "partial", "expected"),
        [row[1:] for row in _TABLE],
        ids=[row[0] for row in _TABLE],
    )
    async def test_i7_progress_is_derived_by_the_documented_fallbacks(
        self,
        world: World,
        payload: dict[str, Any],
        partial: bool,  # noqa: FBT001 - a parameter of the table
        expected: tuple[int, int, int, str],
    ) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await claim.update(payload, partial=partial)
        status = await world.registry().status(ticket.scan_id)
        progress = status.progress
        completed, total, found, source = expected
        assert (progress.strategies_completed, progress.total_strategies) == (completed, total)
        assert progress.opportunities_found == found
        assert progress.source == source
        assert progress.percentage == pytest.approx(100 * completed / total)
        assert status.done is not partial

    async def test_i7_never_zero_of_zero_after_completion(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        async with worker.registry.claim(ticket.scan_id) as scan:
            await scan.update({"metadata": {}})
        status = await worker.registry.status(ticket.scan_id)
        assert status.state is ScanState.COMPLETE
        assert status.progress.total_strategies == 3
        assert status.progress.percentage == 100.0

    async def test_progress_never_goes_below_what_is_stored(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await claim.update(_payload(7, 14, 5))
        first = (await worker.registry.status(ticket.scan_id)).progress
        for lower in (_payload(3, 14, 1), _payload(3, 6, 0), {}, {"metadata": None}):
            await claim.update(lower)
            progress = (await worker.registry.status(ticket.scan_id)).progress
            assert progress.strategies_completed >= first.strategies_completed
            assert progress.total_strategies >= first.total_strategies
            assert progress.opportunities_found >= first.opportunities_found
            assert progress.percentage <= 100.0

    async def test_the_payload_comes_back_whole(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await claim.update({**_payload(1, 2, 1), "extra": {"deep": [1.5, None, "x"]}})
        await claim.update({**_payload(2, 2, 3), "extra": {"last": True}}, partial=False)
        results = await worker.registry.results(ticket.scan_id)
        assert results.opportunities == ({"n": 0}, {"n": 1}, {"n": 2})
        assert results.summary is not None
        assert results.summary["extra"] == {"last": True}
        assert results.status.state is ScanState.COMPLETE

    async def test_the_first_progress_write_fixes_the_mode(self, world: World) -> None:
        worker = world.worker()
        posting = await world.start(worker, key="posting")
        claim = await world.hold(worker, posting.scan_id)
        await claim.update({})
        before = await worker.registry.status(posting.scan_id)
        for write in calls(
            lambda: claim.strategy_started("alpha"),
            lambda: claim.strategy_finished("alpha", []),
            lambda: claim.strategy_failed("alpha", "x"),
            lambda: claim.strategy_skipped("alpha", "x"),
        ):
            with pytest.raises(InvalidInput):
                await write()
        assert await worker.registry.status(posting.scan_id) == before
        reporting = await world.start(worker, key="reporting")
        claim = await world.hold(worker, reporting.scan_id)
        await claim.strategy_started("alpha")
        with pytest.raises(InvalidInput):
            await claim.update({})

    async def test_a_heartbeat_fixes_no_mode(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await claim.heartbeat()
        await claim.update({})

    async def test_a_resumed_scan_keeps_its_mode_and_progress(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        async with worker.registry.claim(ticket.scan_id) as scan:
            await scan.update(_payload(7, 14, 5))
            await scan.release()
        async with world.registry().claim(ticket.scan_id) as scan:
            with pytest.raises(InvalidInput):
                await scan.strategy_started("alpha")
            await scan.update(_payload(14, 14, 6), partial=False)
        results = await worker.registry.results(ticket.scan_id)
        assert len(results.opportunities) == 6

    async def test_a_payload_is_checked_like_all_input(self, world: World) -> None:
        worker = world.worker(limits=Limits(max_scan_bytes=200))
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        worker.store.reset()
        bad: list[Any] = [[], "x", None, {1: 2}, {"a": float("nan")}, {"a": "x" * 300}]
        for payload in bad:
            with pytest.raises(InvalidInput):
                await claim.update(payload)
        assert worker.store.total == 0

    async def test_a_failed_payload_scan_keeps_its_progress(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await claim.update(_payload(7, 14, 2))
        await claim.fail("x")
        status = await worker.registry.status(ticket.scan_id)
        assert status.state is ScanState.FAILED
        partial = await worker.registry.results(ticket.scan_id, partial=True)
        assert len(partial.opportunities) == 2

    async def test_a_cancelled_payload_scan_is_cancelled(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await claim.update(_payload(7, 14, 2))
        await worker.registry.cancel(ticket.scan_id)
        await claim.complete()
        status = await worker.registry.status(ticket.scan_id)
        assert status.state is ScanState.CANCELLED

    async def test_g8_100_percent_when_the_scan_is_over_by_its_end(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        async with worker.registry.claim(ticket.scan_id) as scan:
            await scan.update(_payload(14, 14, 1))
        status = await worker.registry.status(ticket.scan_id)
        assert status.state is ScanState.COMPLETE
        assert status.progress.percentage == 100.0


def _payload(completed: int, total: int, found: int) -> dict[str, Any]:
    return {
        "metadata": {"strategies_completed": completed, "total_strategies": total},
        "opportunities": [{"n": number} for number in range(found)],
    }
