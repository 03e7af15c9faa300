"""Records as bytes: what makes no sense is named, what is newer is carried along or refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from oppscan import CorruptRecord, codec
from oppscan.ops import StoredHead
from oppscan.record import (
    CHUNK_KINDS,
    NOW,
    OUTCOME_STATES,
    Chunk,
    Envelope,
    Frames,
    Head,
    OutcomeEvent,
    Spec,
    Stamped,
    after,
)
from tests.unit.made import SCAN_ID, a_head, a_shop


def _frames(*bodies: bytes) -> Frames:
    return Frames(len(bodies), 0, tuple(Stamped(1000, body) for body in bodies))


DECODERS: dict[str, Callable[[bytes], object]] = {
    "head": lambda body: codec.read_head(body, 1000, SCAN_ID),
    "spec": lambda body: codec.decode_spec(_frames(body), SCAN_ID),
    "events": lambda body: codec.decode_events(_frames(body), SCAN_ID),
    "chunks": lambda body: codec.decode_chunks(_frames(body), SCAN_ID),
    "objects": lambda body: codec.decode_objects(body, SCAN_ID),
    "object": lambda body: codec.decode_object(body, SCAN_ID),
    "envelope": lambda body: codec.decode_envelope(_frames(body), SCAN_ID),
    "settled": lambda body: codec.settle_envelope(Stamped(1000, body), SCAN_ID),
}

_SOUND = [
    codec.encode(a_head()),
    codec.encode(Spec({"a": 1}, {}, ("alpha",))),
    codec.encode(OutcomeEvent(0, 2)),
    codec.encode(Chunk("o", 0, b"")),
    codec.encode(Chunk("e", -1, codec.encode(Envelope(b"", b"", (b"",))))),
]


@pytest.mark.parametrize("what", DECODERS)
@given(body=st.binary(max_size=60) | st.sampled_from(_SOUND).flatmap(
    lambda sound: st.integers(0, len(sound)).map(lambda cut: sound[:cut])
))  # fmt: skip
def test_g14_whatever_the_bytes_they_decode_or_are_named_corrupt(what: str, body: bytes) -> None:
    with suppress(CorruptRecord):  # nothing else may be raised
        DECODERS[what](body)


@pytest.mark.parametrize("what", DECODERS)
def test_g14_a_pickle_is_never_opened(what: str) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (pytest.fail, ("it was unpickled",))

    with pytest.raises(CorruptRecord, match="makes no sense"):
        DECODERS[what](pickle.dumps(Bomb()))


@pytest.mark.parametrize("what", ["objects", "object"])
def test_g14_deep_nesting_is_corrupt_and_no_crash(what: str) -> None:
    deep = b"\x81\xa1a" * 100_000 + b"\xc0"
    with pytest.raises(CorruptRecord):
        DECODERS[what](b"\x91" + deep if what == "objects" else deep)


@given(
    st.builds(
        lambda d, e: a_head(due_at=d, extended_to=e), st.integers(-(10**13), 25 * 10**13), st.none()
    )
)
def test_a_head_comes_back_equal(head: Head) -> None:
    assert msgspec.msgpack.decode(codec.encode(head), type=Head) == head


@pytest.mark.parametrize("wrong", [{"due_at": 2**60}, {"created_at": -(2**60)}, {"total": -1}])
def test_a_head_with_impossible_numbers_is_corrupt(wrong: dict[str, int]) -> None:
    with pytest.raises(CorruptRecord, match="makes no sense"):
        codec.read_head(codec.encode(a_head(**wrong)), 5000, SCAN_ID)


def test_relative_times_are_settled_by_the_stamp() -> None:
    body = codec.encode(a_head(created_at=NOW, due_at=after(30)))
    head = codec.decode_head(StoredHead("v", 5000, body), SCAN_ID)
    assert head is not None
    assert (head.created_at, head.due_at) == (5000, 5030)
    assert codec.decode_head(None, SCAN_ID) is None


@pytest.mark.parametrize("changes", [{"version": 2}, {"state": "paused"}])
def test_g14_a_newer_record_is_refused_by_name(changes: dict[str, object]) -> None:
    with pytest.raises(CorruptRecord, match=r"written by a newer oppscan.*upgrade this worker"):
        codec.read_head(codec.encode(a_head(**changes)), 1000, SCAN_ID)


def test_g14_a_newer_outcome_or_chunk_is_refused_by_name() -> None:
    event = codec.encode(OutcomeEvent(0, len(OUTCOME_STATES)))
    with pytest.raises(CorruptRecord, match="outcome state 8 is from a newer oppscan"):
        codec.decode_events(_frames(event), SCAN_ID)
    assert "z" not in CHUNK_KINDS
    with pytest.raises(CorruptRecord, match="kind 'z' is from a newer oppscan"):
        codec.decode_chunks(_frames(codec.encode(Chunk("z", 0, b""))), SCAN_ID)


def test_g14_fields_of_a_later_version_survive_a_write_by_this_one() -> None:
    shop = a_shop()
    ticket = shop.registry.start("ann", ["alpha"])
    with shop.backend.transaction(1, write=True) as tx:
        key = f"oppscan/h/{ticket.scan_id}"
        row = tx.get(key)
        assert row is not None
        version, stamp, expires, due, body, *counts = row.value
        assert isinstance(body, bytes)
        head = msgspec.msgpack.decode(body, type=Head)
        later = msgspec.msgpack.decode(codec.encode(replace(head, extra={"mood": "calm"})))
        tx.put(key, (version, stamp, expires, due, codec.encode([*later]), *counts), row.until)
    holding = shop.claim(ticket.scan_id)
    assert holding.scan.head.extra == {"mood": "calm"}
    with shop.backend.transaction(1, write=False) as tx:
        row = tx.get(key)
    assert row is not None
    assert isinstance(row.value[4], bytes)
    assert codec.read_head(row.value[4], 0, ticket.scan_id).extra == {"mood": "calm"}


def test_an_event_is_settled_only_where_it_is_relative() -> None:
    done = OutcomeEvent(0, 2, started_at=5, finished_at=9)
    assert codec.settle_event(done, 1000) is done
    relative = OutcomeEvent(0, 2, started_at=NOW, finished_at=NOW)
    assert codec.settle_event(relative, 7) == OutcomeEvent(0, 2, started_at=7, finished_at=7)
    unstarted = OutcomeEvent(0, 2, finished_at=NOW)
    assert codec.settle_event(unstarted, 7) == OutcomeEvent(0, 2, finished_at=7)
    running = OutcomeEvent(0, 1, started_at=NOW)
    assert codec.settle_event(running, 7) == OutcomeEvent(0, 1, started_at=7)


def test_an_envelope_is_looked_for_at_the_end_only() -> None:
    envelope = Envelope(
        codec.encode(a_head(due_at=NOW)), b"spec", (codec.encode(OutcomeEvent(0, 2)),)
    )
    last = codec.encode(Chunk("e", -1, codec.encode(envelope)))
    other = codec.encode(Chunk("o", 0, b"items"))
    assert codec.decode_envelope(_frames(other, last), SCAN_ID) == envelope
    assert codec.decode_envelope(_frames(last, other), SCAN_ID) is None
    assert codec.decode_envelope(_frames(), SCAN_ID) is None
    assert codec.decode_envelope(None, SCAN_ID) is None
    assert codec.settle_envelope(Stamped(7, other), SCAN_ID) == other
    settled = codec.decode_envelope(
        _frames(codec.settle_envelope(Stamped(7, last), SCAN_ID)), SCAN_ID
    )
    assert settled is not None
    assert codec.read_head(settled.head, 999, SCAN_ID).due_at == 7


def test_what_is_gone_decodes_to_nothing() -> None:
    assert codec.decode_spec(None, SCAN_ID) is None
    assert codec.decode_spec(_frames(), SCAN_ID) is None
    assert codec.decode_events(None, SCAN_ID) == []
    assert codec.decode_chunks(None, SCAN_ID) == []
