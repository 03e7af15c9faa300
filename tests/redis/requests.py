"""Random requests to a store, over few owners, scans and names, and lives from 1 ms up."""

from __future__ import annotations

from hypothesis import strategies as st

from oppscan.ops import (
    Append,
    Apply,
    Change,
    Enter,
    Erase,
    Free,
    Guard,
    HeadIs,
    LengthIs,
    Point,
    PutHead,
    Resolve,
    Room,
    SelectDue,
    SelectOwned,
)
from oppscan.record import PARTS, after

TAGS = ("aa" + "0" * 14, "aa" + "1" * 14, "b7" + "2" * 14)
NUMBERS = (1, 255, 2**127)
SCANS = tuple(f"{tag}-{number:032x}" for tag in TAGS for number in NUMBERS)
NAMES = ("", "1f" * 12, "2e" * 12)
SHORT = 4  # milliseconds: it ends within a test

tags = st.sampled_from(TAGS)
scans = st.sampled_from(SCANS)
numbers = st.sampled_from(NUMBERS)
names = st.sampled_from(NAMES)
versions = st.sampled_from(("a" * 32, "b" * 32, "rebuilt"))
lives = st.sampled_from((1, 2, SHORT, 8, 60_000, 90_000))
live_for = st.one_of(st.just(0), lives)
parts = st.sets(st.sampled_from(PARTS)).map(frozenset)
bodies = st.one_of(
    st.binary(max_size=12),
    st.integers(0, 255).flatmap(
        lambda byte: st.sampled_from((159, 300, 3000, 5000)).map(lambda size: bytes([byte]) * size)
    ),
    st.binary(min_size=300, max_size=300),
)
dues = st.one_of(
    st.none(), st.sampled_from((0, 1, 5_000)), st.sampled_from((0, SHORT, 60_000)).map(after)
)


@st.composite
def appends(draw: st.DrawFn) -> Append:
    part, fresh = draw(st.sampled_from(PARTS)), draw(st.booleans())
    frames = tuple(draw(st.lists(bodies, max_size=3)))
    if part == "spec":
        frames = frames[:1] if fresh else ()
    return Append(draw(scans), part, frames, draw(lives), fresh=fresh)


@st.composite
def entries(draw: st.DrawFn) -> Enter:
    scan = draw(scans)
    order = draw(st.one_of(st.just(-1), st.integers(5, 8)))
    life, most = draw(live_for), draw(st.sampled_from((1, 2, 100)))
    name = draw(names.filter(bool))
    return Enter(scan[:16], scan, name, life, draw(bodies), draw(lives), order, most)


@st.composite
def pointers(draw: st.DrawFn) -> Point:
    scan = draw(scans)
    mode = draw(st.sampled_from(("take", "heal", "renew")))
    return Point(scan[:16], draw(names), scan, draw(live_for), draw(lives), mode)  # type: ignore[arg-type]


expiries = st.lists(
    st.one_of(st.sampled_from((0, 1, 5_000, 10**13)), lives.map(after)), max_size=2
).map(tuple)
heads = st.builds(PutHead, scans, versions, bodies, lives, lives, dues, expiries)
erasures = scans.flatmap(
    lambda scan: st.builds(
        Erase, st.just(scan), st.just(scan[:16]), st.lists(names, max_size=3).map(tuple)
    )
)


def _free(tag: str, name: str, others: list[int]) -> Free:
    """Pass over scans of the same owner only, as all real requests do."""
    return Free(tag, name, tuple(f"{tag}-{number:032x}" for number in others))


changes: st.SearchStrategy[Change] = st.one_of(heads, appends(), entries(), pointers(), erasures)
guards: st.SearchStrategy[Guard] = st.one_of(
    st.builds(HeadIs, scans, st.one_of(st.none(), versions)),
    st.builds(_free, tags, names, st.lists(numbers, max_size=2)),
    st.builds(Room, tags, st.integers(1, 3)),
    st.builds(LengthIs, scans, st.sampled_from(PARTS), st.integers(0, 3)),
)


def _one_slot(apply: Apply) -> bool:
    """Tell whether a request stays within one shard, as all real ones do."""
    items = (*apply.guards, *apply.changes)
    places = (getattr(item, "scan_id", "") or getattr(item, "tag", "") for item in items)
    return len({str(place)[:2] for place in places}) == 1


applies = st.builds(
    Apply,
    st.lists(guards, max_size=2).map(tuple),
    st.lists(changes, min_size=1, max_size=4).map(tuple),
).filter(_one_slot)
resolves = st.one_of(
    st.builds(
        lambda scan, wanted, start: Resolve(scan, scan[:16], "", wanted, start),
        scans, parts, st.sampled_from((0, 0, 1, 2, 5)),
    ),
    st.builds(Resolve, st.none(), tags, names, parts),
)  # fmt: skip
listings = st.one_of(
    st.builds(
        SelectOwned, tags, st.integers(1, 3), st.sampled_from(("", "", "6", "7")),
        st.booleans(), parts,
    ),
    st.builds(SelectDue, st.integers(1, 3)),
)  # fmt: skip
requests = st.one_of(applies, applies, resolves, listings)
