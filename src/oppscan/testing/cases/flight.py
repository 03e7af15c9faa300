"""G9, I5, I9: starting, joining, reuse, keys, and the limits of an owner."""

# ruff: noqa: ANN401, D102, PLR2004, S101 - cases, not code

from __future__ import annotations

from typing import Any

import pytest

from oppscan import Limits, Reuse, ScanState, TooManyScans, request_key
from oppscan.ops import Apply
from oppscan.testing.cases.base import Cases, exact
from oppscan.testing.world import World


class FlightCases(Cases):
    """At most one live scan of an owner and key."""

    async def test_i9_racing_starts_have_one_winner(self, world: World) -> None:
        workers = [world.worker() for _ in range(8)]
        tickets = await world.together(*(_starter(world, worker) for worker in workers))
        assert len({ticket.scan_id for ticket in tickets}) == 1
        assert sorted(ticket.joined for ticket in tickets) == [False] + [True] * 7
        assert sorted(ticket.must_run for ticket in tickets) == [False] * 7 + [True]

    async def test_g9_a_duplicate_joins_and_is_told_so(self, world: World) -> None:
        first = await world.start(world.worker(), params={"a": 1})
        second = await world.start(world.worker(), params={"a": 1}, metadata={"other": 1})
        assert second.joined
        assert not second.must_run
        assert second.scan_id == first.scan_id
        assert second.key == first.key == request_key(["alpha", "beta", "gamma"], {"a": 1})
        assert second.status.metadata == {}

    async def test_the_order_of_strategies_makes_no_other_request(self, world: World) -> None:
        worker = world.worker()
        first = await worker.registry.start("ann", ["b", "a"], params=None)
        second = await worker.registry.start("ann", ["a", "b"], params={})
        assert second.joined
        assert [o.name for o in second.status.outcomes] == ["b", "a"]
        assert first.key == request_key(("a", "b"))

    async def test_other_params_owners_and_keys_are_other_scans(self, world: World) -> None:
        worker = world.worker()
        tickets = [
            await world.start(worker),
            await world.start(worker, "bob"),
            await world.start(worker, params={"a": 1}),
            await world.start(worker, params={"a": "1"}),
            await world.start(worker, key="mine"),
            await world.start(worker, strategies=["alpha"]),
        ]
        assert not any(ticket.joined for ticket in tickets)
        assert len({ticket.scan_id for ticket in tickets}) == len(tickets)

    async def test_a_key_names_the_request_whatever_it_asks(self, world: World) -> None:
        worker = world.worker()
        first = await world.start(worker, key="daily", params={"a": 1})
        second = await world.start(worker, key="daily", params={"a": 2}, strategies=["x"])
        assert second.joined
        assert second.scan_id == first.scan_id
        assert first.key == "daily"
        assert second.status.params == {"a": 1}

    async def test_i5_equal_scans_never_share_a_record(self, world: World) -> None:
        worker = world.worker()
        first = await world.finished(worker)
        results = await worker.registry.results(first.scan_id)
        second = await world.start(worker)
        assert not second.joined
        assert second.key == first.key
        claim = await world.hold(worker, second.scan_id)
        await claim.strategy_finished("alpha", [{"other": True}])
        assert await world.registry().results(first.scan_id) == results
        assert await world.registry().status(first.scan_id) == first

    async def test_g9_never_scans_stand_outside(self, world: World) -> None:
        worker = world.worker()
        shared = await world.start(worker)
        private = [await world.start(worker, reuse=Reuse.NEVER) for _ in range(2)]
        again = await world.start(worker)
        assert again.scan_id == shared.scan_id
        assert not any(ticket.joined for ticket in private)
        assert len({shared.key, *(ticket.key for ticket in private)}) == 3

    async def test_g9_a_never_scan_is_joined_by_nobody(self, world: World) -> None:
        worker = world.worker()
        private = await world.start(worker, reuse=Reuse.NEVER)
        ticket = await world.start(worker)
        assert not ticket.joined
        assert ticket.scan_id != private.scan_id
        named = await world.start(worker, reuse=Reuse.NEVER, key="k")
        assert not (await world.start(worker, key="k")).joined
        assert named.key != "k"

    async def test_must_run_when_joined_while_stalled(self, world: World) -> None:
        ticket = await world.start(world.worker())
        await world.dead_claim(ticket.scan_id)
        joined = await world.start(world.worker())
        assert joined.joined
        assert joined.must_run
        assert joined.status.stalled

    async def test_fresh_reuses_a_recent_complete_scan(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        await world.clock.advance(3 * world.unit)
        fresh = await world.start(worker, reuse=Reuse.fresh(5 * world.unit))
        assert fresh.joined
        assert fresh.scan_id == status.scan_id
        assert fresh.status == status
        assert not fresh.must_run
        stale = await world.start(worker, reuse=Reuse.fresh(2 * world.unit))
        assert not stale.joined

    async def test_fresh_to_the_millisecond(self, world: World) -> None:
        exact(world)
        worker = world.worker()
        status = await world.finished(worker)
        world.manual.jump(2)
        assert (await world.start(worker, reuse=Reuse.fresh(2))).scan_id == status.scan_id
        assert not (await world.start(worker, reuse=Reuse.fresh(1.999))).joined

    async def test_fresh_also_joins_a_live_scan(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        joined = await world.start(worker, reuse=Reuse.fresh(5 * world.unit))
        assert joined.joined
        assert joined.scan_id == ticket.scan_id

    @pytest.mark.parametrize("end", ["failed", "cancelled"])
    async def test_fresh_reuses_no_failure(self, world: World, end: str) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        if end == "failed":
            await (await world.hold(worker, ticket.scan_id)).fail("x")
        else:
            await worker.registry.cancel(ticket.scan_id)
        assert not (await world.start(worker, reuse=Reuse.fresh(100))).joined

    async def test_active_starts_anew_after_the_end(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        assert not (await world.start(worker)).joined
        assert (await worker.registry.status(status.scan_id)).state is ScanState.COMPLETE

    async def test_active_starts_anew_after_expiry(self, world: World) -> None:
        worker = world.worker()
        first = await world.start(worker)
        await world.clock.advance(world.ttl.pending_ttl * 1.01)
        second = await world.start(worker)
        assert not second.joined
        assert second.scan_id != first.scan_id

    async def test_g9_expiry_frees_the_key_to_the_millisecond(self, world: World) -> None:
        exact(world)
        worker = world.worker()
        first = await world.start(worker)
        world.manual.jump(world.ttl.pending_ttl - 0.001)
        assert (await world.start(worker)).scan_id == first.scan_id
        world.manual.jump(0.001)
        assert not (await world.start(worker)).joined

    @pytest.mark.parametrize("kind", ["pointer", "latest", "index", "entry", "due"])
    async def test_g9_no_lost_key_lets_two_in(self, world: World, kind: Any) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        world.lose(worker.store, kind, ticket.scan_id)
        again = await world.start(world.worker())
        assert again.joined
        assert again.scan_id == ticket.scan_id

    async def test_g9_starts_race_with_one_that_took_the_key_meanwhile(self, world: World) -> None:
        worker = world.worker()
        beside = world.beside(worker.store)
        taken: list[str] = []
        worker.store.before(
            lambda: taken.append(beside.start("ann", ["alpha", "beta", "gamma"]).scan_id),
            on=Apply,
        )
        ticket = await world.start(worker)
        assert ticket.joined
        assert [ticket.scan_id] == taken


class LimitCases(Cases):
    """How much one owner may have."""

    async def test_too_many_live_scans(self, world: World) -> None:
        worker = world.worker(limits=Limits(max_live_per_owner=2))
        first = await world.start(worker, key="1")
        await world.start(worker, key="2")
        with pytest.raises(TooManyScans) as caught:
            await world.start(worker, key="3")
        assert caught.value.limit == 2
        assert (await world.start(worker, key="1")).joined
        await world.start(worker, "bob", key="3")
        await worker.registry.cancel(first.scan_id)
        await world.start(worker, key="3")

    async def test_the_limit_of_live_scans_holds_in_a_race(self, world: World) -> None:
        workers = [world.worker(limits=Limits(max_live_per_owner=3)) for _ in range(8)]
        verdicts = await world.together(
            *(_try_start(world, worker, f"k{n}") for n, worker in enumerate(workers))
        )
        assert sorted(verdicts) == ["started"] * 3 + ["too many"] * 5

    async def test_live_scans_that_expired_count_no_more(self, world: World) -> None:
        worker = world.worker(limits=Limits(max_live_per_owner=1))
        await world.start(worker, key="1")
        await world.clock.advance(world.ttl.pending_ttl * 1.01)
        await world.start(worker, key="2")

    async def test_the_oldest_finished_is_dropped_first_a_live_one_never(
        self, world: World
    ) -> None:
        worker = world.worker(limits=Limits(max_remembered=3))
        live = await world.start(worker, key="live")
        ended = []
        for number in range(4):
            ticket = await world.start(worker, key=f"k{number}")
            ended.append((await worker.registry.cancel(ticket.scan_id)).scan_id)
        history = await worker.registry.history("ann")
        assert [s.scan_id for s in history] == [ended[3], ended[2], live.scan_id]
        more = [await world.start(worker, key=f"live{number}") for number in range(4)]
        listed = [s.scan_id for s in await worker.registry.history("ann")]
        assert set(listed) == {live.scan_id, *(ticket.scan_id for ticket in more)}

    async def test_a_scan_dropped_from_the_index_can_still_be_read(self, world: World) -> None:
        worker = world.worker(limits=Limits(max_remembered=1))
        status = await world.finished(worker)
        await world.start(worker, key="other")
        assert await worker.registry.status(status.scan_id) == status
        assert len((await worker.registry.results(status.scan_id)).opportunities) == 3


def _starter(world: World, worker: Any) -> Any:
    return lambda: world.start(worker)


def _try_start(world: World, worker: Any, key: str) -> Any:
    async def attempt() -> str:
        try:
            await world.start(worker, key=key)
        except TooManyScans:
            return "too many"
        return "started"

    return attempt
