"""A record is taken apart once for the same bytes, and never outlives what lies in it."""

from __future__ import annotations

import struct
from hashlib import sha512

import pytest

from oppscan import CorruptRecord
from oppscan.backends.redis import layout
from oppscan.backends.redis.records import BYTES, ENTRIES, OPEN, Records
from oppscan.record import Part

PARTS: frozenset[Part] = frozenset({"spec", "events"})
NOW = 1_000_000
NOISE = b"".join(sha512(bytes((n,))).digest() for n in range(BYTES // 64 + 1))  # packs to no less


def _wide(*numbers: int) -> bytes:
    return b"".join(struct.pack(">HI", number >> 32, number & 0xFFFFFFFF) for number in numbers)


def _log(frame: bytes) -> bytes:
    return NOW.to_bytes(6) + layout.pack_group((frame,))


def _raw(version: str = "w", frame: bytes = b"spec", *, keep: int = 9, expires: int = 9) -> bytes:
    """Give a record that expires, and is kept, for so many milliseconds from `NOW`."""
    head = layout.head_bytes(version, b"head")
    logs = _log(frame) + _log(b"event")
    top = _wide(NOW, NOW + expires, NOW + keep, 36 + len(logs), len(head), 0)
    return top + logs + head


def test_the_same_bytes_are_taken_apart_once() -> None:
    records = Records()
    seen = records.read("k", "s", _raw(), NOW, PARTS)
    assert seen.head is not None
    assert seen.head.body == b"head"
    assert records.read("k", "s", _raw(), NOW + 8, PARTS) is seen


def test_g2_other_bytes_and_other_parts_are_read_anew() -> None:
    records = Records()
    seen = records.read("k", "s", _raw(), NOW, PARTS)
    other = records.read("k", "s", _raw("x"), NOW, PARTS)
    assert other.head is not None
    assert other.head.version == "x"
    assert records.read("k", "s", _raw(), NOW, frozenset({"spec"})).events is None
    assert records.read("k", "s", None, NOW, PARTS).head is None
    assert records.read("k", "s", _raw(), NOW, PARTS) == seen


@pytest.mark.parametrize(
    ("part", "raw"),
    [("all", _raw(keep=5, expires=5)), ("logs", _raw(expires=5))],
)
def test_what_is_kept_no_longer_is_gone_though_the_bytes_are_the_same(
    part: str, raw: bytes
) -> None:
    records = Records()
    fresh = records.read("k", "s", raw, NOW + 4, PARTS)
    assert None not in {fresh.head, fresh.spec, fresh.events}
    late = records.read("k", "s", raw, NOW + 5, PARTS)
    assert (late.head is None) is (part == "all")
    assert (late.spec, late.events) == (None, None)


def test_a_tombstone_is_not_remembered_as_whole() -> None:
    records = Records()
    raw = _raw(expires=-1)
    assert records.read("k", "s", raw, NOW, PARTS).events is None
    assert records.read("k", "s", raw, NOW, PARTS).events is None
    with pytest.raises(CorruptRecord):
        records.read("k", "s", _raw()[:-3], NOW, PARTS)


@pytest.mark.parametrize("frame", [b"x" * (OPEN + 1), NOISE])
def test_it_is_bounded_in_size(frame: bytes) -> None:
    records = Records()
    raw = _raw(frame=frame)
    assert records.read("k", "s", raw, NOW, PARTS) is not records.read("k", "s", raw, NOW, PARTS)


def test_it_is_bounded_in_number() -> None:
    records = Records()
    first = records.read("0", "s", _raw(), NOW, PARTS)
    for number in range(1, ENTRIES + 1):
        records.read(str(number), "s", _raw(), NOW, PARTS)
    again = records.read("0", "s", _raw(), NOW, PARTS)
    assert again == first
    assert again is not first
