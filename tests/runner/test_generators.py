"""Generators that never end, never wait, hang or yield junk: bounded, and nothing good is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from socket import gethostname

import pytest

from oppscan import Limits, ScanContext, Strategy, codec
from oppscan.clock import elapsed
from oppscan.runner.collected import Collected
from oppscan.runner.parcel import HOMEWARD, Answer, Parcel
from oppscan.runner.strategies import FileToken, Flag, Kind, call_blocking
from tests.runner import pools
from tests.runner.rig import Rig, states_of

SPAWN = partial(ProcessPoolExecutor, 2, mp_context=get_context("spawn"))


async def never_waits() -> AsyncIterator[object]:
    while True:
        yield {"n": 1}


def never_ends() -> Iterator[object]:
    while True:
        yield {"n": 1}


def test_an_async_generator_that_never_waits_is_timed_out_and_lets_others_go_on(rig: Rig) -> None:
    async def ticks() -> None:
        for _ in range(20):
            await asyncio.sleep(0.001)

    began = elapsed()
    hog = Strategy("hog", never_waits, timeout=0.5)
    status = rig.runner([hog, Strategy("ticks", ticks, timeout=20)]).begin().result(15)
    assert elapsed() - began < 10
    assert states_of(status) == {"hog": "timed_out", "ticks": "empty"}
    assert status.outcome("hog").found > 1


@pytest.mark.parametrize("call", [never_waits, never_ends], ids=lambda call: call.__name__)
def test_g12_an_endless_generator_is_ended_at_the_limit_of_its_strategy(
    rig: Rig, call: Callable[[], object]
) -> None:
    limits = Limits(max_strategy_bytes=2000)
    status = rig.runner({"it": call}, strategy_timeout=20, limits=limits).run()
    assert states_of(status) == {"it": "failed"}
    assert "over the limit of 2000" in str(status.outcome("it").error)
    kept = status.outcome("it").found
    assert 100 < kept <= 2000
    assert len(rig.registry.results(status.scan_id, partial=True).opportunities) == kept


def test_what_was_yielded_is_as_it_was_then_whatever_becomes_of_it(rig: Rig) -> None:
    def reuses() -> Iterator[object]:
        one = {"n": 0}
        for one["n"] in range(3):
            yield one

    status = rig.runner([reuses]).run()
    found = rig.registry.results(status.scan_id).opportunities
    assert [item["n"] for item in found] == [0, 1, 2]


def test_many_opportunities_come_out_as_they_were_yielded(rig: Rig) -> None:
    def many() -> Iterator[object]:
        yield from ({"n": n} for n in range(70_000))

    status = rig.runner([many]).run()
    found = rig.registry.results(status.scan_id).opportunities
    assert [item["n"] for item in found] == list(range(70_000))


POOLS = [
    pytest.param(SPAWN, id="process pool"),
    pytest.param(partial(ThreadPoolExecutor, 2), id="thread pool"),
]


@pytest.mark.parametrize("factory", POOLS)
def test_what_a_generator_yielded_in_an_executor_before_it_hung_is_kept(
    rig: Rig, tmp_path: Path, factory: Callable[[], Executor]
) -> None:
    runner = rig.runner(
        {"hangs": pools.yields_and_hangs}, executor=factory, strategy_timeout=2.5, budget=30
    )
    status = runner.run(params={"ledger": str(tmp_path / "ledger")})
    (tmp_path / "ledger.go").touch()
    assert states_of(status) == {"hangs": "timed_out"}
    found = rig.registry.results(status.scan_id, partial=True).opportunities
    assert [item["n"] for item in found] == [1, 2]


@pytest.mark.parametrize(("host", "cut"), [(gethostname(), 0.0), ("elsewhere", HOMEWARD)])
def test_only_on_another_host_a_generator_is_told_early_that_its_time_is_over(
    host: str, cut: float
) -> None:
    told: list[float] = []

    def generates(context: ScanContext) -> Iterator[object]:
        told.append(context.remaining)
        yield {"n": 1}

    now = elapsed()
    answer = Parcel(
        generates, Kind.GENERATOR, True, "ann", "scan", "it", {}, {}, 60.0, now + 60.0, host,
        Flag(), Collected(),
    ).run()  # fmt: skip
    assert answer == Answer(None, (codec.encode({"n": 1}),))
    assert 60 - cut - 0.4 < told[0] <= 60 - cut


def test_what_a_generator_yielded_before_it_killed_its_process_is_kept(
    rig: Rig, tmp_path: Path
) -> None:
    runner = rig.runner({"dies": pools.yields_and_dies}, executor=SPAWN, strategy_timeout=30)
    status = runner.run(params={"ledger": str(tmp_path / "ledger")})
    assert (status.outcome("dies").state, status.outcome("dies").found) == ("failed", 1)


def test_notes_of_another_process_are_read_up_to_where_it_was_killed(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    there, here = Collected(notes=str(notes)), Collected(notes=str(notes))
    there.add({"n": 1})
    there.add({"n": 2})
    there.close()
    notes.write_bytes(notes.read_bytes()[:-1])
    here.recall()
    assert here.items == [codec.encode({"n": 1})]
    assert not notes.exists()
    here.recall()  # what is gone changes nothing
    assert len(here.items) == 1


def test_where_notes_cannot_be_taken_opportunities_are_kept_all_the_same(tmp_path: Path) -> None:
    collected = Collected(notes=str(tmp_path / "no folder" / "notes"))
    collected.add({"n": 1})
    collected.add({"n": 2})
    collected.close()
    assert collected.packed() == (2, codec.encode([{"n": 1}, {"n": 2}]))


def test_a_generator_that_is_told_to_stop_gives_no_more() -> None:
    told, collected = Flag(), Collected()

    def tells() -> Iterator[object]:
        yield {"n": 1}
        told.set()
        yield {"n": 2}
        yield {"n": 3}

    call_blocking(tells, Kind.GENERATOR, collected, told)
    assert len(collected.items) == 2
    assert not FileToken("/nowhere").is_set()
