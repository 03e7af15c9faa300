"""The tools of ``oppscan.testing`` do what they say: a tool that lies makes every test a lie."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest

import oppscan
import oppscan.sync
from oppscan import StorageFull, StorageUnavailable
from oppscan.ops import Apply
from oppscan.testing import Fault, FaultyStore, ManualClock, SequentialIds
from oppscan.testing.faces import in_thread, run_at_once
from oppscan.testing.plugin import (
    oppscan_clock,
    oppscan_registry,
    oppscan_store,
    oppscan_sync_registry,
)

__all__ = ["oppscan_clock", "oppscan_registry", "oppscan_store", "oppscan_sync_registry"]


@pytest.mark.asyncio
async def test_sleepers_wake_at_their_own_instants() -> None:
    clock = ManualClock()
    began, woken = clock.now(), []

    async def sleep(seconds: float, times: int) -> None:
        for _ in range(times):
            await clock.sleep(seconds)
            woken.append((clock.now() - began, seconds))

    tasks = [asyncio.create_task(sleep(2, 3)), asyncio.create_task(sleep(5, 1))]
    await clock.advance(4.999)
    assert woken == [(2000, 2), (4000, 2)]
    await clock.advance(0.001)
    assert woken[2:] == [(5000, 5)]
    clock.jump(100)
    await clock.settled()
    assert woken[3:] == [(105_000, 2)]
    await asyncio.gather(*tasks)


@pytest.mark.asyncio
async def test_threads_wake_with_tasks() -> None:
    clock, woken = ManualClock(), []
    stop = threading.Event()

    def beat() -> None:
        while not clock.wait(stop, 1.0):
            woken.append(clock.elapsed())

    thread = threading.Thread(target=beat)
    thread.start()
    clock.expect(thread)
    await clock.advance(3.5)
    assert woken == [1.0, 2.0, 3.0]
    stop.set()
    thread.join(1)
    assert not thread.is_alive()


def test_time_passes_without_an_event_loop() -> None:
    clock, woken = ManualClock(), []

    def sleep() -> None:
        clock.wait(threading.Event(), 2.0)
        woken.append(clock.elapsed())

    thread = threading.Thread(target=sleep)
    clock.expect(thread)
    thread.start()
    clock.advance_blocking(5)
    assert woken == [2.0]


@pytest.mark.asyncio
async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(10))
    await clock.settled()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    began = time.monotonic()
    await clock.advance(100)
    assert time.monotonic() - began < 1


@pytest.mark.asyncio
async def test_who_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oppscan.testing.clock.PATIENCE", 0.05)
    clock, never = ManualClock(), asyncio.Event()

    async def hang_after_waking() -> None:
        await clock.sleep(1)
        await never.wait()

    task = asyncio.create_task(hang_after_waking())
    with pytest.raises(TimeoutError, match="hang_after_waking"):
        await clock.advance(2)
    task.cancel()


@pytest.mark.asyncio
async def test_a_pause_of_nothing_is_over_at_once() -> None:
    clock = ManualClock()
    for seconds in (0, -1):
        await clock.sleep(seconds)
        assert not clock.wait(threading.Event(), seconds)
    assert clock.elapsed() == 0


@pytest.mark.asyncio
async def test_a_sleeper_may_be_cancelled_as_it_is_woken() -> None:
    clock, wrong = ManualClock(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
    task = asyncio.create_task(clock.sleep(1))
    await clock.settled()
    clock.jump(1)
    task.cancel()
    await clock.settled()
    assert task.cancelled()
    assert wrong == []


def test_a_sleeper_whose_loop_was_closed_is_waited_for_no_more() -> None:
    clock = ManualClock()
    loop = asyncio.new_event_loop()
    task = loop.create_task(clock.sleep(1))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    clock.advance_blocking(2)
    assert clock.elapsed() == 2
    assert not task.done()


def test_a_worker_s_clock_tells_the_store_s_time() -> None:
    clock = ManualClock()
    worker = FaultyStore(oppscan.MemoryBackend(clock)).clock
    clock.jump(7)
    assert (worker.now(), worker.elapsed()) == (clock.now(), 7.0)


@pytest.mark.asyncio
async def test_a_blocking_call_that_nobody_awaits_any_more_ends_in_peace() -> None:
    wrong: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
    threads: list[threading.Thread] = []
    leave = threading.Event()
    calling = asyncio.create_task(in_thread(threads.append, leave.wait))
    await asyncio.sleep(0)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    leave.set()
    threads[0].join()
    await asyncio.sleep(0)
    assert calling.cancelled()
    assert wrong == []


def test_a_blocking_call_may_outlive_the_test_s_loop() -> None:
    threads: list[threading.Thread] = []
    leave = threading.Event()

    async def call_and_go() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_thread(threads.append, leave.wait), 0.01)

    asyncio.run(call_and_go())
    leave.set()
    threads[0].join()  # what its thread raised would fail this test


def test_a_blocking_face_that_had_to_wait_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="would have to wait"):
        run_at_once(asyncio.sleep(0))


def test_sequential_ids_are_ids() -> None:
    ids, other = SequentialIds(1), SequentialIds(2)
    assert len(ids.scan_suffix()) == 32
    assert len(ids.operation()) == 16
    drawn = [source.scan_suffix() for source in (ids, other) for _ in range(100)]
    assert len(set(drawn)) == 200


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "error", "applied"),
    [
        (Fault.FAIL, StorageUnavailable, False),
        (Fault.DROP, StorageUnavailable, True),
        (Fault.FULL, StorageFull, False),
        (Fault.HANG, StorageUnavailable, False),
        (Fault.DROP_AND_HANG, StorageUnavailable, True),
    ],
)
async def test_faults_do_what_they_say_in_both_faces(
    fault: Fault, error: type[Exception], applied: bool
) -> None:
    inner = oppscan.MemoryBackend()
    store = FaultyStore(inner)
    store.always(fault, on=Apply)
    with pytest.raises(error):
        await oppscan.ScanRegistry(store, op_timeout=0.05).start("ann", ["a"])
    with pytest.raises(error):
        oppscan.sync.ScanRegistry(store, op_timeout=0.05).start("bob", ["a"])
    seen = oppscan.sync.ScanRegistry(inner)
    assert [seen.has_active_scan(owner) for owner in ("ann", "bob")] == [applied] * 2
    assert store.counts["Apply"] >= 2
    store.clear()
    assert oppscan.sync.ScanRegistry(store).start("cid", ["a"]).must_run


@pytest.mark.asyncio
async def test_a_host_s_fixtures(
    oppscan_registry: oppscan.ScanRegistry,
    oppscan_sync_registry: oppscan.sync.ScanRegistry,
    oppscan_clock: ManualClock,
) -> None:
    ticket = await oppscan_registry.start("ann", ["a"])
    assert oppscan_sync_registry.status(ticket.scan_id) == ticket.status
    async with oppscan_registry.claim(ticket.scan_id):
        await oppscan_clock.advance(1000)
        assert not oppscan_sync_registry.status(ticket.scan_id).stalled


def test_only_the_contract_and_the_plugin_load_pytest() -> None:
    code = (
        "import sys, oppscan, oppscan.sync, oppscan.testing;"
        "sys.exit('pytest' in sys.modules or 'oppscan.testing.plugin' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
