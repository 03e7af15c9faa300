"""When outcomes are written, and when the next strategy may start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from oppscan.ops import Apply
from oppscan.runner.run import UNRECORDED
from oppscan.testing import Fault, FaultyStore
from tests.runner.rig import PATIENCE, Rig, states_of, until


def test_g13_a_slow_strategy_is_recorded_before_its_place_is_given_on(rig: Rig) -> None:
    seen: list[dict[str, str]] = []

    def slow() -> object:
        time.sleep(0.02)
        seen.append(states_of(rig.registry.latest("ann")))
        return [{"n": len(seen)}]

    rig.runner({"a": slow, "b": slow, "c": slow}, max_concurrency=1).run()
    assert seen[1]["a"] == "found"
    assert (seen[2]["a"], seen[2]["b"]) == ("found", "found")


def _quick(ran: list[str], name: str) -> Callable[[], Awaitable[object]]:
    async def strategy() -> object:
        ran.append(name)
        return [{"of": name}]

    return strategy


def test_quick_coroutines_share_commits_and_none_is_lost() -> None:
    rig, ran = Rig("async"), list[str]()
    try:
        store = FaultyStore(rig.store)
        strategies = {f"s{number}": _quick(ran, f"s{number}") for number in range(200)}
        status = rig.runner(strategies, store=store).run()
        assert set(states_of(status).values()) == {"found"}
        assert len(ran) == len(rig.registry.results(status.scan_id).opportunities) == 200
        assert store.counts["Apply"] < 100
    finally:
        rig.close()


def test_quick_coroutines_start_no_more_than_a_store_that_is_down_leaves_unrecorded() -> None:
    rig, ran = Rig("async"), list[str]()
    try:
        store = FaultyStore(rig.store)

        async def breaks() -> object:
            store.always(Fault.FAIL, on=Apply)
            await asyncio.sleep(0)
            return []

        strategies = {f"s{number}": _quick(ran, f"s{number}") for number in range(500)}
        runner = rig.runner({"breaks": breaks, **strategies}, store=store, op_timeout=0.1)
        going = runner.begin()
        assert until(lambda: len(ran) >= UNRECORDED - 8)
        time.sleep(0.3)
        assert len(ran) <= UNRECORDED + 8
        store.clear()
        assert going.result(PATIENCE).progress.succeeded == 501
        assert len(ran) == 500
    finally:
        rig.close()
