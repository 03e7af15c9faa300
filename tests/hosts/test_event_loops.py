"""The blocking face inside a running event loop: what would hold it up is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

import oppscan.sync as blocking
from oppscan import InvalidInput, OppscanError

pytestmark = pytest.mark.timeout(30)


class Host:
    """A blocking host with a runner, and a scan that another worker holds."""

    def __init__(self, store_url: str) -> None:
        self.registry = blocking.connect(store_url)
        self.runner = blocking.StrategyRunner(self.registry, {"a": lambda: [{"of": "a"}]})
        self.scan_id = self.registry.start("ann", ["a"]).scan_id

    def claim_and_wait(self) -> None:
        with self.registry.claim(self.scan_id) as scan:
            scan.interrupted()


@pytest.fixture
def host(store_url: str) -> Iterator[Host]:
    host = Host(store_url)
    with host.registry, host.runner:
        yield host


WAITS: dict[str, Callable[[Host], object]] = {
    "wait": lambda host: host.registry.wait(host.scan_id),
    "wait_of_owner": lambda host: host.registry.for_owner("ann").wait(host.scan_id),
    "watch": lambda host: list(host.registry.watch(host.scan_id)),
    "interrupted": Host.claim_and_wait,
    "run": lambda host: host.runner.run("bob"),
    "resume": lambda host: host.runner.resume(host.scan_id),
    "recover": lambda host: host.runner.recover(),
}


@pytest.mark.parametrize("call", WAITS)
@pytest.mark.asyncio
async def test_what_would_hold_up_the_loop_is_refused_at_once(host: Host, call: str) -> None:
    with pytest.raises(InvalidInput, match="would hold up the event loop") as caught:
        WAITS[call](host)
    assert isinstance(caught.value, OppscanError)
    if call != "interrupted":
        assert host.registry.status(host.scan_id).state == "pending"
    with pytest.raises(OppscanError):
        host.registry.latest("bob")


@pytest.mark.asyncio
async def test_single_reads_and_writes_and_background_scans_work_in_a_loop(host: Host) -> None:
    ticket = host.runner.start("bob")
    with host.registry.claim(host.scan_id) as scan:
        scan.strategy_finished("a", [])
    assert host.registry.status(host.scan_id).done
    final = await asyncio.to_thread(host.registry.wait, ticket.scan_id)
    assert final.state == "complete"
    await asyncio.to_thread(host.runner.run, "cid")


def test_without_a_loop_they_wait(host: Host) -> None:
    assert host.runner.resume(host.scan_id) == host.registry.wait(host.scan_id)
    assert [status.done for status in host.registry.watch(host.scan_id)] == [True]
