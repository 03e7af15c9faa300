"""What a scan found, from its data log: paging, cursors, and the check that nothing is missing.

Laws
- Opportunities come back exactly as given, in order of arrival.
- Every committed chunk must be there, or the answer is `ScanLost` naming the strategies; a
  silent part is never given for the whole.
- A cursor marks a place in the order of arrival; what is behind it never changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import repeat
from math import inf
from typing import Final

from msgspec import Struct

from oppscan import codec
from oppscan.errors import InvalidInput, ScanLost
from oppscan.inputs import check_count
from oppscan.model import JSON, ScanResults
from oppscan.record import NO_FRAMES, Chunk, Frames, Head
from oppscan.sightings import Found

_CURSOR: Final = re.compile(r"(r|\d{1,9})\.(\d{1,9})")


class Cursor(Struct, frozen=True):
    """A place in a data log: frame number, and opportunities of that frame already given.

    In results that are ranked: how many of the best were given.
    """

    frame: int = 0
    given: int = 0
    ranked: bool = False

    def __str__(self) -> str:
        """Give the form that users pass around."""
        return f"{'r' if self.ranked else self.frame}.{self.given}"


def read_cursor(after: object) -> Cursor:
    """Read the ``after=`` of a caller; `InvalidInput` for what is no cursor."""
    if after is None:
        return Cursor()
    match = _CURSOR.fullmatch(after) if isinstance(after, str) else None
    if match is None:
        msg = f"after must be the cursor of earlier results, not {after!r}"
        raise InvalidInput(msg)
    if match[1] == "r":
        return Cursor(0, int(match[2]), ranked=True)
    return Cursor(int(match[1]), int(match[2]))


def read_limit(limit: object) -> int | None:
    """Read the ``limit=`` of a caller."""
    return None if limit is None else check_count(limit, "limit")


def assemble(found: Found, frames: Frames | None, cursor: Cursor, limit: int | None) -> ScanResults:
    """Give the results behind ``cursor``, at most ``limit`` opportunities. O(what is read)."""
    scan_id, head = found.scan.scan_id, found.scan.head
    frames = frames or NO_FRAMES
    if frames.reach < head.data:
        raise _lost(found, frames)
    chunks = codec.decode_chunks(frames, scan_id)
    if head.mode == "payload":
        return _posted(found, chunks, cursor, limit)
    if _wants_ranking(head, chunks, cursor):
        return _ranked(found, chunks, cursor, limit)
    items: list[JSON] = []
    names = found.spec.strategies
    grouped: dict[int, list[JSON]] = {}
    place = cursor
    for number, index, objects in _reported(chunks, frames.first, scan_id):
        if number < cursor.frame:
            continue
        skip = cursor.given if number == cursor.frame else 0
        room = None if limit is None else limit - len(items)
        part = objects[skip:] if room is None else objects[skip : skip + room]
        items += part
        if part:
            grouped.setdefault(index, []).extend(part)
        taken = skip + len(part)
        if taken < len(objects):
            place = Cursor(number, taken)
            break
        place = Cursor(number + 1)
    return _results(found, items, _named(names, grouped), _summary(chunks, scan_id), place)


def _named(names: Sequence[str], grouped: dict[int, list[JSON]]) -> dict[str, tuple[JSON, ...]]:
    return {name: tuple(grouped[index]) for index, name in enumerate(names) if index in grouped}


def _wants_ranking(head: Head, chunks: Sequence[Chunk], cursor: Cursor) -> bool:
    """Tell whether to give the best first: the scan is finished and ranked, and read from the top.

    A reader who followed the scan while it ran goes on in the order of arrival.
    """
    if cursor.ranked:
        return True
    return cursor == Cursor() and not head.live and any(chunk.scores for chunk in chunks)


def _ranked(
    found: Found, chunks: Sequence[Chunk], cursor: Cursor, limit: int | None
) -> ScanResults:
    """Give the best opportunities behind the cursor; equal ones in order of arrival."""
    scan_id = found.scan.scan_id
    scored: list[tuple[float, int, JSON]] = []
    for chunk in chunks:
        if chunk.kind == "o":
            objects = codec.decode_objects(chunk.body, scan_id)
            scores = chunk.scores or (-inf,) * len(objects)
            scored += zip(scores, repeat(chunk.index), objects, strict=False)
    scored.sort(key=lambda item: -item[0])
    end = len(scored) if limit is None else cursor.given + limit
    chosen = scored[cursor.given : end]
    grouped: dict[int, list[JSON]] = {}
    for _, index, item in chosen:
        grouped.setdefault(index, []).append(item)
    place = Cursor(0, cursor.given + len(chosen), ranked=True)
    items = [item for _, _, item in chosen]
    names = _named(found.spec.strategies, grouped)
    return _results(found, items, names, _summary(chunks, scan_id), place)


def _reported(
    chunks: Sequence[Chunk], first: int, scan_id: str
) -> Iterator[tuple[int, int, list[JSON]]]:
    """Walk the opportunities of each chunk that has some, decoding one at a time."""
    for number, chunk in enumerate(chunks, first):
        if chunk.kind == "o":
            yield number, chunk.index, codec.decode_objects(chunk.body, scan_id)


def _posted(
    found: Found, chunks: Sequence[Chunk], cursor: Cursor, limit: int | None
) -> ScanResults:
    """Give the opportunities of the latest payload; the rest of it is the summary."""
    scan_id = found.scan.scan_id
    payload = next((c.body for c in reversed(chunks) if c.kind == "p"), None)
    rest = {} if payload is None else codec.decode_object(payload, scan_id)
    given = rest.pop("opportunities", None)
    everything = (
        [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []
    )
    end = len(everything) if limit is None else cursor.given + limit
    items = everything[cursor.given : end]
    place = Cursor(0, max(cursor.given, min(end, len(everything))))
    return _results(found, items, {}, _summary(chunks, scan_id) or rest or None, place)


def _summary(chunks: Sequence[Chunk], scan_id: str) -> JSON | None:
    body = next((c.body for c in reversed(chunks) if c.kind == "s"), None)
    return None if body is None else codec.decode_object(body, scan_id)


def _results(
    found: Found,
    items: Sequence[JSON],
    by_strategy: dict[str, tuple[JSON, ...]],
    summary: JSON | None,
    place: Cursor,
) -> ScanResults:
    status = found.status
    return ScanResults(
        opportunities=tuple(items),
        by_strategy=by_strategy,
        outcomes=status.outcomes,
        status=status,
        summary=summary,
        cursor=str(place),
    )


def _lost(found: Found, frames: Frames) -> ScanLost:
    """Name the strategies whose opportunities are gone."""
    scan_id, head = found.scan.scan_id, found.scan.head
    there = {c.index for c in codec.decode_chunks(frames, scan_id) if c.kind == "o"}
    names = tuple(
        name
        for index, name in enumerate(found.spec.strategies)
        if found.events and (event := found.events[index]) and event.found and index not in there
    )
    shown = ", ".join(names) or "the posted payload" if _has_data(head) else "the summary"
    msg = f"scan {scan_id}: the store lost what these had found: {shown}; start it again"
    return ScanLost(msg, scan_id=scan_id, strategies=names)


def _has_data(head: Head) -> bool:
    return head.opportunities > 0 or head.posted is not None
