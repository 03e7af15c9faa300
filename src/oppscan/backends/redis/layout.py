"""How scans lie in Redis: the names of keys, and the bytes under them. Pure.

All keys of an owner share the hash tag ``{namespace:SHARD}``, SHARD being the first two digits of
the owner's tag, so that they lie in one slot and change in one script.

=========================  ======  =============================================================
key, after the hash tag    type    holds
=========================  ======  =============================================================
``r:scan``                 string  `Record`: a fixed top, the log of spec and events, the head
``d:scan``                 string  the data log
``i:tag``                  hash    the owner's index: scan → entry
``o:tag``                  zset    the order of the index: scan by place; live ones below zero
``q:tag``                  hash    pointers: name → scan
``due``                    zset    the shard's scans by due time
``n:scan``                 —       no key: the channel of the scan's news
=========================  ======  =============================================================

Laws
- Every key has a TTL from its first write on. It ends `SLACK` after the last thing under the key
  is kept, so that what is over is told by the times stored beside it, never by a key that
  went a moment before a reader's clock says so.
- Numbers are 6 bytes, big end first: milliseconds fit until the year 10889.
- The head of a record comes last: what grows is written over it, and the head behind that. Its top
  says where it begins, and how long it and the data are; of data that are of another length,
  a part was lost.
- The index ``i`` is the truth about an owner; ``o`` only spares sorting it, and is made anew where
  it has not as many members.
- A log is a row of groups, one for each write: the instant, ``frames * 2 + packed``, the size,
  the frames. Scripts read none of it but how to skip a group. Groups that shrink are deflated.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from oppscan.errors import CorruptRecord
from oppscan.ops import IndexEntry, StoredHead
from oppscan.record import Frames, Stamped

SLACK: Final = 1000
"""Milliseconds; more than a round trip, by which a reader's idea of the store's time may lag."""

PACK_FROM: Final = 160
"""Bytes; what is shorter gains too little by deflating to pay for the time."""

_MEMBER: Final = (16, 16)
"""The sizes of the two parts of a member of a due set."""

_MORE: Final = 0x80
"""In a number of varying length: seven bits a byte, and this one where more follow."""

_TOP: Final = struct.Struct(">" + "HI" * 6)
_ENTRY: Final = struct.Struct(">" + "HI" * 4)


# --- Names --------------------------------------------------------------------------------------


def shard_of(name: str) -> str:
    """Give the shard of a scan's id or of an owner's tag: its first two digits."""
    return name[:2]


def key(namespace: str, kind: str, name: str) -> str:
    """Give the key of one scan (kinds ``r``, ``d``) or one owner (``i``, ``o``, ``q``)."""
    return f"{{{namespace}:{name[:2]}}}{kind}:{name}"


def hash_tag(name: str) -> str:
    """Give what of a key decides on its slot."""
    return name.partition("}")[0]


def due_key(namespace: str, shard: str) -> str:
    """Give the key of a shard's due times."""
    return f"{{{namespace}:{shard}}}due"


def short(scan_id: str) -> bytes:
    """Give a scan's id without its owner's tag, as 16 bytes: the rest of it are 32 hex digits."""
    return bytes.fromhex(scan_id.partition("-")[2])


def long(tag: str, suffix: bytes) -> str:
    """Give back the id that `short` shortened."""
    return f"{tag}-{suffix.hex()}"


def due_member(scan_id: str) -> bytes:
    """Give the member that stands for a scan in its shard's due set."""
    return scan_id.partition("-")[0].encode() + b"-" + short(scan_id)


def id_of_member(member: bytes, shard: str) -> str:
    """Give the scan that a member of a shard's due set stands for; one that is none, for junk."""
    tag, _, suffix = member.partition(b"-")
    if tag.isalnum() and tag.startswith(shard.encode()) and (len(tag), len(suffix)) == _MEMBER:
        return long(tag.decode(), suffix)
    return long(shard + "0" * 14, b"\0" * 16)


# --- Numbers ------------------------------------------------------------------------------------


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= _MORE:
        out.append(number % _MORE | _MORE)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = raw[at]
        at += 1
        number |= byte % _MORE << shift
        if byte < _MORE:
            return number, at
        shift += 7


def _wide(pairs: tuple[int, ...]) -> list[int]:
    return [high << 32 | low for high, low in zip(pairs[::2], pairs[1::2], strict=True)]


# --- Logs ---------------------------------------------------------------------------------------


def pack_group(frames: Sequence[bytes]) -> bytes:
    """Give the bytes of one write's frames, without the instant, which the store puts first."""
    if not frames:
        return b""
    if len(frames) == 1:
        raw = frames[0]
    else:
        raw = b"".join(part for frame in frames for part in (_varint(len(frame)), frame))
    packed = 0
    if len(raw) >= PACK_FROM:
        tight = zlib.compress(raw, 1)
        if len(tight) < len(raw):
            raw, packed = tight, 1
    return b"".join((_varint(len(frames) * 2 + packed), _varint(len(raw)), raw))


def read_groups(raw: bytes, start: int, first: int, what: str) -> tuple[int, list[Stamped]]:
    """Read a log from frame number ``first`` at offset ``start``; give its length and frames."""
    frames: list[Stamped] = []
    at, end = start, len(raw)
    try:
        while at < end:
            stamp = int.from_bytes(raw[at : at + 6])
            count, at = _read_varint(raw, at + 6)
            size, at = _read_varint(raw, at)
            body = raw[at : at + size]
            at += size
            if at > end:
                raise CorruptRecord(f"{what}: a log ends in the middle of a group")
            frames += [Stamped(stamp, frame) for frame in _frames(body, count)]
    except (IndexError, zlib.error) as error:
        raise CorruptRecord(f"{what}: a stored log makes no sense ({error})") from error
    return first + len(frames), frames


def _frames(body: bytes, count: int) -> list[bytes]:
    if count & 1:
        body = zlib.decompress(body)
    if count >> 1 == 1:
        return [body]
    frames, at = [], 0
    for _ in range(count >> 1):
        size, at = _read_varint(body, at)
        frames.append(body[at : at + size])
        at += size
    if at != len(body):
        raise IndexError("frames do not fill their group")
    return frames


# --- Records ------------------------------------------------------------------------------------


@frozen
class Record:
    """What lies under ``r:scan``, as of ``now``: what is kept no longer is None."""

    head: StoredHead | None
    spec: Frames | None
    events: Frames | None


ABSENT: Final = Record(None, None, None)


def _top(raw: bytes, what: str) -> list[int]:
    """Read the top: stamp, expires, keep, where the head begins, its size, that of the data."""
    if len(raw) < _TOP.size:
        raise CorruptRecord(f"{what}: the stored record is too short")
    numbers = _wide(_TOP.unpack_from(raw))
    if not _TOP.size <= numbers[3] <= numbers[3] + numbers[4] <= len(raw):
        raise CorruptRecord(f"{what}: the stored record makes no sense")
    return numbers


def read_record(
    raw: bytes | None, now: int, what: str, *, spec: bool = True, events: bool = True
) -> Record:
    """Read a record; ``spec`` and ``events`` say which logs are wanted."""
    if raw is None:
        return ABSENT
    stamp, expires, keep, at, size, _ = _top(raw, what)
    if keep <= now:
        return ABSENT
    try:
        body_at = at + 1 + raw[at]
        head = StoredHead(raw[at + 1 : body_at].decode(), stamp, raw[body_at : at + size])
    except (IndexError, UnicodeDecodeError) as error:
        raise CorruptRecord(f"{what}: the stored record makes no sense ({error})") from error
    if expires <= now or not (spec or events):
        return Record(head, None, None)
    length, items = read_groups(raw[:at], _TOP.size, 0, what)
    if not length:
        raise CorruptRecord(f"{what}: the stored record has no description")
    return Record(
        head,
        Frames(1, 0, tuple(items[:1])) if spec else None,
        Frames(length - 1, 0, tuple(items[1:])) if events else None,
    )


def expires_of(raw: bytes | None) -> int:
    """Give the instant from which the head of a record is a tombstone; 0 where there is none."""
    return int.from_bytes(raw[6:12]) if raw is not None and len(raw) >= _TOP.size else 0


def read_data(  # noqa: PLR0917
    raw: bytes | None, size: int, groups: bytes | None, first: int, wanted: int, now: int, what: str
) -> Frames | None:
    """Read the data log from frame ``wanted`` on, where ``groups`` begin with frame ``first``.

    None: it was not read (no ``groups``), or it is kept no longer, or its ``size`` is not what the
    record ``raw`` says, so that a part was lost; or there is neither.
    """
    if groups is None or (raw is None and not size):
        return None
    if raw is not None:
        _, expires, _, _, _, whole = _top(raw, what)
        if expires <= now or size != whole:
            return None
    length, items = read_groups(groups, 0, first, what)
    return Frames(length, wanted, tuple(items[wanted - first :]))


def head_bytes(version: str, body: bytes) -> bytes:
    """Give the head as it lies in a record."""
    name = version.encode()
    return bytes((len(name),)) + name + body


# --- Index entries ------------------------------------------------------------------------------


def entry_tail(name: str, body: bytes) -> bytes:
    """Give what follows the four numbers of an index entry."""
    raw = name.encode()
    tight = zlib.compress(body, 1)
    packed = len(tight) < len(body)
    return b"".join(
        (bytes((len(raw),)), raw, b"\1" if packed else b"\0", tight if packed else body)
    )


def read_entry(raw: bytes | None, now: int, what: str) -> IndexEntry | None:
    """Read an index entry; None where it is kept no longer."""
    if raw is None:
        return None
    try:
        order, live_until, until, stamp = _wide(_ENTRY.unpack_from(raw))
        at = _ENTRY.size + 1 + raw[_ENTRY.size]
        name = raw[_ENTRY.size + 1 : at].decode()
        body = raw[at + 1 :]
        if raw[at]:
            body = zlib.decompress(body)
    except (struct.error, IndexError, UnicodeDecodeError, zlib.error) as error:
        raise CorruptRecord(f"{what}: the stored index entry makes no sense ({error})") from error
    return IndexEntry(order, live_until > now, name, stamp, body) if until > now else None


def index_pattern(namespace: str) -> str:
    """Give the pattern that the indexes of a namespace's owners match."""
    return f"{{{namespace}:*}}i:*"
