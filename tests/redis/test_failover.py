"""A server is lost while a scan runs, and another takes over.

What was replicated is found again, nobody wins twice, writers go on by themselves; and what
asynchronous replication loses is measured, as the control of what ``replicated`` does not lose.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Callable

import pytest

import oppscan
import oppscan.sync
from oppscan import ScanRegistry, ScanState
from oppscan.backends.redis import RedisBackend, layout
from oppscan.testing.faces import awaitable
from tests.redis.servers import Server, running, wait_until
from tests.redis.standby import Lag, Standby, clustered, in_sync, watched

NAMES = tuple(f"strategy-{number}" for number in range(12))
BEFORE = 4
PATIENCE = 8.0
"""Seconds for one write of the holder: half of them is longer than a failover takes."""

PROMPT = 0.4


LOSSES = (
    ("sentinel", "async", signal.SIGSTOP),
    ("sentinel", "blocking", signal.SIGKILL),
    ("cluster", "async", signal.SIGSTOP),
    ("cluster", "async", signal.SIGKILL),
    ("cluster", "blocking", signal.SIGSTOP),
)
"""A server that is killed refuses; one that is frozen says nothing, which is worse."""


class _Crowd:
    """Those who look at a scan, or would like to have it, while its server is lost."""

    def __init__(self, scan_id: str, url: str) -> None:
        self.scan_id = scan_id
        self.registry = ScanRegistry(RedisBackend(url), op_timeout=PROMPT)
        self.begin, self.over = asyncio.Event(), asyncio.Event()
        self.answers: Counter[str] = Counter()
        self.started: set[str] = set()
        self.completed: list[int] = []

    async def _poll(self) -> None:
        status = await self.registry.status(self.scan_id, owner="ann")
        self.completed.append(status.progress.strategies_completed)

    async def _start(self) -> None:
        ticket = await self.registry.start("ann", NAMES)
        if ticket.joined:
            self.started.add(ticket.scan_id)
        else:  # the scan came to its end just now, and nobody told this crowd to stop
            assert (await self.registry.status(self.scan_id)).done
            await self.registry.forget(ticket.scan_id)

    async def _take(self) -> None:
        async with self.registry.claim(self.scan_id, owner="ann"):
            raise AssertionError("two hold one scan")

    async def _repeat(self, what: str) -> None:
        act = {"poll": self._poll, "start": self._start, "take": self._take}[what]
        await self.begin.wait()
        while not self.over.is_set():
            try:
                await act()
                self.answers[f"{what}: answered"] += 1
            except oppscan.OppscanError as error:
                self.answers[f"{what}: {type(error).__name__}"] += 1
            await asyncio.sleep(0.02)

    async def watch(self) -> None:
        """Go on until it is over; anything but a typed answer is raised."""
        async with self.registry:
            await asyncio.gather(*map(self._repeat, ("poll", "start", "take")))


async def _hold(registry: ScanRegistry, scan_id: str, lose: Callable[[], None]) -> None:
    """Work on a scan; in the middle of it the server is lost."""
    async with registry.claim(scan_id) as claim:
        for number, name in enumerate(NAMES):
            if number == BEFORE:
                await asyncio.to_thread(lose)
            await claim.strategy_finished(name, [{"n": number}])


async def _outlive(standby: Standby, face: str, stop: signal.Signals) -> Counter[str]:
    """Lose the server of a scan that runs; give what the others were told."""
    registry = oppscan.sync.ScanRegistry(RedisBackend(standby.url), op_timeout=PATIENCE)
    scan_id = registry.start("ann", NAMES).scan_id
    crowd = _Crowd(scan_id, standby.url)
    watching = asyncio.create_task(crowd.watch())
    loop = asyncio.get_running_loop()

    def lose() -> None:
        loop.call_soon_threadsafe(crowd.begin.set)
        standby.replicate(layout.key("oppscan", "r", scan_id))
        standby.primary_of(layout.key("oppscan", "r", scan_id)).send(stop)

    if face == "async":
        async with ScanRegistry(RedisBackend(standby.url), op_timeout=PATIENCE) as own:
            await _hold(own, scan_id, lose)
    else:
        blocking = _hold(awaitable(registry, None), scan_id, lose)
        await asyncio.to_thread(asyncio.run, blocking)
    crowd.over.set()
    await watching
    results = registry.results(scan_id, owner="ann")
    registry.close()
    assert [item["n"] for item in results.opportunities] == list(range(len(NAMES)))
    assert results.status.state is ScanState.COMPLETE
    assert crowd.started == {scan_id}
    assert crowd.completed == sorted(crowd.completed)
    return crowd.answers


@pytest.mark.parametrize(
    ("kind", "face", "stop"), LOSSES, ids=[f"{k}-{f}-{s.name}" for k, f, s in LOSSES]
)
def test_a_running_scan_outlives_its_server(kind: str, face: str, stop: signal.Signals) -> None:
    with (watched if kind == "sentinel" else clustered)("valkey-9.1") as standby:
        told = asyncio.run(_outlive(standby, face, stop))
    assert set(told) <= {
        "poll: answered", "poll: StorageUnavailable",
        "start: answered", "start: StorageUnavailable",
        "take: ScanAlreadyClaimed", "take: StorageUnavailable", "take: ScanFinished",
    }, told  # fmt: skip
    assert told["poll: StorageUnavailable"] > 0


# --- What is acknowledged -----------------------------------------------------------------------

WRITERS = 4
BEHIND = 0.05
"""Seconds that a replica lags: much for one data centre, little for two continents."""


def _lost(durability: str, seconds: float = 0.6, behind: float = BEHIND) -> tuple[int, int]:
    """Start scans until the master dies, and promote its late replica.

    Gives how many starts had been acknowledged, and how many of those scans are gone.
    """
    with running(master := Server("valkey-9.1")):
        lag = Lag(master.port, behind)
        with running(replica := Server("valkey-9.1", f"replicaof 127.0.0.1 {lag.port}")):
            wait_until(lambda: in_sync(replica), "replica")
            acknowledged: list[str] = []
            store = RedisBackend(master.url)
            registry = oppscan.sync.ScanRegistry(store, durability=durability, op_timeout=1.0)

            def write(writer: int) -> None:
                number = 0
                while True:
                    number += 1
                    try:
                        ticket = registry.start(f"owner-{writer}-{number}", ["alpha"])
                    except oppscan.StorageError:
                        return
                    acknowledged.append(ticket.scan_id)

            writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
            for writer in writers:
                writer.start()
            threading.Event().wait(seconds)
            lag.stop()
            master.kill()
            for writer in writers:
                writer.join()
            registry.close()
            with replica.client() as client:
                client.replicaof("NO", "ONE")
            with oppscan.sync.connect(replica.url) as after:
                gone = 0
                for scan_id in acknowledged:
                    try:
                        after.status(scan_id)
                    except oppscan.ScanNotFound:
                        gone += 1
    return len(acknowledged), gone


def test_replicated_loses_nothing_that_was_acknowledged() -> None:
    acknowledged, gone = _lost("replicated")
    assert acknowledged > WRITERS
    assert gone == 0


def test_by_default_a_late_replica_loses_what_it_was_late_by() -> None:
    """The control of the test before, and the numbers of the documentation."""
    acknowledged, gone = _lost("default")
    assert 0 < gone < acknowledged


def test_a_replicated_scan_outlives_a_failover_in_the_middle_of_a_burst() -> None:
    """Nothing acknowledged is lost where no pause lets the replica catch up."""
    with watched("valkey-9.1") as standby:
        store = RedisBackend(standby.url)
        registry = oppscan.sync.ScanRegistry(store, durability="replicated", op_timeout=PATIENCE)
        ticket = registry.start("ann", [f"strategy-{number}" for number in range(400)])
        done: list[str] = []
        with registry.claim(ticket.scan_id) as claim:
            for number, name in enumerate(claim.remaining):
                if number == BEFORE:
                    threading.Timer(0.02, standby.servers[0].kill).start()
                claim.strategy_finished(name, [{"n": number}])
                done.append(name)
        results = registry.results(ticket.scan_id)
        registry.close()
        assert standby.servers[0].process is None
        assert [item["n"] for item in results.opportunities] == list(range(len(done)))
        assert results.status.state is ScanState.COMPLETE


def test_g7_a_holder_whose_commit_was_lost_lets_go(valkey: Server) -> None:
    """As after a failover: the scan is back at the commit before."""
    with oppscan.sync.connect(valkey.url) as registry, valkey.client() as client:
        scan_id = registry.start("ann", NAMES).scan_id
        key = layout.key("oppscan", "r", scan_id)
        with registry.claim(scan_id) as claim:
            claim.strategy_finished(NAMES[0], [])
            before = client.dump(key) or b""
            claim.strategy_finished(NAMES[1], [])
            client.restore(key, 60_000, before, replace=True)
            with pytest.raises(oppscan.ClaimLost):
                claim.strategy_finished(NAMES[2], [])
        assert registry.status(scan_id).progress.strategies_completed == 1
