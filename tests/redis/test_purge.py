"""Purging in small bites comes to the same end as one large bite."""

from __future__ import annotations

import time

import pytest
from fakeredis import FakeServer, FakeStrictRedis

from oppscan.backends.redis import RedisBackend
from oppscan.ops import Apply, Enter, Purge, Purged, SelectOwned
from oppscan.testing.clock import ManualClock
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
