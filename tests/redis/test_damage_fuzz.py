"""Random requests to a server whose stored bytes are damaged at random meanwhile.

Whatever is damaged, each request is answered, or refused as `CorruptRecord`; and of a write that
was refused nothing is stored.
"""

# ruff: noqa: ANN401 - requests and clients of any kind

from __future__ import annotations

import random
from collections import Counter
from typing import Any, Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from oppscan import CorruptRecord
from oppscan.backends.redis import RedisBackend
from oppscan.ops import Apply, Purge
from tests.redis.requests import requests
from tests.redis.servers import Server

SPACE: Final = "fuzz"
STEPS: Final = 2_000
AFRESH: Final = 60
"""Steps after which all is emptied."""

OFTEN: Final = 0.4
SCORES: Final = (1e300, -1e300, float("inf"), float("-inf"), 0, -5, 1.5)


def _drawn() -> list[Any]:
    pool: list[Any] = []

    @settings(max_examples=60, phases=[Phase.generate])
    @given(st.lists(requests | st.builds(Purge), min_size=30, max_size=30))
    def draw(some: list[Any]) -> None:
        pool.extend(some)

    draw()
    return pool


def _bad(chance: random.Random, good: bytes) -> bytes:
    cut = chance.randrange(len(good) + 1)
    return chance.choice((
        b"", good[:cut], good + b"\xff" * 7, chance.randbytes(cut),
        good[:5] + chance.randbytes(6) + good[11:],
    ))  # fmt: skip


def _damage(client: Any, chance: random.Random) -> None:
    """Damage one stored key."""
    keys = sorted(client.scan_iter())
    if not keys:
        return
    key = chance.choice(keys)
    kind = client.type(key)
    if chance.random() < 0.2:
        client.delete(key)
    elif kind == b"string":
        client.set(key, _bad(chance, client.get(key)), keepttl=True)
    elif kind == b"hash":
        field, value = chance.choice(sorted(client.hgetall(key).items()))
        client.hset(key, chance.choice((field, b"junk")), _bad(chance, value))
    else:
        member = chance.choice((*client.zrange(key, 0, 0), b"\x97", chance.randbytes(16)))
        client.zadd(key, {member: chance.choice(SCORES)})


def _dump(client: Any) -> dict[bytes, bytes]:
    dumps = {key: client.dump(key) for key in client.scan_iter()}
    return {key: dump for key, dump in dumps.items() if dump}  # some ended meanwhile


def _run(store: RedisBackend, valkey: Server) -> Counter[bool]:
    """Damage and ask; give how often reads (False) and writes (True) were refused."""
    chance, told, pool = random.Random(7), Counter[bool](), _drawn()
    with valkey.client() as client:
        for number in range(STEPS):
            if number % AFRESH == 0:
                valkey.empty()
            if chance.random() < OFTEN:
                _damage(client, chance)
            request = chance.choice(pool)
            writes = isinstance(request, Apply)
            before = _dump(client) if writes else {}
            try:
                store.execute_blocking(request, SPACE, 5.0)
            except CorruptRecord:
                told[writes] += 1
                assert not writes or set(_dump(client).items()) <= set(before.items())
    store.close()
    return told


def test_g11_whatever_is_damaged_a_write_is_whole_or_corrupt(valkey: Server) -> None:
    told = _run(RedisBackend(valkey.url), valkey)
    assert told[True], told  # the damage was such that it mattered
    assert told[False], told


class _Half(RedisBackend):
    """Writes something though it refuses."""

    def execute_blocking(self, request: Any, namespace: str, timeout: float) -> Any:
        try:
            return super().execute_blocking(request, namespace, timeout)
        except CorruptRecord:
            client: Any = self._blocking_face().client
            client.set("half", "written", px=9_000)
            raise


def test_half_a_write_is_noticed(valkey: Server) -> None:
    """Positive control."""
    with pytest.raises(AssertionError):
        _run(_Half(valkey.url), valkey)
