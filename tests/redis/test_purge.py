"""Purging in small bites comes to the same end as one large bite."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fakeredis import FakeServer, FakeStrictRedis

import oppscan.sync
from oppscan.backends.redis import RedisBackend, layout
from oppscan.backends.redis.clock import Known
from oppscan.backends.redis.records import Records
from oppscan.backends.redis.requests import BITE, plan
from oppscan.backends.redis.steps import Moment, Spread
from oppscan.ops import Apply, Enter, Purge, Purged, SelectDue, SelectOwned
from oppscan.testing.clock import ManualClock
from tests.redis.servers import Server
from tests.redis.stepped import own_clocks_stand_still

SPACE = "purge"
TAGS = tuple(f"{number:016x}" for number in range(3))
SHORT, LONG = 1_000, 90_000


def scan_of(tag: str, number: int) -> str:
    return f"{tag}-{number:032x}"


def test_g12_purging_in_small_bites_drops_all_and_says_when_it_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manual = ManualClock()
    monkeypatch.setattr(time, "time", lambda: manual.now() / 1000)  # the fake's own
    own_clocks_stand_still(monkeypatch, manual)
    client = FakeStrictRedis(server=FakeServer())
    store = RedisBackend(client)
    for tag in TAGS:
        for number, keep in enumerate((SHORT, SHORT, LONG)):
            entry = Enter(tag, scan_of(tag, number), "name", 0, b"body", keep, -1, 100)
            store.execute_blocking(Apply((), (entry,)), SPACE, 1.0)
    manual.jump(SHORT / 1000)
    bites: list[Purged] = []
    while not bites or bites[-1].more:
        bites.append(store.execute_blocking(Purge(2), SPACE, 1.0))
    assert [bite.scans for bite in bites] == [2, 2, 2, 0]
    for tag in TAGS:
        left = store.execute_blocking(SelectOwned(tag, 9), SPACE, 1.0)
        assert [item.scan_id for item in left.sightings] == [scan_of(tag, 2)]


def test_what_is_not_due_yet_is_not_even_looked_at() -> None:
    steps = plan(SelectDue(3), SPACE, Known(), Records())
    assert isinstance(next(steps), Moment)
    looks = steps.send(LONG)
    assert isinstance(looks, Spread)
    assert {command[3] for command in looks.commands} == {LONG}


@pytest.mark.parametrize("name", ["valkey", "valkey_cluster"])
def test_40_000_owners_with_nothing_to_drop_are_purged_in_time(
    name: str, request: pytest.FixtureRequest
) -> None:
    found = request.getfixturevalue(name)
    store = RedisBackend(found.url if isinstance(found, Server) else found)
    client: Any = store._blocking_face().client  # noqa: SLF001
    later = int(time.time() * 1000) + LONG
    entry = b"".join(number.to_bytes(6) for number in (1, 0, later, 1)) + b"\4name\0body"
    owners = 40_000 if name == "valkey" else 4_000
    tags = [f"{number % 256:02x}{number:014x}" for number in range(owners)]
    for at in range(0, owners, 4_000):
        pipe = client.pipeline() if name == "valkey_cluster" else client.pipeline(transaction=False)
        for tag in tags[at : at + 4_000]:
            pipe.hset(layout.key(SPACE, "i", tag), b"\0" * 16, entry)
            pipe.pexpireat(layout.key(SPACE, "i", tag), later)
        pipe.execute()
    bites, beyond, more = 0, "", True
    while more:
        bite = store.execute_blocking(Purge(beyond=beyond), SPACE, 3.0)
        assert bite.scans == 0
        bites, beyond, more = bites + 1, bite.beyond, bite.more
    assert bites == -(-owners // BITE)
    with oppscan.sync.ScanRegistry(store, namespace=SPACE) as registry:
        for tag in (tags[0], tags[-1]):  # what nobody can read is found wherever it lies
            client.hset(layout.key(SPACE, "i", tag), b"\1" * 16, b"junk")
        assert registry.purge() == 2
