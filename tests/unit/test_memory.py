"""The memory store: one lock, no forks, and nothing kept for ever."""

from __future__ import annotations

import os
import threading

import pytest

from oppscan import MemoryBackend, StorageMisconfigured, StorageUnavailable, TTLPolicy
from oppscan.backends.rows import FOREVER
from oppscan.ops import Purge
from oppscan.sync import ScanRegistry
from oppscan.testing import ManualClock
from tests.unit.made import POLICY


def test_a_store_held_by_another_thread_is_unavailable_in_time() -> None:
    backend = MemoryBackend()
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with backend.transaction(1, write=True):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    with pytest.raises(StorageUnavailable, match=r"held by other threads for 0\.05 s"):
        backend.execute_blocking(Purge(), "n", 0.05)
    leave.set()
    thread.join()
    assert repr(backend) == "MemoryBackend()"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_told_that_its_copy_is_a_lie() -> None:
    registry = ScanRegistry(MemoryBackend())
    ticket = registry.start("ann", ["alpha"])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            registry.status(ticket.scan_id)
        except StorageMisconfigured:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _rows(backend: MemoryBackend) -> int:
    return sum(len(folder.rows) for folder in backend._rows.folders.values())  # noqa: SLF001


def test_g12_writing_drops_what_is_kept_no_longer() -> None:
    clock = ManualClock()
    backend = MemoryBackend(clock)
    registry = ScanRegistry(backend, ttl=POLICY)
    sizes = []
    for number in range(2000):
        registry.start(f"owner {number}", ["alpha"])
        clock.jump(10)
        sizes.append(_rows(backend))
    assert max(sizes[1000:]) <= max(sizes[:1000])
    clock.jump(POLICY.lookup_ttl)
    registry.purge()
    assert _rows(backend) == 0
    assert not backend._rows.minutes  # noqa: SLF001


def test_rows_are_listed_in_order_from_both_ends() -> None:
    backend = MemoryBackend(ManualClock())
    with backend.transaction(1, write=True) as tx:
        for name in "bca":
            tx.put(f"n/o/t/{name}", (name,), FOREVER)
        keys = [key for key, _ in tx.scan("n/o/t/")]
        assert keys == ["n/o/t/a", "n/o/t/b", "n/o/t/c"]
        tx.put("n/o/t/ab", (), FOREVER)
        tx.put("n/o/t/a", ("again",), FOREVER)
        assert [key[-2:] for key, _ in tx.scan("n/o/t/", reverse=True)] == ["/c", "/b", "ab", "/a"]
        assert [key for key, _ in tx.scan("n/o/t/", "b", reverse=True, limit=1)] == ["n/o/t/ab"]
        assert [key for key, _ in tx.scan("n/o/t/", "b", limit=1)] == ["n/o/t/b"]
        tx.delete("n/o/t/ab")
        tx.delete("n/o/t/ab")
        tx.delete("n/o/nobody/ab")
        assert len(tx.scan("n/o/t/")) == 3
        assert tx.get("n/o/nobody/ab") is None
        assert tx.scan("n/o/nobody/") == []


def test_time_is_monotonic_by_default() -> None:
    registry = ScanRegistry(MemoryBackend(), ttl=TTLPolicy())
    first = registry.start("ann", ["alpha"]).status.created_at
    assert registry.start("bob", ["alpha"]).status.created_at >= first
