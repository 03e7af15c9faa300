"""Random requests to a store, over few owners, scans and names, and lives from 1 ms up."""

from __future__ import annotations

from hypothesis import strategies as st

from oppscan.ops import (
    Apply,
    Change,
    Enter,
    Erase,
    Free,
    Guard,
    HeadIs,
    Point,
    Resolve,
    Room,
    Save,
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
    st.one_of(st.sampled_from((0, 1, 5_000, 10**13)), lives.map(after)), min_size=1, max_size=2
).map(tuple)
logs = st.lists(bodies, max_size=3).map(tuple)
saves = st.builds(
    Save, scans, versions, bodies, lives, dues, expiries, st.none() | bodies, logs, logs,
    st.booleans(),
)  # fmt: skip
erasures = scans.flatmap(
    lambda scan: st.builds(
        Erase, st.just(scan), st.just(scan[:16]), st.lists(names, max_size=3).map(tuple)
    )
)


def _free(tag: str, name: str, others: list[int]) -> Free:
    """Pass over scans of the same owner only, as all real requests do."""
    return Free(tag, name, tuple(f"{tag}-{number:032x}" for number in others))


changes: st.SearchStrategy[Change] = st.one_of(saves, saves, entries(), pointers(), erasures)
guards: st.SearchStrategy[Guard] = st.one_of(
    st.builds(HeadIs, scans, st.one_of(st.none(), versions), st.booleans()),
    st.builds(_free, tags, names, st.lists(numbers, max_size=2)),
    st.builds(Room, tags, st.integers(1, 3)),
)


def _one_slot(apply: Apply) -> bool:
    """Tell whether a request stays within one shard, as all real ones do."""
    items = (*apply.guards, *apply.changes)
    places = (getattr(item, "scan_id", "") or getattr(item, "tag", "") for item in items)
    return len({str(place)[:2] for place in places}) == 1


def _made(given: list[Guard], wanted: list[Change], version: str) -> Apply:
    """Have each save that only adds follow a head, and nothing else, as all real ones do."""
    found: dict[str, Guard] = {}
    made: list[Change] = []
    for change in wanted:
        if isinstance(change, Save) and change.spec is None:
            if any(isinstance(item, (Erase, Save)) for item in made):
                continue
            found[change.scan_id] = HeadIs(change.scan_id, version)
        made.append(change)
    return Apply((*given, *found.values()), tuple(made))


applies = st.builds(
    _made,
    st.lists(guards, max_size=2),
    st.lists(changes, min_size=1, max_size=4),
    versions,
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
