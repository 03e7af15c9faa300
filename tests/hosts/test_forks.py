"""Forks: what was made before works on both sides, and nothing of one side reaches the other."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Self
from unittest.mock import patch

import pytest

import oppscan
import oppscan.sync as blocking
from oppscan import ClaimLost, StorageMisconfigured, TTLPolicy
from oppscan.backends.sqlite import SQLiteBackend
from tests.hosts.forking import Child, in_child

FORKS = 100
AT_ONCE = 5
LOAD = 3
POLICY = TTLPolicy(lease=2.0)


@pytest.fixture
def registry(store_url: str) -> Iterator[blocking.ScanRegistry]:
    with blocking.connect(store_url, ttl=POLICY, op_timeout=20.0) as registry:
        yield registry


def _live_once(registry: blocking.ScanRegistry, owner: str) -> None:
    """Live through a whole scan, and check that every reply is about it."""
    ticket = registry.start(owner, ["a"], params={"of": owner})
    with registry.claim(ticket.scan_id) as scan:
        assert (scan.owner, scan.params) == (owner, {"of": owner})
        scan.strategy_finished("a", [{"of": owner}])
    results = registry.results(ticket.scan_id, owner=owner)
    assert results.status.scan_id == registry.latest(owner).scan_id == ticket.scan_id
    assert results.opportunities == ({"of": owner},)


class _Load:
    """Threads that use a registry without a pause, and what went wrong in them."""

    def __init__(self, registry: blocking.ScanRegistry) -> None:
        self._registry = registry
        self._over = threading.Event()
        self.wrong: list[BaseException] = []
        self.lives = 0
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(LOAD)]

    def _run(self, number: int) -> None:
        try:
            while not self._over.is_set():
                self.lives += 1
                _live_once(self._registry, f"thread {number}, life {self.lives}")
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.wrong.append(error)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads), "a thread hangs"


def test_a_hundred_forks_under_load_cross_no_reply_and_leave_the_claim_alive(
    registry: blocking.ScanRegistry,
) -> None:
    ticket = registry.start("parent", ["a", "b"])
    with registry.claim(ticket.scan_id) as scan, _Load(registry) as load:

        def child(number: int) -> str:
            with pytest.raises(ClaimLost):
                scan.strategy_finished("a", [{"by": number}])
            assert not registry.status(ticket.scan_id).stalled
            _live_once(registry, f"child {number}")
            return "lived"

        children: list[Child] = []
        said: list[str] = []
        for number in range(FORKS):
            children.append(Child(lambda number=number: child(number)))  # type: ignore[misc]
            if len(children) == AT_ONCE:
                said += [one.said() for one in children]
                children.clear()
            assert not registry.status(ticket.scan_id).stalled
        assert said == ["lived"] * FORKS
        scan.strategy_finished("a", [{"by": "parent"}])
    assert not load.wrong
    assert load.lives > LOAD
    status = registry.status(ticket.scan_id)
    assert (status.state, status.attempts) == ("complete", 1)
    assert registry.results(ticket.scan_id).opportunities == ({"by": "parent"},)
    for number in range(FORKS):
        assert registry.latest(f"child {number}").state == "complete"


def test_g11_what_a_child_wrote_survives_the_end_of_its_parents_registry(
    registry: blocking.ScanRegistry,
) -> None:
    registry.start("parent", ["a"])
    reading, writing = os.pipe()

    def child() -> str:
        before = registry.start("child", ["a"]).scan_id
        os.read(reading, 1)
        return f"{before} {registry.start('child', ['b']).scan_id}"

    going = Child(child)
    _until_started(registry, "child")
    registry.close()
    os.write(writing, b"!")
    for scan_id in going.said().split():
        assert registry.status(scan_id).owner == "child"
    os.close(reading)
    os.close(writing)


def _until_started(registry: blocking.ScanRegistry, owner: str) -> None:
    while not registry.history(owner):
        pass


def test_a_claim_made_before_a_fork_can_be_entered_in_the_child(
    registry: blocking.ScanRegistry,
) -> None:
    ticket = registry.start("ann", ["a"])
    claim = registry.claim(ticket.scan_id)

    def child() -> str:
        with claim as scan:
            scan.strategy_finished("a", [])
        return "finished"

    assert in_child(child) == "finished"
    assert registry.status(ticket.scan_id).state == "complete"


def test_nobody_waits_in_a_child_for_the_end_of_its_parents_claim(
    registry: blocking.ScanRegistry,
) -> None:
    ticket = registry.start("ann", ["a"])
    with registry.claim(ticket.scan_id) as scan:

        def child() -> str:
            scan.interrupted()
            with pytest.raises(ClaimLost):
                scan.submit_all([])
            return f"interrupted: {scan.is_interrupted}"

        assert in_child(child) == "interrupted: True"
        assert not scan.is_interrupted


# --- What other threads held ---------------------------------------------------------------------


def _held_at_the_fork(lock: threading.Lock, action: Callable[[], str]) -> str:
    with lock:
        return in_child(action)


def test_a_child_can_read_though_another_thread_held_the_memory_of_results(
    registry: blocking.ScanRegistry,
) -> None:
    _live_once(registry, "ann")
    scan_id = registry.latest("ann").scan_id
    near = registry._operations.scope.near  # noqa: SLF001

    def child() -> str:
        return str(registry.results(scan_id).opportunities)

    assert _held_at_the_fork(near._lock, child) == "({'of': 'ann'},)"  # noqa: SLF001


def test_a_fork_waits_for_no_transaction_for_ever_and_the_child_refuses_the_file(
    tmp_path: Path,
) -> None:
    backend = SQLiteBackend(tmp_path / "scans.db")
    registry = blocking.ScanRegistry(backend)
    ticket = registry.start("ann", ["a"])

    def child() -> str:
        with pytest.raises(StorageMisconfigured, match="before the fork"):
            registry.status(ticket.scan_id)
        registry.close()
        grandchild = in_child(lambda: str(registry.status(ticket.scan_id)))
        assert grandchild.startswith("StorageMisconfigured")
        return "refused"

    with patch("oppscan.backends.sqlite.PATIENCE", 0.05):
        with backend.transaction(1.0, write=True) as transaction:
            transaction.put("key", (1,), 2**60)
            assert in_child(child) == "refused"
        with backend.transaction(1.0, write=False) as transaction:
            assert transaction.get("key") is not None
    assert in_child(lambda: registry.status(ticket.scan_id).state) == "pending"
    registry.close()


# --- Runners -------------------------------------------------------------------------------------


def test_closing_a_runner_in_a_child_leaves_the_parents_processes_alone(
    registry: blocking.ScanRegistry,
) -> None:
    with blocking.StrategyRunner(registry, {"it": _pid}, executor=_one_process) as runner:
        first = registry.results(runner.run("ann").scan_id).opportunities

        def child() -> str:
            runner.close()
            with blocking.StrategyRunner(registry, {"it": _pid}) as other:
                return str(other.run("bob").state)

        assert in_child(child) == "complete"
        scan_id = runner.run("ann").scan_id
        assert registry.results(scan_id).opportunities == first, "the same process runs on"


def _one_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1)


def _pid() -> list[dict[str, object]]:
    return [{"pid": os.getpid()}]


def test_a_runner_closes_at_once_in_a_child_forked_while_scans_ran(
    registry: blocking.ScanRegistry,
) -> None:
    going, over = threading.Event(), threading.Event()

    def waits() -> None:
        going.set()
        over.wait(60)

    with blocking.StrategyRunner(registry, {"waits": waits}) as runner:
        scan_id = runner.start("ann").scan_id
        assert going.wait(30)

        def child() -> str:
            runner.close(drain=3600)
            return str(registry.status(scan_id).stalled)

        assert in_child(child) == "False"
        over.set()
        assert registry.wait(scan_id, timeout=30).state == "complete"


@pytest.mark.asyncio
async def test_a_signal_to_a_child_does_not_end_the_scans_of_its_parent(store_url: str) -> None:
    """A pool of processes ends its children by SIGTERM, and they have the parent's sockets."""
    going, over = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        going.set()
        await over.wait()

    before = signal.getsignal(signal.SIGTERM)
    async with (
        oppscan.connect(store_url, ttl=POLICY) as registry,
        oppscan.StrategyRunner(registry, {"waits": waits}) as runner,
    ):
        runner.release_on_sigterm()
        ticket = await runner.start("ann")
        await going.wait()
        reading, writing = os.pipe()

        def idle() -> str:
            os.write(writing, b"!")
            time.sleep(60)
            return "was not ended"

        child = Child(idle)
        os.read(reading, 1)
        os.kill(child.pid, signal.SIGTERM)
        assert child.said() == ""
        assert in_child(lambda: str(signal.getsignal(signal.SIGTERM))) == str(before)
        await asyncio.sleep(0.1)
        over.set()
        assert (await registry.wait(ticket.scan_id, timeout=30)).state == "complete"
        os.close(reading)
        os.close(writing)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)
