"""The Redis store means by every request what the reference interpreter means.

Each request goes to the server first. Then the reference's clock is set to the instant that the
server's reply tells, and the same request must give the same reply there, stamps included.
"""

# ruff: noqa: ANN401 - requests and replies of any kind

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fakeredis import FakeServer, FakeStrictRedis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from oppscan.backends.memory import MemoryBackend
from oppscan.backends.reference import interpret
from oppscan.clock import SystemClock
from oppscan.ops import (
    Append,
    Applied,
    Apply,
    Purge,
    PutHead,
    Refused,
    Request,
    Resolve,
    Resolved,
    SelectDue,
    Selected,
    SelectOwned,
)
from tests.redis.losing import keys_without_ttl
from tests.redis.requests import SCANS, TAGS, requests
from tests.redis.store.redis import RedisBackend

_counter = itertools.count()
PAUSE = "pause"
sequences = st.lists(st.one_of(requests, requests, requests, st.just(PAUSE)), max_size=30)


class SetClock(SystemClock):
    """Shows what it was set to."""

    instant = 0

    def now(self) -> int:
        return self.instant


class Pair:
    """A store and the reference, asked the same."""

    def __init__(self, store: RedisBackend, *, bare_reads: bool = False) -> None:
        self.store = store
        self.bare_reads = bare_reads
        self.clock = SetClock()
        self.reference = MemoryBackend(self.clock)
        self.namespace = f"lockstep-{next(_counter)}"

    def ask(self, request: Request[Any]) -> Any:
        if not self.bare_reads:
            self.store._time.forget()  # noqa: SLF001 - every read then goes by the script
        got = self.store.execute_blocking(request, self.namespace, 5.0)
        self.clock.instant = got.now
        with self.reference.transaction(1.0, write=True) as transaction:
            wanted = interpret(transaction, request, self.namespace)
        assert _plain(got, request) == _plain(self._as_known(wanted, got), request)
        return got

    def _as_known(self, wanted: Any, got: Any) -> Any:
        """Leave out of the reference's reply what a store need not tell."""
        if isinstance(got, Resolved) and got.sighting and wanted.sighting:
            if got.via == "record" and got.sighting.head is not None:
                assert self.bare_reads or got.index or wanted.sighting.entry is None
                wanted = replace(wanted, sighting=replace(wanted.sighting, entry=None))
            if wanted.index and got.sighting.entry is None:
                return replace(wanted, index=got.index)  # entries that are over may be gone or not
        if isinstance(got, Refused) and got.pointer and wanted.pointer:
            return replace(wanted, pointer=got.pointer)  # one of several
        return wanted

    def read_all(self) -> None:
        every = frozenset({"spec", "events", "data"})
        for scan in SCANS:
            self.ask(Resolve(scan, scan[:16], "", every))  # type: ignore[arg-type]
        for tag in TAGS:
            self.ask(SelectOwned(tag, 10, parts=every))  # type: ignore[arg-type]
            self.ask(SelectOwned(tag, 10, live=True))
        self.ask(SelectDue(100))
        assert keys_without_ttl(self.store, self.namespace) == []


def _plain(reply: Any, request: Request[Any]) -> Any:
    if isinstance(reply, Selected) and isinstance(request, SelectDue):
        more = None if reply.more is None else reply.more.lstrip("0")
        return replace(reply, more=more if more is None or more[0] != "/" else "0" + more)
    if isinstance(reply, Selected) and isinstance(request, SelectOwned) and request.live:
        return replace(reply, sightings=tuple(sorted(reply.sightings, key=lambda s: s.scan_id)))
    return reply


def run(pair: Pair, sequence: list[Any]) -> None:
    for request in sequence:
        if request == PAUSE:
            time.sleep(0.002)  # the server's clock cannot be stepped
        else:
            pair.ask(request)
    pair.read_all()


@pytest.fixture(scope="module")
def fake() -> RedisBackend:
    return RedisBackend(FakeStrictRedis(server=FakeServer()))


@settings(max_examples=150)
@given(sequences)
def test_the_fast_fake_agrees_with_the_reference(fake: RedisBackend, sequence: list[Any]) -> None:
    run(Pair(fake), sequence)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=sequences, bare=st.booleans())
def test_every_server_agrees_with_the_reference(
    url: str, stores: dict[str, RedisBackend], sequence: list[Any], bare: bool
) -> None:
    store = stores.setdefault(url, RedisBackend(url))
    run(Pair(store, bare_reads=bare), sequence)


@pytest.fixture(scope="module")
def stores() -> Iterator[dict[str, RedisBackend]]:
    made: dict[str, RedisBackend] = {}
    yield made
    for store in made.values():
        store.close()


def test_purging_leaves_what_is_kept(url: str, stores: dict[str, RedisBackend]) -> None:
    pair = Pair(stores.setdefault(url, RedisBackend(url)))
    scan = SCANS[0]
    pair.ask(Apply((), (PutHead(scan, "a" * 32, b"head", 60_000, 60_000, 5),)))
    assert pair.store.execute_blocking(Purge(), pair.namespace, 5.0).more is False
    pair.read_all()


def test_a_wrong_interpreter_is_noticed(fake: RedisBackend) -> None:
    """Positive control: a reply that is off by one frame is no agreement."""
    pair = Pair(fake)
    scan = SCANS[0]
    pair.ask(Apply((), (Append(scan, "data", (b"one",), 60_000),)))
    late = Apply((), (Append(scan, "data", (b"two",), 60_000),))
    assert isinstance(fake.execute_blocking(late, pair.namespace, 5.0), Applied)
    with pytest.raises(AssertionError):
        pair.read_all()
