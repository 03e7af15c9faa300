"""The budget bounds a run also where the store is down, and nothing of it outlives it."""

from __future__ import annotations

import asyncio

import pytest

from oppscan import StorageUnavailable, TTLPolicy
from oppscan.clock import elapsed
from oppscan.testing import Fault, FaultyStore
from tests.runner.rig import Rig


def test_with_the_store_down_a_run_ends_with_its_budget_however_long_a_write_may_take(
    rig: Rig,
) -> None:
    store = FaultyStore(rig.store)

    async def works() -> None:
        store.always(Fault.FAIL)
        await asyncio.sleep(0.1)

    runner = rig.runner([works], store=store, budget=1.5, op_timeout=10.0, ttl=TTLPolicy(lease=0.4))
    began = elapsed()
    with pytest.raises(StorageUnavailable):
        runner.begin().result(20)
    assert elapsed() - began < 4.5
    store.clear()


def test_a_run_that_used_up_its_budget_still_records_its_end(rig: Rig) -> None:
    def works() -> None:
        rig.gate.wait(30)

    runner = rig.runner({"works": works}, budget=0.02)
    assert runner.run().progress.percentage == 100.0


def test_a_claim_s_last_writes_have_time_for_a_try(rig: Rig) -> None:
    scan_id = rig.registry.start("ann", ["it"]).scan_id
    with rig.registry.claim(scan_id) as claim:
        claim.ends_at = elapsed() - 60
        claim.strategy_finished("it", [])
    assert rig.registry.status(scan_id).done
