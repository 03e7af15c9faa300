"""§4's table, the reading half: results, latest, history, stalled."""

# ruff: noqa: D102, PLR2004, S101 - cases, not code

from __future__ import annotations

import json

import pytest

from oppscan import (
    InvalidInput,
    ScanExpired,
    ScanNotFound,
    ScanState,
)
from oppscan.testing.cases.base import Cases
from oppscan.testing.world import World


class ResultCases(Cases):
    """What was found."""

    async def test_results_are_exactly_what_was_given(self, world: World) -> None:
        worker = world.worker()
        given = [
            {"z": 1, "a": [1, 2.5, None, True, "ü\u2028\x00"], "n": {"m": {}}},
            {"": -(2**63), "big": 2**64 - 1, "f": 1e300, "i": 1.0, "zero": -0.0},
        ]
        ticket = await world.start(worker)
        async with worker.registry.claim(ticket.scan_id) as scan:
            await scan.strategy_finished("gamma", given)
            await scan.strategy_finished("alpha", [{"late": True}])
        results = await world.registry().results(ticket.scan_id)
        assert results.opportunities == (*given, {"late": True})
        assert [json.dumps(o) for o in results.opportunities[:2]] == [json.dumps(o) for o in given]
        assert list(results.by_strategy) == ["alpha", "gamma"]
        assert results.by_strategy["gamma"] == tuple(given)
        assert results.outcomes == results.status.outcomes
        assert results.summary is None
        json.dumps(results.to_dict())
        json.dumps(results.status.to_dict())

    async def test_a_cursor_gives_only_what_came_since(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        seen: list[object] = []
        cursor = None
        for name in ("beta", "alpha", "gamma"):
            await claim.strategy_finished(name, [{"of": name, "n": n} for n in range(3)])
            page = await worker.registry.results(ticket.scan_id, partial=True, after=cursor)
            assert len(page.opportunities) == 3
            seen += page.opportunities
            cursor = page.cursor
            empty = await worker.registry.results(ticket.scan_id, partial=True, after=cursor)
            assert empty.opportunities == ()
            assert empty.cursor == cursor
        await claim.complete()
        assert tuple(seen) == (await worker.registry.results(ticket.scan_id)).opportunities
        rest = await worker.registry.results(ticket.scan_id, after=cursor)
        assert rest.opportunities == ()

    @pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
    async def test_a_limit_pages_through_everything_once(self, world: World, limit: int) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        async with worker.registry.claim(ticket.scan_id) as scan:
            await scan.strategy_finished("alpha", [{"n": n} for n in range(3)])
            await scan.strategy_finished("beta", [])
            await scan.strategy_finished("gamma", [{"n": n} for n in range(3, 5)])
            await scan.complete({"s": 1})
        seen: list[object] = []
        cursor = None
        for _ in range(10):  # more often than there are pages: behind the last one is nothing
            page = await worker.registry.results(ticket.scan_id, after=cursor, limit=limit)
            assert len(page.opportunities) <= limit
            assert sum(len(part) for part in page.by_strategy.values()) == len(page.opportunities)
            assert page.summary == {"s": 1}
            seen += page.opportunities
            cursor = page.cursor
        assert seen == [{"n": n} for n in range(5)]

    async def test_cursors_reach_into_posted_payloads_too(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await claim.update({"opportunities": [{"n": 0}, {"n": 1}]})
        page = await worker.registry.results(ticket.scan_id, partial=True, limit=1)
        assert page.opportunities == ({"n": 0},)
        await claim.update({"opportunities": [{"n": 0}, {"n": 1}, {"n": 2}]}, partial=False)
        rest = await worker.registry.results(ticket.scan_id, after=page.cursor)
        assert rest.opportunities == ({"n": 1}, {"n": 2})

    @pytest.mark.parametrize("after", ["", "x", "1", "-1.0", "1.2.3", 7, "9" * 40])
    async def test_a_cursor_that_was_not_given_out_is_refused(
        self, world: World, after: object
    ) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        worker.store.reset()
        with pytest.raises(InvalidInput):
            await worker.registry.results(status.scan_id, after=after)  # type: ignore[arg-type]
        for limit in (0, -1, True, 1.5, "1"):
            with pytest.raises(InvalidInput):
                await worker.registry.results(status.scan_id, limit=limit)  # type: ignore[arg-type]
        assert worker.store.total == 0

    async def test_a_cursor_beyond_the_end_gives_nothing(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        results = await worker.registry.results(status.scan_id, after="999.999")
        assert results.opportunities == ()

    async def test_repeated_results_of_a_finished_scan_are_equal(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        first = await worker.registry.results(status.scan_id)
        for _ in range(3):
            assert await worker.registry.results(status.scan_id) == first
        assert (await worker.registry.results(status.scan_id, limit=1)).opportunities == (
            first.opportunities[:1]
        )
        cursor = (await worker.registry.results(status.scan_id, limit=2)).cursor
        rest = await worker.registry.results(status.scan_id, after=cursor)
        assert rest.opportunities == first.opportunities[2:]

    async def test_a_caller_who_changes_results_changes_nobody_else_s(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        first = await worker.registry.results(status.scan_id)
        first.opportunities[0]["n"] = "changed"
        again = await worker.registry.results(status.scan_id)
        assert again.opportunities[0] == {"n": 1}


class ListingCases(Cases):
    """latest, history, stalled, has_active_scan."""

    async def test_latest_is_the_newest_started_in_any_state(self, world: World) -> None:
        worker = world.worker()
        with pytest.raises(ScanNotFound):
            await worker.registry.latest("ann")
        first = await world.start(worker, key="1")
        second = await world.start(worker, key="2")
        assert (await worker.registry.latest("ann")).scan_id == second.scan_id
        await worker.registry.cancel(second.scan_id)
        claim = await world.hold(worker, first.scan_id)
        await claim.heartbeat()
        latest = await worker.registry.latest("ann")
        assert latest.scan_id == second.scan_id
        assert latest.state is ScanState.CANCELLED
        assert (await worker.registry.latest("ann", key="1")).scan_id == first.scan_id
        for owner, key in (("bob", None), ("ann", "3")):
            with pytest.raises(ScanNotFound):
                await worker.registry.latest(owner, key=key)

    async def test_latest_of_an_expired_scan_is_expired(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        await world.clock.advance(world.ttl.pending_ttl * 1.01)
        with pytest.raises(ScanExpired) as caught:
            await worker.registry.latest("ann")
        assert caught.value.status.scan_id == ticket.scan_id
        await world.clock.advance(world.ttl.lookup_margin)
        with pytest.raises(ScanNotFound):
            await worker.registry.latest("ann")

    async def test_has_active_scan_is_live_and_not_stalled(self, world: World) -> None:
        worker = world.worker()
        active = worker.registry.has_active_scan
        assert not await active("ann")
        ticket = await world.start(worker, key="k")
        assert await active("ann")
        assert await active("ann", key="k")
        assert not await active("ann", key="other")
        assert not await active("bob")
        claim = await world.hold(worker, ticket.scan_id)
        assert await active("ann", key="k")
        await claim.complete()
        assert not await active("ann")

    async def test_history_is_newest_first_and_pages(self, world: World) -> None:
        worker = world.worker()
        ids = [(await world.start(worker, key=str(n))).scan_id for n in range(7)]
        await world.start(worker, "bob")
        await worker.registry.cancel(ids[3])
        whole = await worker.registry.history("ann")
        assert [s.scan_id for s in whole] == ids[::-1]
        assert whole.cursor is None
        seen: list[str] = []
        cursor = None
        for _ in range(4):
            page = await worker.registry.history("ann", limit=2, after=cursor)
            seen += [s.scan_id for s in page]
            cursor = page.cursor
            if cursor is None:
                break
        assert seen == ids[::-1]
        cancelled = await worker.registry.history("ann", states=[ScanState.CANCELLED])
        assert [s.scan_id for s in cancelled] == [ids[3]]
        two = await worker.registry.history("ann", states=["pending"], limit=2)  # type: ignore[list-item]
        assert [s.scan_id for s in two] == [ids[6], ids[5]]
        assert len(await worker.registry.history("nobody")) == 0

    async def test_history_shows_what_status_shows(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker, params={"a": 1}, metadata={"b": 2})
        assert list(await worker.registry.history("ann")) == [status]

    async def test_history_keeps_expired_scans_as_tombstones(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker, params={"a": 1})
        await world.clock.advance(world.ttl.result_ttl * 1.01)
        listed = await worker.registry.history("ann")
        assert [s.scan_id for s in listed] == [status.scan_id]
        tombstone = listed[0]
        assert tombstone.scan_id == status.scan_id
        assert tombstone.state is ScanState.COMPLETE
        assert tombstone.progress == status.progress
        assert tombstone.params == {}
        assert tombstone.outcomes == ()
        await world.clock.advance(world.ttl.lookup_margin)
        assert len(await worker.registry.history("ann")) == 0

    @pytest.mark.parametrize(
        "bad",
        [{"limit": 0}, {"limit": "5"}, {"after": "x"}, {"after": 3}, {"states": "pending"},
         {"states": ["asleep"]}, {"states": 5}],
        ids=str,
    )  # fmt: skip
    async def test_history_refuses_what_makes_no_sense(
        self, world: World, bad: dict[str, object]
    ) -> None:
        worker = world.worker()
        with pytest.raises(InvalidInput):
            await worker.registry.history("ann", **bad)  # type: ignore[arg-type]
        assert worker.store.total == 0

    async def test_stalled_lists_scans_of_all_owners_longest_first(self, world: World) -> None:
        worker = world.worker()
        for owner in ("ann", "bob", "cid"):
            await world.start(worker, owner)
            await world.clock.advance(world.unit / 2)
        held = await world.start(worker, "dan")
        await world.hold(worker, held.scan_id)
        assert await worker.registry.stalled() == []
        await world.clock.advance(world.ttl.claim_within)
        found = await worker.registry.stalled()
        assert [s.owner for s in found] == ["ann", "bob", "cid"]
        assert all(s.stalled for s in found)
        assert [s.owner for s in await worker.registry.stalled(2)] == ["ann", "bob"]
        for bad in (0, -1, True, "5"):
            with pytest.raises(InvalidInput):
                await worker.registry.stalled(bad)  # type: ignore[arg-type]

    async def test_stalled_leaves_out_what_expired_or_ended(self, world: World) -> None:
        worker = world.worker()
        ended = await world.start(worker, "ann")
        await world.start(worker, "bob")
        await world.clock.advance(world.ttl.claim_within)
        await worker.registry.cancel(ended.scan_id)
        assert [s.owner for s in await worker.registry.stalled()] == ["bob"]
        await world.clock.advance(world.ttl.pending_ttl)
        assert await worker.registry.stalled() == []
