"""Reading: what is torn is healed or named as lost; further stores are asked in order."""

from __future__ import annotations

from typing import Literal

import pytest
from attrs import evolve
from msgspec.structs import replace

from oppscan import (
    CorruptRecord,
    MemoryBackend,
    ScanExpired,
    ScanLost,
    ScanNotFound,
    StorageUnavailable,
    codec,
    listing,
    reports,
)
from oppscan.backends.rows import Space
from oppscan.ops import Apply, Resolve, Save
from oppscan.sync import ScanRegistry
from oppscan.testing import Fault, FaultyStore, lose
from tests.unit.made import LIMITS, NAMES, POLICY, SCAN_ID, Shop, a_shop, finished, numbers


def test_near_answers_a_finished_scan_while_it_is_new() -> None:
    shop = a_shop(ttl=evolve(POLICY, near_ttl=5))
    scan_id = finished(shop)
    status = shop.registry.status(scan_id)
    shop.store.reset()
    assert shop.registry.status(scan_id, owner="ann") == status
    assert shop.store.total == 0
    brief = shop.registry.status(scan_id, outcomes=False)
    assert brief.outcomes == ()
    shop.clock.jump(5)
    assert shop.registry.status(scan_id) == status
    assert shop.store.total > 0
    with pytest.raises(ScanNotFound):
        shop.registry.status(scan_id, owner="bob")


def test_what_is_kept_nearby_is_each_caller_s_to_change() -> None:
    shop = a_shop(ttl=evolve(POLICY, near_ttl=5))
    scan_id = finished(shop, params={"symbols": ["IBM"]})
    shop.registry.status(scan_id)
    shop.registry.status(scan_id).params["symbols"] = None
    assert shop.registry.status(scan_id).params == {"symbols": ["IBM"]}


def test_g2_an_extension_is_seen_though_a_status_is_kept_nearby() -> None:
    shop = a_shop(ttl=evolve(POLICY, near_ttl=5))
    scan_id = finished(shop)
    before = shop.registry.status(scan_id)
    after = shop.registry.extend(scan_id, 5000)
    assert after.expires_at > before.expires_at
    assert shop.registry.status(scan_id) == after


def test_explain_tells_what_is_kept_nearby() -> None:
    shop = a_shop(ttl=evolve(POLICY, near_ttl=5))
    scan_id = finished(shop)
    near, record = shop.registry.explain(scan_id).steps
    assert (near.name, near.saw, near.detail) == ("near", "unknown", "")
    shop.registry.status(scan_id)
    shop.registry.results(scan_id)
    near = shop.registry.explain(scan_id).steps[0]
    assert (near.name, near.saw, near.detail) == ("near", "kept", "results and status")
    assert record.name == "record"
    assert shop.registry.explain(owner="ann").steps[0].name == "near"


def test_g4_a_record_is_rebuilt_from_its_results() -> None:
    shop = a_shop()
    scan_id = finished(shop)
    status = shop.registry.status(scan_id)
    for kind in ("head", "spec", "events"):
        lose(shop.backend, "oppscan", kind, scan_id)
        assert shop.registry.status(scan_id) == status
        assert shop.registry.explain(scan_id).steps[0].saw == "found", "it was healed"


def test_g4_an_extension_survives_the_loss_of_the_record() -> None:
    shop = a_shop()
    scan_id = finished(shop)
    longer = shop.registry.extend(scan_id, 500)
    lose(shop.backend, "oppscan", "head", scan_id)
    assert shop.registry.status(scan_id).expires_at == longer.expires_at


@pytest.mark.parametrize("kind", ["head", "spec", "events"])
def test_g4_a_live_scan_that_lost_a_part_is_named_as_lost(
    kind: Literal["head", "spec", "events"],
) -> None:
    shop = a_shop()
    ticket = shop.registry.start("ann", NAMES)
    holding = shop.claim(ticket.scan_id)
    shop.commit(holding, reports.finished(holding, "alpha", [], LIMITS))
    lose(shop.backend, "oppscan", kind, ticket.scan_id)
    with pytest.raises(ScanLost):
        shop.registry.status(ticket.scan_id)
    with pytest.raises(ScanLost):
        shop.registry.status(ticket.scan_id, owner="ann")


def test_g4_parts_without_head_and_index_are_lost_and_not_unknown() -> None:
    shop = a_shop()
    ticket = shop.registry.start("ann", NAMES)
    lose(shop.backend, "oppscan", "head", ticket.scan_id)
    lose(shop.backend, "oppscan", "index", ticket.scan_id)
    with pytest.raises(ScanLost, match="only parts of it are left"):
        shop.registry.status(ticket.scan_id)


def test_g4_a_lost_index_is_healed_by_reading() -> None:
    shop = a_shop()
    scan_id = finished(shop)
    lose(shop.backend, "oppscan", "index", scan_id)
    for _ in range(2):
        assert [s.scan_id for s in shop.registry.history("ann")] == [scan_id]
    lose(shop.backend, "oppscan", "index", scan_id)
    lose(shop.backend, "oppscan", "latest", scan_id)
    assert shop.registry.history("ann").items == (), "nothing leads to it"
    shop.registry.status(scan_id)
    assert [s.scan_id for s in shop.registry.history("ann")] == [scan_id]


def test_a_healing_write_that_fails_never_fails_the_read() -> None:
    shop = a_shop(op_timeout=0.1)
    scan_id = finished(shop)
    status = shop.registry.status(scan_id)
    lose(shop.backend, "oppscan", "head", scan_id)
    shop.store.always(Fault.FULL, on=Apply)
    assert shop.registry.status(scan_id) == status
    assert shop.registry.explain(scan_id).steps[-1].name == "heal"


def test_g5_expired_is_told_apart_until_the_margin_is_over() -> None:
    shop = a_shop()
    scan_id = finished(shop)
    shop.clock.jump(60)
    with pytest.raises(ScanExpired) as expired:
        shop.registry.status(scan_id)
    assert expired.value.status.state == "complete"
    lose(shop.backend, "oppscan", "head", scan_id)
    with pytest.raises(ScanExpired):
        shop.registry.latest("ann")
    shop.clock.jump(20)
    with pytest.raises(ScanNotFound):
        shop.registry.status(scan_id)
    assert shop.registry.history("ann").items == ()


def test_reading_extends_where_the_host_wants_it() -> None:
    shop = a_shop(ttl=evolve(POLICY, extend_on_read=100))
    scan_id = finished(shop)
    shop.clock.jump(30)
    before = shop.registry.status(scan_id, outcomes=False).expires_at.timestamp()
    assert before * 1000 == shop.clock.now() + 60_000
    shop.clock.jump(30)
    shop.store.plan(Fault.FULL, on=Apply)
    assert shop.registry.results(scan_id).opportunities
    shop.store.before(lambda: shop.registry.extend(scan_id, 95), on=Apply)
    assert shop.registry.status(scan_id).state == "complete"


# --- Further stores -------------------------------------------------------------------------------


def _two() -> tuple[Shop, FaultyStore, ScanRegistry]:
    """Give an old shop, and a registry on a new store that falls back to it."""
    old = a_shop(op_timeout=0.2)
    new = FaultyStore(MemoryBackend(old.clock))
    return old, new, ScanRegistry(new, ttl=POLICY, fallbacks=[old.store], op_timeout=0.2)


def test_a_finished_scan_is_copied_forward_once() -> None:
    old, new, registry = _two()
    scan_id = finished(old)
    status = old.registry.status(scan_id)
    assert registry.status(scan_id) == status
    old.store.always(Fault.FAIL)
    assert registry.status(scan_id) == status
    assert numbers(registry.results(scan_id)) == [0, 1, 2, 3, 4]
    assert new.counts["Resolve"] >= 2


def test_a_live_scan_is_read_through_and_written_where_it_lives() -> None:
    old, _, registry = _two()
    ticket = old.registry.start("ann", NAMES)
    assert registry.status(ticket.scan_id) == ticket.status
    assert registry.start("ann", NAMES).scan_id == ticket.scan_id
    assert registry.has_active_scan("ann")
    assert registry.cancel(ticket.scan_id).state == "cancelled"
    assert old.registry.status(ticket.scan_id).state == "cancelled"


def test_i6_a_primary_that_is_down_answers_only_what_is_finished_elsewhere() -> None:
    old, new, registry = _two()
    done, live = finished(old), old.registry.start("bob", NAMES).scan_id
    new.always(Fault.FAIL)
    assert registry.status(done).state == "complete"
    with pytest.raises(StorageUnavailable):
        registry.status(live)
    with pytest.raises(StorageUnavailable):
        registry.status(SCAN_ID)
    old.store.always(Fault.FAIL)
    with pytest.raises(StorageUnavailable):
        registry.status(done)
    with pytest.raises(StorageUnavailable):
        registry.start("cid", NAMES)


def test_i6_a_fallback_that_is_down_is_no_absence() -> None:
    old, _, registry = _two()
    old.store.always(Fault.FAIL)
    with pytest.raises(StorageUnavailable):
        registry.status(SCAN_ID)


def test_what_expired_elsewhere_is_expired() -> None:
    old, _, registry = _two()
    scan_id = finished(old)
    old.clock.jump(60)
    with pytest.raises(ScanExpired):
        registry.status(scan_id)


def test_a_copy_that_fails_never_fails_the_read() -> None:
    old, new, registry = _two()
    scan_id = finished(old)
    new.always(Fault.FULL, on=Apply)
    assert registry.status(scan_id).state == "complete"
    assert registry.explain(scan_id).steps[-1].name == "copy"
    new.clear()
    old.store.before(lambda: old.registry.forget(scan_id), on=Resolve)


def test_a_copy_of_what_is_forgotten_while_it_is_made_is_taken_back() -> None:
    old, new, registry = _two()
    scan_id = finished(old)
    rival = ScanRegistry(new.inner, ttl=POLICY, fallbacks=[old.backend])
    new.before(lambda: rival.forget(scan_id), on=Apply)
    assert registry.status(scan_id).state == "complete"
    for reader in (registry, rival):
        with pytest.raises(ScanNotFound):
            reader.status(scan_id)
        assert reader.explain(scan_id).answer == "unknown"
        assert reader.history("ann").items == ()


def test_g5_a_torn_scan_is_lost_whether_or_not_a_further_store_answers() -> None:
    old, new, registry = _two()
    ticket = registry.start("ann", NAMES)
    lose(new.inner, "oppscan", "head", ticket.scan_id)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(ScanLost):
            registry.status(ticket.scan_id)
        old.store.always(Fault.FAIL)


def test_g14_a_head_and_a_description_that_do_not_fit_are_corrupt() -> None:
    shop = a_shop()
    ticket = shop.registry.start("ann", NAMES)
    (start,) = [request for request in shop.store.requests if isinstance(request, Apply)]
    (put,) = [change for change in start.changes if isinstance(change, Save)]
    wrong = replace(codec.read_head(put.body, shop.clock.now(), ticket.scan_id), total=2)
    torn = Apply((), (replace(put, body=codec.encode(wrong)),))
    shop.backend.execute_blocking(torn, "oppscan", 1.0)
    for read in (shop.registry.status, shop.registry.results, shop.registry.cancel):
        with pytest.raises(CorruptRecord, match="has 2 strategies, and names 3"):
            read(ticket.scan_id)


def test_forgetting_reaches_every_store_or_raises() -> None:
    old, _, registry = _two()
    scan_id = finished(old)
    registry.status(scan_id)
    registry.forget(scan_id)
    with pytest.raises(ScanNotFound):
        registry.status(scan_id)
    again = finished(old, "bob")
    old.store.always(Fault.FAIL)
    with pytest.raises(StorageUnavailable):
        registry.forget(again)


def test_what_is_due_no_more_when_it_is_read_is_not_stalled() -> None:
    shop = a_shop()
    scan_id = shop.registry.start("ann", NAMES).scan_id
    with shop.backend.transaction(1.0, write=False) as view:
        seen = Space(view, "oppscan").sighting(scan_id[:16], scan_id, frozenset({"spec"}))
    assert listing._stalled(seen, shop.clock.now()) is None  # noqa: SLF001 - a race, else
    shop.clock.jump(POLICY.claim_within)
    assert listing._stalled(seen, shop.clock.now()) is not None  # noqa: SLF001
