"""What was decoded lately is used for the very same bytes only, and shares nothing with users."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from oppscan import ScanExpired, ScanNotFound, reports
from oppscan.ops import Sighting, StoredHead
from oppscan.recent import BYTES, ENTRIES, Recent
from oppscan.record import Frames, Spec, Stamped
from tests.unit.made import LIMITS, NAMES, SCAN_ID, Shop, a_head, a_shop

SPEC = Spec({"symbols": ["IBM"]}, {}, NAMES)
SEEN = Sighting(
    SCAN_ID,
    StoredHead("w", 1000, b"head"),
    None,
    Frames(1, 0, (Stamped(1000, b"spec"),)),
    Frames(1, 0, (Stamped(1001, b"event"),)),
)


def _kept(seen: Sighting = SEEN) -> Recent:
    recent = Recent()
    recent.keep(seen, a_head(), SPEC, (None,) * len(NAMES))
    return recent


def _started(shop: Shop) -> str:
    return shop.registry.start("ann", NAMES, params={"symbols": ["IBM"]}).scan_id


def test_the_same_bytes_are_decoded_once() -> None:
    again = Sighting(SEEN.scan_id, SEEN.head, None, SEEN.spec, SEEN.events)
    assert _kept().find(again, events=True) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"head": StoredHead("x", 1000, b"head")},
        {"head": StoredHead("w", 1001, b"head")},
        {"head": StoredHead("w", 1000, b"hea")},
        {"spec": Frames(1, 0, (Stamped(1000, b"other"),))},
        {"spec": None},
        {"events": Frames(1, 0, (Stamped(1002, b"event"),))},
        {"events": Frames(1, 0, (Stamped(1001, b"other"),))},
        {"events": None},
        {"scan_id": SCAN_ID.replace("0", "f")},
    ],
)
def test_other_bytes_are_decoded_anew(changes: dict[str, object]) -> None:
    assert _kept().find(replace(SEEN, **changes), events=True) is None


def test_a_read_without_outcomes_is_told_from_one_with_them() -> None:
    assert _kept().find(SEEN, events=False) is None


def test_it_is_bounded_in_number_and_size() -> None:
    recent = Recent()
    seen = [replace(SEEN, scan_id=f"{number}") for number in range(ENTRIES + 1)]
    for item in seen:
        recent.keep(item, a_head(), SPEC, None)
    found = [recent.find(item, events=False) for item in seen]
    assert 1 <= sum(item is not None for item in found) <= ENTRIES
    assert found[-1] is not None, "the newest one is there"
    large = replace(SEEN, spec=Frames(1, 0, (Stamped(1000, b"x" * BYTES),)))
    assert _kept(large).find(large, events=True) is None


def test_answers_share_no_dicts() -> None:
    shop = a_shop()
    scan_id = _started(shop)
    for _ in range(3):
        status = shop.registry.status(scan_id)
        assert status.params == {"symbols": ["IBM"]}
        symbols = status.params["symbols"]
        assert isinstance(symbols, list)
        symbols.append("junk")
        status.metadata["junk"] = 1


def test_a_scan_stalls_and_expires_while_its_bytes_stay_the_same() -> None:
    shop = a_shop()
    scan_id = _started(shop)
    fresh = [shop.registry.status(scan_id) for _ in range(2)]
    assert fresh[0] == fresh[1]
    assert not fresh[1].stalled
    shop.clock.jump(30)
    assert shop.registry.status(scan_id).stalled
    shop.clock.jump(20)
    with pytest.raises(ScanExpired):
        shop.registry.status(scan_id)
    shop.clock.jump(20)
    with pytest.raises(ScanNotFound):
        shop.registry.status(scan_id)


def test_g2_every_write_is_seen_by_the_next_read() -> None:
    shop = a_shop()
    scan_id = _started(shop)
    seen = [shop.registry.status(scan_id)]
    holding = shop.claim(scan_id)
    seen.append(shop.registry.status(scan_id))
    for name in NAMES:
        shop.commit(holding, reports.finished(holding, name, [{"n": 1}], LIMITS))
        seen += [shop.registry.status(scan_id), shop.registry.status(scan_id, outcomes=False)]
    done = [status.progress.strategies_completed for status in seen]
    assert done == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [sum(outcome.state.done for outcome in s.outcomes) for s in seen[2::2]] == [1, 2, 3]
    assert [s.outcomes for s in seen[3::2]] == [(), (), ()]


def test_what_is_remembered_equals_what_is_read_afresh() -> None:
    shop = a_shop()
    scan_id = _started(shop)
    holding = shop.claim(scan_id)
    shop.commit(holding, reports.finished(holding, "alpha", [{"n": 1}], LIMITS))
    first, again = (shop.registry.status(scan_id) for _ in range(2))
    assert first == again
    assert first.to_dict() == again.to_dict()


def test_g6_what_is_remembered_is_told_to_its_owner_only() -> None:
    shop = a_shop()
    scan_id = _started(shop)
    shop.registry.status(scan_id, owner="ann")
    with pytest.raises(ScanNotFound):
        shop.registry.status(scan_id, owner="bob")
