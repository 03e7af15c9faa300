"""Bytes under keys: what was written is read, what is damaged is `CorruptRecord`; no read lies."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oppscan import CorruptRecord
from oppscan.backends.redis import layout, records
from oppscan.backends.redis.clock import Known
from oppscan.backends.redis.records import Records
from oppscan.backends.redis.requests import plan
from oppscan.backends.redis.steps import Get, Run
from oppscan.ops import IndexEntry, Resolve, StoredHead
from oppscan.record import PARTS, Frames, Part, Stamped

NOW: Final = 1_700_000_000_000
LATER: Final = NOW + 60_000
NOISE: Final = random.Random(7).randbytes(600)
FRAMES: Final = (b"one", b"", b"three" * 100, NOISE)


def number(value: int) -> bytes:
    return value.to_bytes(6)


def log(*writes: tuple[bytes, ...]) -> bytes:
    """Give a log, as scripts append it: each group after the instant of its write."""
    return b"".join(number(NOW) + layout.pack_group(frames) for frames in writes)


def record(
    head: bytes,
    logs: bytes,
    *,
    at: int = 36,
    until: int = LATER,
    keep: int = LATER,
    data: int = 0,
) -> bytes:
    """Give a record; ``at``: its top's size, as far as it says; ``data``: bytes of its data log."""
    numbers = (NOW, until, keep, at + len(logs), len(head), data)
    return b"".join(map(number, numbers)) + logs + head


HEAD: Final = layout.head_bytes("v1", b"body")
GROUP: Final = number(NOW) + b"\4"  # of two frames
DATA: Final = log(FRAMES, (NOISE,), FRAMES)
RECORD: Final = record(HEAD, log((b"spec",), FRAMES, (b"x",)), data=len(DATA))
ENTRY: Final = b"".join(map(number, (5, LATER, LATER, NOW))) + layout.entry_tail("n", b"body" * 99)


def read_record(raw: bytes) -> object:
    return layout.read_record(raw, NOW, "scan x")


def read_data(raw: bytes) -> object:
    whole = record(HEAD, b"", data=len(raw))
    return layout.read_data(whole, len(raw), raw, 0, 0, NOW, "scan x")


def read_size(raw: bytes) -> object:
    return layout.read_data(raw, len(DATA), DATA, 0, 0, NOW, "scan x")


def read_entry(raw: bytes) -> object:
    return layout.read_entry(raw, NOW, "scan x")


READERS: Final[dict[str, tuple[Callable[[bytes], object], bytes]]] = {
    "record": (read_record, RECORD),
    "data": (read_data, DATA),
    "size of data": (read_size, RECORD),
    "entry": (read_entry, ENTRY),
}


def test_what_was_written_is_read() -> None:
    whole = layout.read_record(RECORD, NOW, "scan x")
    assert whole.head == StoredHead("v1", NOW, b"body")
    assert whole.spec is not None
    assert whole.spec.items == (Stamped(NOW, b"spec"),)
    assert whole.events is not None
    assert [item.body for item in whole.events.items] == [*FRAMES, b"x"]
    data = layout.read_data(RECORD, len(DATA), DATA, 0, 3, NOW, "scan x")
    assert data is not None
    assert [item.body for item in data.items] == [NOISE, NOISE, *FRAMES]
    assert layout.read_entry(ENTRY, NOW, "") == IndexEntry(5, True, "n", NOW, b"body" * 99)


def test_what_is_kept_no_longer_is_not_read() -> None:
    assert layout.read_record(RECORD, LATER, "scan x") == layout.ABSENT
    tombstone = layout.read_record(record(HEAD, b"junk", until=NOW), NOW, "scan x")
    assert tombstone == layout.Record(StoredHead("v1", NOW, b"body"), None, None)
    assert layout.read_data(RECORD, len(DATA), b"junk", 0, 0, LATER, "scan x") is None
    assert layout.read_entry(ENTRY, LATER, "scan x") is None


def test_g4_data_of_another_length_than_the_record_says_lost_a_part() -> None:
    size = len(DATA)
    for other in (0, size - 1, size + 1):
        assert layout.read_data(RECORD, other, DATA[:other], 0, 0, NOW, "scan x") is None
    none_yet = record(HEAD, log((b"spec",)))
    assert layout.read_data(none_yet, 0, b"", 0, 2, NOW, "scan x") == Frames(0, 2, ())
    assert layout.read_data(None, 0, b"", 0, 0, NOW, "scan x") is None
    left = layout.read_data(None, size, DATA, 0, 0, NOW, "scan x")  # its record was lost
    assert left is not None
    assert left.length == 9


@given(st.binary(min_size=24, max_size=24).map(bytes.hex))
def test_a_short_id_is_16_bytes_and_leads_back_to_the_long_one(digits: str) -> None:
    tag = digits[:16]
    scan_id = f"{tag}-{digits[16:]}"
    short = layout.short(scan_id)
    assert len(short) == 16
    assert layout.long(tag, short) == scan_id


DAMAGED: Final[dict[str, tuple[Callable[[bytes], object], bytes]]] = {
    "a record shorter than its top": (read_record, RECORD[:35]),
    "a record that ends too early": (read_record, RECORD[:-1]),
    "a head that begins in the top": (read_record, record(HEAD, b"", at=35)),
    "a record without a head": (read_record, record(b"", log((b"spec",)))),
    "a record without a description": (read_record, record(HEAD, b"")),
    "a version that is no text": (read_record, record(b"\2\xff\xffbody", b"")),
    "a group that ends too early": (read_record, record(HEAD, log((b"spec",))[:-1])),
    "a group that ends in its numbers": (read_data, number(NOW) + b"\x82"),
    "frames that do not fill their group": (read_record, record(HEAD, GROUP + b"\3\0\0x")),
    "a group that cannot be inflated": (read_data, number(NOW) + b"\3\4junk"),
    "data under a record shorter than its top": (read_size, RECORD[:35]),
    "an entry shorter than its numbers": (read_entry, ENTRY[:23]),
    "an entry without a name": (read_entry, ENTRY[:24]),
    "an entry without a body": (read_entry, ENTRY[:26]),
    "a name that is no text": (read_entry, ENTRY[:25] + b"\xff" + ENTRY[26:]),
    "a body that cannot be inflated": (read_entry, ENTRY[:-9]),
}


@pytest.mark.parametrize(("read", "raw"), DAMAGED.values(), ids=DAMAGED)
def test_g4_what_is_damaged_is_corrupt(read: Callable[[bytes], object], raw: bytes) -> None:
    with pytest.raises(CorruptRecord, match="scan x"):
        read(raw)


@pytest.mark.parametrize(("read", "raw"), READERS.values(), ids=READERS)
@given(st.data())
def test_g4_whatever_the_damage_it_is_read_or_corrupt(
    read: Callable[[bytes], object], raw: bytes, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(raw)))
    cut = data.draw(st.integers(0, 8))
    damaged = raw[:place] + data.draw(st.binary(max_size=8)) + raw[place + cut :]
    with suppress(CorruptRecord):
        read(damaged)


# --- Records that were read lately ----------------------------------------------------------------


ALL: Final = frozenset(PARTS)
SMALL: Final = record(HEAD, log((b"spec",), (b"event",)))


def test_g2_bytes_are_taken_apart_once_while_they_mean_the_same() -> None:
    lately = Records()
    seen = lately.read("key", "x", SMALL, NOW, ALL)
    assert lately.read("key", "x", bytes(bytearray(SMALL)), LATER - 1, ALL) is seen
    assert lately.read("key", "x", SMALL, LATER, ALL).head is None
    spec = lately.read("key", "x", SMALL, NOW, frozenset[Part](("spec",)))
    assert (spec.spec, spec.events) == (seen.spec, None)
    other = lately.read("key", "x", record(HEAD, log((b"other",))), NOW, ALL)
    assert other.spec != seen.spec
    assert lately.read("key", "x", None, NOW, ALL).head is None
    assert lately.read("key", "x", SMALL, NOW, ALL) == seen


def test_g12_records_that_were_read_lately_are_few_and_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(records, "ENTRIES", 2)
    lately = Records()
    first = lately.read("a", "a", SMALL, NOW, ALL)
    lately.read("b", "b", SMALL, NOW, ALL)
    assert lately.read("a", "a", SMALL, NOW, ALL) is first
    lately.read("c", "c", SMALL, NOW, ALL)
    assert lately.read("a", "a", SMALL, NOW, ALL) is not first
    loose = random.Random(8).randbytes(5_000)
    for event in (loose, b"x" * 9_000):  # too large as it lies; too large unpacked
        large = record(HEAD, log((b"spec", event)))
        seen = lately.read("d", "d", large, NOW, ALL)
        assert lately.read("d", "d", large, NOW, ALL) is not seen


def test_g2_a_bare_read_of_unknown_time_proves_nothing() -> None:
    """The time was forgotten while the read was under way: the script is asked, which tells it."""
    scan_id = f"{'a' * 16}-{'1' * 32}"
    known = Known()
    known.looked(scan_id)
    steps = plan(Resolve(scan_id, scan_id[:16]), "test", known, Records())
    assert isinstance(next(steps), Get)
    assert isinstance(steps.send((SMALL, 0)), Run)
