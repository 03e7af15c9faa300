"""Damaged bytes and lost keys: typed errors, before anything is written, only where it matters."""

# ruff: noqa: ANN401, SLF001 - keys are damaged behind the store's back

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

import pytest
from msgspec.structs import replace

import oppscan.sync
from oppscan import CorruptRecord, Limits, ScanLost, StorageError, TooManyScans, TTLPolicy
from oppscan.backends.redis import RedisBackend, layout
from oppscan.ops import Applied, Apply, Enter, Erase, HeadIs, Point, Resolve, Save
from oppscan.record import after
from tests.redis.losing import keys_of
from tests.redis.servers import Server, wait_until

SPACE: Final = "damage"
JUNK: Final = (b"", b"x", b"\xff" * 24, b"\xff" * 40, b"\0" * 35, b"\0" * 60)
NAMES: Final = ("alpha", "beta")
SCAN: Final = "ab" + "0" * 14 + "-" + "1" * 32


class Shop:
    """A registry on a server, and a client that damages what it keeps."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.store = RedisBackend(url)
        self.registry = oppscan.sync.ScanRegistry(self.store, namespace=SPACE, **settings)
        self.client: Any = self.store._blocking_face().client

    def key(self, kind: str, scan_id: str) -> str:
        if kind == "u":
            return layout.due_key(SPACE, scan_id[:2])
        return layout.key(SPACE, kind, scan_id if kind in "rd" else scan_id[:16])

    def dump(self) -> dict[str, bytes]:
        return {key: self.client.dump(key) for key in keys_of(self.store, SPACE)}


@pytest.fixture
def shop(url: str) -> Iterator[Shop]:
    shop = Shop(url)
    yield shop
    shop.registry.close()


def _put(shop: Shop, kind: str, scan_id: str, junk: bytes) -> None:
    """Put junk where the scan's own bytes lie."""
    name = shop.key(kind, scan_id)
    if kind == "i":
        shop.client.hset(name, layout.short(scan_id), junk)
    elif kind == "q":
        for pointer in shop.client.hkeys(name):
            shop.client.hset(name, pointer, junk)
    else:
        shop.client.set(name, junk, keepttl=True)


@pytest.mark.parametrize("kind", ["r", "i", "q"])
@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_g11_bytes_that_make_no_sense_are_corrupt_before_the_first_write(
    shop: Shop, kind: str, junk: bytes
) -> None:
    scan_id = shop.registry.start("ann", NAMES).scan_id
    tag, pointer = scan_id[:16], shop.client.hkeys(shop.key("q", scan_id))[0].decode()
    _put(shop, kind, scan_id, junk)
    before = shop.dump()
    save = Save(scan_id, "v" * 16, b"head", 9_000, None, (after(9_000),), b"spec", data=(b"x",))
    point = Point(tag, pointer, scan_id, 9_000, 9_000, "take")
    enter = Enter(tag, scan_id, "name", 0, b"body", 9_000, -1, 9)
    try:
        shop.store.execute_blocking(Apply((), (save, point, enter)), SPACE, 5.0)
    except CorruptRecord:
        assert shop.dump() == before
    else:  # some junk can be taken for bytes that were written
        shop.registry.purge()
    shop.registry.forget(scan_id)


@pytest.mark.parametrize("junk", [*JUNK[1:], b"\x89\x50" * 99], ids=repr)
def test_g4_data_that_were_cut_or_exchanged_are_lost_or_corrupt_and_not_written_on(
    shop: Shop, junk: bytes
) -> None:
    scan_id = shop.registry.start("ann", NAMES).scan_id
    with shop.registry.claim(scan_id) as claim:
        claim.strategy_finished("alpha", [{"n": 1}])
        _put(shop, "d", scan_id, junk)
        with pytest.raises((ScanLost, CorruptRecord)):
            shop.registry.results(scan_id, partial=True)
        before = shop.dump()
        with pytest.raises(oppscan.ClaimLost):
            claim.strategy_finished("beta", [{"n": 2}])
        assert shop.dump() == before
    with pytest.raises(ScanLost, match="lost a part"):
        shop.registry.cancel(scan_id)


@pytest.mark.parametrize("kind", ["r", "d", "i"])
@pytest.mark.parametrize("junk", [*JUNK, None], ids=repr)
def test_g14_a_corrupt_scan_can_be_forgotten(shop: Shop, kind: str, junk: bytes | None) -> None:
    scan_id = shop.registry.start("ann", NAMES).scan_id
    if junk is not None:
        _put(shop, kind, scan_id, junk)
    elif kind in "rd":  # of another type
        shop.client.delete(shop.key(kind, scan_id))
        shop.client.rpush(shop.key(kind, scan_id), "junk")
    shop.registry.forget(scan_id, owner="ann")
    with pytest.raises(oppscan.ScanNotFound):
        shop.registry.status(scan_id)
    assert not shop.client.exists(shop.key("r", scan_id), shop.key("d", scan_id))
    assert shop.registry.start("ann", NAMES).must_run


def test_a_scan_that_nobody_can_read_hides_no_other_stalled_one(url: str) -> None:
    shop = Shop(url, ttl=TTLPolicy(claim_within=0.001))
    broken, whole = (shop.registry.start(owner, NAMES).scan_id for owner in ("ann", "bob"))
    wait_until(lambda: len(shop.registry.stalled()) == 2, "both are stalled")
    for junk in JUNK:
        _put(shop, "r", broken, junk)
        assert [status.scan_id for status in shop.registry.stalled()] == [whole]
    due = shop.key("u", broken)
    for score in (float("-inf"), 0, 1e300):  # nor does what is no scan at all
        shop.client.zadd(due, {b"\x97": score, f"{broken[:16]}-".encode(): score})
        assert [status.scan_id for status in shop.registry.stalled()] == [whole]
        shop.client.zrem(due, b"\x97", f"{broken[:16]}-")
    shop.client.zadd(due, {b"\x97": 1})
    shop.registry.purge()
    assert shop.client.zcard(shop.key("u", broken)) == (broken[:2] == whole[:2])
    shop.registry.close()


@pytest.mark.parametrize("lost", ["i", "o", "q", "u"])
def test_g9_one_lost_key_of_an_owner_lets_no_second_scan_in(url: str, lost: str) -> None:
    """``i`` is the truth: where it goes itself, the pointers still know what lives."""
    shop = Shop(url, limits=Limits(max_live_per_owner=None if lost == "i" else 2))
    first, second = (shop.registry.start("ann", NAMES, key=key) for key in "ab")
    shop.client.delete(shop.key(lost, first.scan_id))
    assert shop.registry.start("ann", NAMES, key="a").scan_id == first.scan_id
    assert shop.registry.has_active_scan("ann", key="b") or lost == "i"
    if lost != "i":
        with pytest.raises(TooManyScans):
            shop.registry.start("ann", NAMES, key="c")
        listed = shop.registry.history("ann")
        assert [item.scan_id for item in listed] == [second.scan_id, first.scan_id]
        assert shop.registry.latest("ann").scan_id == second.scan_id
    with shop.registry.claim(first.scan_id), shop.registry.claim(second.scan_id):
        pass  # each write puts back what leads to its scan
    assert {item.scan_id for item in shop.registry.history("ann")} == {
        first.scan_id, second.scan_id,
    }  # fmt: skip
    index, order = shop.key("i", first.scan_id), shop.key("o", first.scan_id)
    assert shop.client.hlen(index) == shop.client.zcard(order) == 2
    shop.registry.close()


def test_history_pages_though_its_order_was_lost(shop: Shop) -> None:
    scans = [shop.registry.start("ann", NAMES, key=str(number)).scan_id for number in range(5)]
    shop.registry.cancel(scans[1])
    shop.registry.cancel(scans[3])
    for _ in range(2):
        seen: list[str] = []
        page = shop.registry.history("ann", limit=2)
        while True:
            seen += [item.scan_id for item in page]
            if page.cursor is None:
                break
            page = shop.registry.history("ann", limit=2, after=page.cursor)
        assert seen == scans[::-1]
        shop.client.delete(shop.key("o", scans[0]))


def test_g11_what_may_be_refused_is_written_first(own: Server) -> None:
    """Data that grow beyond what the server allows: refused, and nothing else was written."""
    shop = Shop(own.url)
    shop.client.config_set("proto-max-bulk-len", 1_048_576)
    large = os.urandom(900_000)
    save = Save(SCAN, "v1", b"head", 9_000, 5, (after(9_000),), b"spec", data=(large,))
    enter = Enter(SCAN[:16], SCAN, "name", 0, b"body", 9_000, -1, 9)
    shop.store.execute_blocking(Apply((), (save, enter)), SPACE, 5.0)
    before = shop.dump()
    more = replace(save, version="v2", spec=None, events=(b"event",), due=None)
    with pytest.raises(StorageError):
        shop.store.execute_blocking(Apply((HeadIs(SCAN, "v1"),), (more, enter)), SPACE, 5.0)
    assert shop.dump() == before
    small = replace(more, data=(b"x",))
    taken = shop.store.execute_blocking(Apply((HeadIs(SCAN, "v1"),), (small,)), SPACE, 5.0)
    assert isinstance(taken, Applied)
    shop.registry.close()


def test_erasing_takes_along_the_pointer_that_has_the_name_of_the_entry(shop: Shop) -> None:
    scan_id = shop.registry.start("ann", NAMES).scan_id
    tag = scan_id[:16]
    erase = Apply((), (Erase(scan_id, tag, ()),))
    assert isinstance(shop.store.execute_blocking(erase, SPACE, 5.0), Applied)
    pointers = shop.client.hkeys(shop.key("q", scan_id))
    assert pointers == [b""]
    seen = shop.store.execute_blocking(Resolve(scan_id, tag), SPACE, 5.0).sighting
    assert seen is not None
    assert (seen.head, seen.entry) == (None, None)
