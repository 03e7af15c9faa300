"""The Redis store means by every request what the reference interpreter means.

Each request goes to the server first. Then the reference's clock is set to the instant that the
server's reply tells, and the same request must give the same reply there, stamps included.
"""

# ruff: noqa: ANN401 - requests and replies of any kind

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest
from fakeredis import FakeServer, FakeStrictRedis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from oppscan.backends.memory import MemoryBackend
from oppscan.backends.redis import RedisBackend
from oppscan.backends.reference import interpret
from oppscan.clock import SystemClock
from oppscan.ops import (
    Applied,
    Apply,
    Purge,
    Refused,
    Request,
    Resolve,
    Resolved,
    Save,
    SelectDue,
    Selected,
    SelectOwned,
    Sighting,
)
from oppscan.record import after
from tests.redis.losing import keys_without_ttl
from tests.redis.requests import SCANS, TAGS, requests
from tests.redis.servers import Server

_counter = itertools.count()
PAUSE = "pause"
steps = st.one_of(requests, requests, requests, st.just(PAUSE))
sequences = st.lists(steps, max_size=30)

WALKS: Final = {"valkey": 25_000, "redis_8": 3_000, "redis_6": 3_000, "valkey_cluster": 3_000}
"""How many steps each server takes, besides the short sequences that Hypothesis shrinks."""

STRETCH: Final = 50
"""Steps from an empty namespace, after which all is read; a failure shows them."""


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
        if isinstance(request, SelectDue):
            return self._page(request)
        if not self.bare_reads:
            self.store._time.forget()  # noqa: SLF001 - every read then goes by the script
        got = self.store.execute_blocking(request, self.namespace, 5.0)
        wanted = self._refer(request, got.now)
        agrees = _plain(got, request) == _plain(self._as_known(wanted, got), request)
        if not agrees and self.bare_reads and isinstance(request, Resolve):
            self._agrees_soon_after(request, got)
            return got
        assert agrees, (request, got, wanted)
        return got

    def _agrees_soon_after(self, request: Resolve, got: Resolved) -> None:
        """The time of a bare read is known to a round trip: it may be as of a moment later."""
        self.store._time.forget()  # noqa: SLF001 - asks for the time
        by_script = self.store.execute_blocking(request, self.namespace, 5.0)
        later = {
            moment: replace(self._refer(request, moment), now=got.now)
            for moment in range(got.now, by_script.now + 1)
        }
        assert any(got == self._as_known(wanted, got) for wanted in later.values()), (got, later)

    def _refer(self, request: Request[Any], now: int) -> Any:
        self.clock.instant = now
        with self.reference.transaction(1.0, write=True) as transaction:
            return interpret(transaction, request, self.namespace)

    def _page(self, request: SelectDue) -> None:
        """Read all pages: what is over may take a place on a page or not, so they may differ."""
        got: list[Sighting] = []
        times: list[int] = []
        beyond: str | None = request.beyond
        while beyond is not None:
            self.store._time.forget()  # noqa: SLF001 - a time that is known lags by a round trip
            page = self.store.execute_blocking(replace(request, beyond=beyond), self.namespace, 5.0)
            got += page.sightings
            times.append(page.now)
            beyond = page.more
        moments = [
            [replace(seen, data=None) for seen in self._refer(SelectDue(1000), now).sightings]
            for now in range(times[0], times[-1] + 1)
        ]  # time goes on between two pages
        first, last = moments[0], moments[-1]
        assert [seen for seen in got if not any(seen in moment for moment in moments)] == []
        assert [seen for seen in last if seen in got] == [seen for seen in got if seen in last]
        assert [seen for seen in first if seen in last and seen not in got] == []

    def _as_known(self, wanted: Any, got: Any) -> Any:
        """Leave out of the reference's reply what a store need not tell."""
        if isinstance(got, Resolved) and got.sighting and wanted.sighting:
            if got.via == "record" and got.sighting.head is not None:
                assert self.bare_reads or got.index or wanted.sighting.entry is None
                wanted = replace(wanted, sighting=replace(wanted.sighting, entry=None))
                if self.bare_reads:  # where it was looked at lately, an index counts as there
                    return replace(wanted, index=got.index, listed=got.listed)
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


@pytest.fixture(scope="module")
def pool() -> list[Any]:
    """Many requests, to choose from without drawing each anew."""
    drawn: list[Any] = []

    @settings(max_examples=100, phases=[Phase.generate])
    @given(st.lists(steps, min_size=30, max_size=30))
    def draw(sequence: list[Any]) -> None:
        drawn.extend(sequence)

    draw()
    return drawn


@pytest.mark.parametrize("name", WALKS)
def test_a_long_walk_agrees_with_the_reference(
    name: str, pool: list[Any], stores: dict[str, RedisBackend], request: pytest.FixtureRequest
) -> None:
    found = request.getfixturevalue(name)
    url = found.url if isinstance(found, Server) else str(found)
    store = stores.setdefault(url, RedisBackend(url))
    chance = random.Random(name)
    for number in range(0, WALKS[name], STRETCH):
        run(Pair(store, bare_reads=number % 2 == 0), chance.choices(pool, k=STRETCH))


def _saved(scan: str, *data: bytes) -> Save:
    return Save(scan, "a" * 32, b"head", 60_000, 5, (after(60_000),), b"spec", data=data)


def test_purging_leaves_what_is_kept(url: str, stores: dict[str, RedisBackend]) -> None:
    pair = Pair(stores.setdefault(url, RedisBackend(url)))
    scan = SCANS[0]
    pair.ask(Apply((), (_saved(scan),)))
    assert pair.store.execute_blocking(Purge(), pair.namespace, 5.0).more is False
    pair.read_all()


def test_a_wrong_interpreter_is_noticed(fake: RedisBackend) -> None:
    """Positive control: a reply that is off by one frame is no agreement."""
    pair = Pair(fake)
    scan = SCANS[0]
    pair.ask(Apply((), (_saved(scan, b"one"),)))
    late = Apply((), (_saved(scan, b"two"),))
    assert isinstance(fake.execute_blocking(late, pair.namespace, 5.0), Applied)
    with pytest.raises(AssertionError):
        pair.read_all()
