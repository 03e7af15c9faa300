"""Once there is reason to stop, nothing more is started."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import pytest

import oppscan
import oppscan.sync as blocking
from oppscan.claim import ScanClaim
from oppscan.clock import elapsed
from oppscan.drafting import Report
from oppscan.errors import OppscanError, StorageFull
from oppscan.runner.estimate import Durations, Estimate
from oppscan.runner.places import ThreadPlace
from oppscan.runner.plan import make_plan
from oppscan.runner.run import Run
from oppscan.runner.threads import BlockingThreads

PLACES = 20


class Flow:
    """Many quick strategies, of which one turns things; the late ones started after that."""

    def __init__(self, turn: Callable[[ScanClaim], Awaitable[None]]) -> None:
        self._turn = turn
        self.turned = False
        self.late = 0
        self.ran = 0
        self.claim: ScanClaim | None = None

    async def _step(self) -> object:
        self.ran += 1
        self.late += self.turned
        if self.ran == 10 and self.claim is not None:
            await self._turn(self.claim)
        await asyncio.sleep(0)
        return []

    async def run(self) -> OppscanError | None:
        """Run them all; give what the run was ended by."""
        strategies = {f"s{number}": self._step for number in range(400)}
        registry = oppscan.ScanRegistry(oppscan.MemoryBackend())
        plan = make_plan(strategies, PLACES, 60.0, 60.0, None)
        ticket = await registry.start("ann", list(strategies))
        place = ThreadPlace(BlockingThreads("unused"))
        try:
            async with registry.claim(ticket.scan_id) as claim:
                self.claim = claim
                estimate = Estimate(claim.remaining, Durations(), PLACES)
                await Run(claim, plan, place, estimate, elapsed() + 60).run()
        except OppscanError as error:
            return error
        return None


def test_nothing_is_started_once_the_claim_has_ended() -> None:
    async def let_go(claim: ScanClaim) -> None:
        await claim.release()
        flow.turned = True

    flow = Flow(let_go)
    assert isinstance(asyncio.run(flow.run()), oppscan.ClaimLost)
    assert flow.ran < 400
    assert flow.late == 0


def test_nothing_is_started_once_the_store_takes_no_more() -> None:
    async def fill_up(claim: ScanClaim) -> None:
        async def full(reports: Sequence[Report]) -> list[Exception | None]:
            while flow.ran < 30:  # noqa: ASYNC110 - some have ended, others have their places
                await asyncio.sleep(0)
            flow.turned = True
            return [StorageFull("no room")] * len(reports)

        claim.submit_all = full  # type: ignore[method-assign, assignment]

    flow = Flow(fill_up)
    assert isinstance(asyncio.run(flow.run()), StorageFull)
    assert flow.ran < 400
    assert flow.late == 0


def test_all_are_started_where_there_is_no_reason_to_stop() -> None:
    async def nothing(claim: ScanClaim) -> None:
        flow.turned = True

    flow = Flow(nothing)
    assert asyncio.run(flow.run()) is None
    assert flow.ran == 400
    assert flow.late > 0


def test_the_host_s_own_interrupt_in_a_coroutine_gets_out_and_releases_the_scan() -> None:
    async def interrupted() -> NoReturn:
        await asyncio.sleep(0.01)
        raise KeyboardInterrupt

    async def main() -> None:
        await oppscan.StrategyRunner(oppscan.ScanRegistry(store), [interrupted]).run("ann")

    store = oppscan.MemoryBackend()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    status = blocking.ScanRegistry(store).latest("ann")
    assert (status.state, status.stalled) == (oppscan.ScanState.RUNNING, True)


def test_what_was_stopped_before_its_first_step_never_begins() -> None:
    ran: list[int] = []

    async def it() -> None:
        ran.append(1)

    async def main() -> None:
        registry = oppscan.ScanRegistry(oppscan.MemoryBackend())
        ticket = await registry.start("ann", ["it"])
        place = ThreadPlace(BlockingThreads("unused"))
        async with registry.claim(ticket.scan_id) as claim:
            estimate = Estimate(claim.remaining, Durations(), 1)
            plan = make_plan({"it": it}, 1, 60.0, 60.0, None)
            run = Run(claim, plan, place, estimate, elapsed() + 60)
            run.todo.append("it")
            run._fill()  # noqa: SLF001 - within one turn of the loop
            run._stop()  # noqa: SLF001
            run._quiet()  # noqa: SLF001
            await asyncio.sleep(0.05)

    asyncio.run(main())
    assert ran == []
