"""Records as bytes: MessagePack arrays, versioned by their first element.

Laws
- Nothing is unpickled, evaluated or imported; types are checked while decoding.
- Fields that a later version added are carried along; a higher version number, or a state or
  kind of chunk that is not known here, is refused by name.
- Bytes that make no sense raise `CorruptRecord`, whatever they are.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from oppscan.errors import CorruptRecord
from oppscan.model import JSON, ScanState
from oppscan.ops import StoredHead
from oppscan.record import (
    CHUNK_KINDS,
    OUTCOME_STATES,
    VERSION,
    Chunk,
    Envelope,
    Frames,
    Head,
    OutcomeEvent,
    Spec,
    Stamped,
    settle,
    settle_head,
)

T = TypeVar("T")

_HEAD: Final = msgspec.msgpack.Decoder(Head)
_SPEC: Final = msgspec.msgpack.Decoder(Spec)
_EVENT: Final = msgspec.msgpack.Decoder(OutcomeEvent)
_CHUNK: Final = msgspec.msgpack.Decoder(Chunk)
_ENVELOPE: Final = msgspec.msgpack.Decoder(Envelope)
_OBJECTS: Final = msgspec.msgpack.Decoder(list[dict[str, object]])
_OBJECT: Final = msgspec.msgpack.Decoder(dict[str, object])
_STATES: Final = frozenset(state.value for state in ScanState)


def encode(value: object) -> bytes:
    """Encode a head, spec, event, chunk or envelope, or plain JSON data."""
    return msgspec.msgpack.encode(value)


def decode_head(stored: StoredHead | None, scan_id: str) -> Head | None:
    """Decode a head and settle its times; None for None."""
    return None if stored is None else read_head(stored.body, stored.stamp, scan_id)


def read_head(body: bytes, stamp: int, scan_id: str) -> Head:
    """Decode a head's bytes, as taken by the store at ``stamp``."""
    head = _decode(_HEAD, body, scan_id, "head")
    if head.version > VERSION or head.state not in _STATES:
        msg = (
            f"scan {scan_id} was written by a newer oppscan (record version {head.version}, state "
            f"{head.state!r}; this one knows version {VERSION}): upgrade this worker"
        )
        raise CorruptRecord(msg, scan_id=scan_id)
    return settle_head(head, stamp)


def decode_spec(frames: Frames | None, scan_id: str) -> Spec | None:
    """Decode a spec; None where it is gone."""
    if frames is None or not frames.items:
        return None
    return _decode(_SPEC, frames.items[0].body, scan_id, "spec")


def decode_events(frames: Frames | None, scan_id: str) -> list[OutcomeEvent]:
    """Decode the events of a scan in order, with settled times. O(events)."""
    events = []
    for stamp, body in frames.items if frames is not None else ():
        event = _decode(_EVENT, body, scan_id, "event")
        if not 0 <= event.state < len(OUTCOME_STATES):
            msg = f"scan {scan_id}: outcome state {event.state} is from a newer oppscan"
            raise CorruptRecord(msg, scan_id=scan_id)
        events.append(settle_event(event, stamp))
    return events


def settle_event(event: OutcomeEvent, stamp: int) -> OutcomeEvent:
    """Turn the relative times of an event into instants."""
    started, finished = event.started_at, event.finished_at
    if (started is None or started >= 0) and (finished is None or finished >= 0):
        return event
    return msgspec.structs.replace(
        event,
        started_at=None if started is None else settle(started, stamp),
        finished_at=None if finished is None else settle(finished, stamp),
    )


def decode_chunks(frames: Frames | None, scan_id: str) -> list[Chunk]:
    """Decode the outer layer of the data log; the bodies stay bytes. O(chunks)."""
    chunks = []
    for _, body in frames.items if frames is not None else ():
        chunk = _decode(_CHUNK, body, scan_id, "chunk")
        if chunk.kind not in CHUNK_KINDS:
            msg = f"scan {scan_id}: a chunk of kind {chunk.kind!r} is from a newer oppscan"
            raise CorruptRecord(msg, scan_id=scan_id)
        chunks.append(chunk)
    return chunks


def decode_objects(body: bytes, scan_id: str) -> list[JSON]:
    """Decode the opportunities of one chunk."""
    return _decode(_OBJECTS, body, scan_id, "opportunities")


def decode_object(body: bytes, scan_id: str) -> JSON:
    """Decode a summary or a payload."""
    return _decode(_OBJECT, body, scan_id, "object")


def decode_envelope(frames: Frames | None, scan_id: str) -> Envelope | None:
    """Find the envelope at the end of a data log; None where there is none."""
    if frames is None or not frames.items:
        return None
    chunk = _decode(_CHUNK, frames.items[-1].body, scan_id, "chunk")
    return _decode(_ENVELOPE, chunk.body, scan_id, "envelope") if chunk.kind == "e" else None


def settle_envelope(frame: Stamped, scan_id: str) -> bytes:
    """Give a data frame for another store: the relative times of an envelope become instants."""
    chunk = _decode(_CHUNK, frame.body, scan_id, "chunk")
    if chunk.kind != "e":
        return frame.body
    envelope = _decode(_ENVELOPE, chunk.body, scan_id, "envelope")
    head = read_head(envelope.head, frame.stamp, scan_id)
    events = (_decode(_EVENT, body, scan_id, "event") for body in envelope.events)
    settled = tuple(encode(settle_event(event, frame.stamp)) for event in events)
    return encode(Chunk("e", -1, encode(Envelope(encode(head), envelope.spec, settled))))


def _decode(decoder: msgspec.msgpack.Decoder[T], body: bytes, scan_id: str, what: str) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        msg = f"scan {scan_id}: the stored {what} makes no sense ({error})"
        raise CorruptRecord(msg, scan_id=scan_id) from error
