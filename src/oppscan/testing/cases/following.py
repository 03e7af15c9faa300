"""watch, wait and for_owner; G6: one owner sees nothing of another."""

# ruff: noqa: D102, S101 - cases, not code

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from oppscan import (
    InvalidInput,
    ScanNotFound,
    ScanState,
    ScanStatus,
)
from oppscan.testing.cases.base import Cases, exact
from oppscan.testing.world import World


class FollowingCases(Cases):
    """watch and wait."""

    async def test_wait_gives_the_final_status(self, world: World) -> None:
        worker, waiter = world.worker(), world.worker()
        ticket = await world.start(worker)
        waiting = await world.follow(waiter.registry.wait(ticket.scan_id))
        claim = await world.hold(worker, ticket.scan_id)
        await world.clock.advance(world.unit)
        assert not waiting.done()
        await claim.strategy_finished("alpha", [{}])
        await claim.complete()
        await world.clock.advance(world.unit)
        assert await waiting == await worker.registry.status(ticket.scan_id)
        assert (await worker.registry.wait(ticket.scan_id, timeout=0)).done

    async def test_wait_past_its_timeout_is_a_timeout(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        waiting = await world.follow(worker.registry.wait(ticket.scan_id, timeout=world.unit))
        await world.clock.advance(world.unit * 1.2)
        with pytest.raises(TimeoutError):
            await waiting
        with pytest.raises(TimeoutError):
            await worker.registry.wait(ticket.scan_id, timeout=0)
        with pytest.raises(InvalidInput):
            await worker.registry.wait(ticket.scan_id, timeout=-1)
        with pytest.raises(ScanNotFound):
            await worker.registry.wait(ticket.scan_id, owner="bob", timeout=world.unit)

    async def test_watch_yields_what_changes_until_the_end(self, world: World) -> None:
        steady = world.policy(lease=20, claim_within=30)  # no store is so slow that this stalls
        worker, watcher = world.worker(ttl=steady), world.worker()
        ticket = await world.start(worker)
        seen: list[ScanStatus] = []
        watching = await world.follow(_collect(watcher.registry.watch(ticket.scan_id), seen))
        await world.until(_are(1, seen))
        claim = await world.hold(worker, ticket.scan_id)
        await world.until(_are(2, seen))
        await claim.strategy_finished("alpha", [{}])
        await world.until(_are(3, seen))
        await claim.strategy_finished("beta", [{}])
        await world.until(_are(4, seen))
        await claim.complete()
        await world.until(watching.done)
        await watching
        assert [s.progress.strategies_completed for s in seen] == [0, 0, 1, 2, 3]
        revisions = [s.revision for s in seen]
        assert revisions == sorted(set(revisions))
        assert seen[-1].state is ScanState.COMPLETE

    async def test_watch_yields_when_stalled_comes_and_goes(self, world: World) -> None:
        worker, watcher = world.worker(), world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        seen: list[ScanStatus] = []
        _ = await world.follow(_collect(watcher.registry.watch(ticket.scan_id), seen))
        await world.until(_are(1, seen))
        worker.store.freeze()
        await world.until(_are(2, seen))
        worker.store.thaw()
        await claim.heartbeat()
        await world.until(_are(3, seen))
        assert [s.stalled for s in seen[:3]] == [False, True, False]
        assert len({s.revision for s in seen}) == 1

    async def test_watch_of_a_finished_scan_yields_once(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        assert [s async for s in worker.registry.watch(status.scan_id)] == [status]

    async def test_watch_ends_with_the_read_s_error(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        with pytest.raises(ScanNotFound):
            await anext(worker.registry.watch(ticket.scan_id, owner="bob"))
        seen: list[ScanStatus] = []
        watching = await world.follow(_collect(worker.registry.watch(ticket.scan_id), seen))
        await world.until(_are(1, seen))
        await worker.registry.forget(ticket.scan_id)
        await world.until(watching.done)
        with pytest.raises(ScanNotFound):
            await watching
        assert len(seen) == 1


class OwnerCases(Cases):
    """for_owner, and G6."""

    async def test_for_owner_fills_in_the_owner_everywhere(self, world: World) -> None:
        worker = world.worker()
        mine = worker.registry.for_owner("ann")
        ticket = await mine.start(["alpha"], params={"a": 1})
        assert (await mine.start(["alpha"], params={"a": 1})).joined
        async with mine.claim(ticket.scan_id) as scan:
            assert await mine.has_active_scan()
            await scan.strategy_finished("alpha", [{"n": 1}])
        status = await mine.status(ticket.scan_id)
        assert status == await mine.latest() == await mine.wait(ticket.scan_id)
        assert list(await mine.history()) == [status]
        assert [s async for s in mine.watch(ticket.scan_id)] == [status]
        assert (await mine.results(ticket.scan_id)).opportunities == ({"n": 1},)
        assert await mine.cancel(ticket.scan_id) == status
        assert (await mine.explain(ticket.scan_id)).answer == "found"
        assert (await mine.extend(ticket.scan_id, 1000)).expires_at > status.expires_at
        await mine.forget(ticket.scan_id)
        with pytest.raises(ScanNotFound):
            await mine.status(ticket.scan_id)
        with pytest.raises(InvalidInput):
            worker.registry.for_owner("")

    async def test_g6_another_owner_s_scan_is_an_unknown_one(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker, "ann")
        before = await worker.registry.status(ticket.scan_id)
        unknown = ticket.scan_id[:-1] + ("0" if ticket.scan_id[-1] != "0" else "1")
        texts = []
        for scan_id in (ticket.scan_id, unknown):
            bob = worker.registry.for_owner("bob")
            for call in (
                bob.status(scan_id),
                bob.results(scan_id, partial=True),
                bob.cancel(scan_id),
                bob.extend(scan_id, 10),
                bob.wait(scan_id, timeout=0),
            ):
                with pytest.raises(ScanNotFound) as caught:
                    await call
                texts.append(str(caught.value).replace(scan_id, "ID"))
            await bob.forget(scan_id)
            trace = await bob.explain(scan_id)
            assert trace.answer == "unknown"
        assert len(set(texts)) == 1
        assert await worker.registry.status(ticket.scan_id, owner="ann") == before

    async def test_i11_an_owner_is_no_prefix(self, world: World) -> None:
        worker = world.worker()
        tickets = {o: await world.start(worker, o) for o in ("u", "u:1", "u1", "u*", "u/", "{u}")}
        for owner, ticket in tickets.items():
            assert [s.scan_id for s in await worker.registry.history(owner)] == [ticket.scan_id]
            for other in tickets:
                if other != owner:
                    with pytest.raises(ScanNotFound):
                        await worker.registry.status(ticket.scan_id, owner=other)

    async def test_g6_a_forged_tag_does_not_pass_for_the_owner(self, world: World) -> None:
        exact(world)
        worker = world.worker()
        ann = await world.start(worker, "ann")
        bob = await world.start(worker, "bob")
        forged = f"{bob.scan_id.partition('-')[0]}-{ann.scan_id.partition('-')[2]}"
        with pytest.raises(ScanNotFound):
            await worker.registry.status(forged, owner="bob")


def _are(count: int, seen: list[ScanStatus]) -> Callable[[], bool]:
    return lambda: len(seen) >= count


async def _collect(statuses: AsyncIterator[ScanStatus], seen: list[ScanStatus]) -> None:
    async for status in statuses:
        seen.append(status)  # noqa: PERF401 - what was seen before an error counts
