"""G4 on a server that evicts whatever it likes: typed answers, never a wrong or a partial one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import pytest

import oppscan.sync
from oppscan import OppscanError, ScanLost, ScanNotFound, ScanState
from oppscan.backends.redis import RedisBackend
from tests.redis.losing import keys_of
from tests.redis.servers import Server, running

T = TypeVar("T")

NAMES = ("alpha", "beta", "gamma")
STATES = ("pending", "running", "complete")
ROOM = 256 << 10
SCANS = 600


@pytest.fixture(params=["allkeys-lru", "volatile-ttl", "allkeys-random"])
def evicting(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with little room, that drops keys to make more."""
    with running(server := Server("valkey-9.1")), server.client() as client:
        with oppscan.sync.connect(server.url) as registry:
            _scan(registry, "ann", "first", "complete")  # from here on it knows the scripts
        client.config_set("maxmemory-policy", request.param)
        client.config_set("maxmemory", client.info("memory")["used_memory"] + ROOM)
        yield server


def _scan(registry: oppscan.sync.ScanRegistry, owner: str, key: str, state: str) -> str:
    """Bring a scan to a state, unless its keys go before that."""
    scan_id = registry.start(owner, NAMES, key=key).scan_id
    if state != "pending":
        with registry.claim(scan_id) as claim:
            for name in NAMES if state == "complete" else NAMES[:1]:
                claim.strategy_finished(name, [{"of": scan_id, "noise": name * 500}])
            if state == "running":
                claim.release()
    return scan_id


def _typed(call: Callable[[], T]) -> T | OppscanError:
    try:
        return call()
    except OppscanError as error:
        return error


def _look(
    registry: oppscan.sync.ScanRegistry, owner: str, key: str, scan_id: str, state: str
) -> Iterator[str]:
    """Ask for a scan in all ways; whatever is told must be true. Gives how it was told."""
    status = _typed(lambda: registry.status(scan_id, owner=owner))
    if isinstance(status, oppscan.ScanStatus):
        assert (status.scan_id, status.owner, str(status.state)) == (scan_id, owner, state)
        assert status.params == {}
    yield type(status).__name__
    results = _typed(lambda: registry.results(scan_id, owner=owner, partial=True))
    if isinstance(results, oppscan.ScanResults):
        whole = {"pending": 0, "running": 1, "complete": len(NAMES)}[state]
        assert [item["of"] for item in results.opportunities] == [scan_id] * whole
    yield type(results).__name__
    newest = _typed(lambda: registry.latest(owner, key=key))
    if isinstance(newest, oppscan.ScanStatus):
        assert newest.owner == owner
        assert newest.scan_id == scan_id
    yield type(newest).__name__


TRUE = {
    "ScanStatus", "ScanResults",  # it is there
    "ScanLost",  # the store knows something of it, but not all
    "ScanNotFound",  # all of its keys went: nothing is known any more
}  # fmt: skip


REFUSALS = (ScanLost, ScanNotFound, oppscan.ClaimLost, oppscan.StorageFull)


def test_g4_under_pressure_answers_are_true_or_typed(evicting: Server) -> None:
    told: Counter[str] = Counter()
    store = RedisBackend(evicting.url)
    registry = oppscan.sync.ScanRegistry(store, namespace="evict")
    scans: list[tuple[str, str, str, str]] = []
    for number, state in zip(range(SCANS), itertools.cycle(STATES), strict=False):
        owner, key = f"owner-{number % 40}", f"key-{number}"
        made = _typed(partial(_scan, registry, owner, key, state))
        if isinstance(made, str):
            scans.append((owner, key, made, state))
        else:
            assert isinstance(made, REFUSALS), made
        for known in scans[-5:]:
            told.update(_look(registry, *known))
    for known in scans:
        told.update(_look(registry, *known))
    assert len(scans) > SCANS / 2
    with evicting.client() as client:
        assert client.info("stats")["evicted_keys"] > SCANS / 10
    registry.close()
    assert set(told) <= TRUE, told
    assert told["ScanStatus"] > 0
    assert told["ScanLost"] + told["ScanNotFound"] > 0


@pytest.mark.parametrize("state", STATES)
def test_g5_all_combinations_of_lost_keys(valkey: Server, state: str) -> None:
    """Not found is said only of a scan of which no key of its own or its owner's index is left."""
    store = RedisBackend(valkey.url)
    registry = oppscan.sync.ScanRegistry(store, namespace="combine")
    client: Any = store._blocking_face().client  # noqa: SLF001
    told: Counter[str] = Counter()
    for choice in itertools.count():
        owner = f"owner-{state}-{choice}"
        scan_id = _scan(registry, owner, "one", state)
        keys = sorted(key for key in keys_of(store, "combine") if scan_id[:16] in key)
        if choice >= 2 ** len(keys):
            break
        lost = [key for bit, key in enumerate(keys) if choice >> bit & 1]
        if lost:
            client.delete(*lost)
        left = {key.partition("}")[2][0] for key in keys if key not in lost}
        first = next(_look(registry, owner, "one", scan_id, state))
        told.update(_look(registry, owner, "one", scan_id, state))
        assert (first == "ScanNotFound") <= (not left & {"r", "i"}), (left, first)
        again = registry.start(owner, NAMES, key="another")
        assert again.must_run
        assert registry.status(again.scan_id).state is ScanState.PENDING
        client.delete(*keys_of(store, "combine"))
    registry.close()
    assert set(told) <= TRUE
    assert {"ScanStatus", "ScanLost"} <= set(told)
