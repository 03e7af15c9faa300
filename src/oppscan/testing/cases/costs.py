"""Round trips, what is written, and what happens to bytes that make no sense (G12, G14)."""

# ruff: noqa: D102, PLR2004, S101 - cases, not code

from __future__ import annotations

import pytest

from oppscan import (
    CorruptRecord,
    ScanState,
)
from oppscan.backends.base import StorageBackend
from oppscan.ops import Apply, Erase, Resolve, Save
from oppscan.testing.cases.base import Cases
from oppscan.testing.faults import Fault
from oppscan.testing.world import World, outcome_of

_FAR = 10**13  # an instant beyond every clock of a test


class CostCases(Cases):
    """Round trips, and what is written."""

    async def test_round_trips_of_each_operation(self, world: World) -> None:
        worker = world.worker()
        registry = worker.registry
        costs = {}

        async def cost(name: str, call: object) -> object:
            worker.store.reset()
            answer = await call  # type: ignore[misc]
            costs[name] = worker.store.total
            return answer

        ticket = await world.start(worker)
        await cost("start", world.start(worker, key="k"))
        await cost("join", world.start(worker))
        claim = await cost("claim", world.hold(worker, ticket.scan_id))
        await cost("started", claim.strategy_started("alpha"))  # type: ignore[attr-defined]
        await cost("finished", claim.strategy_finished("alpha", [{}]))  # type: ignore[attr-defined]
        await cost("heartbeat", claim.heartbeat())  # type: ignore[attr-defined]
        await cost("status", registry.status(ticket.scan_id))
        await cost("partial", registry.results(ticket.scan_id, partial=True))
        await cost("latest", registry.latest("ann"))
        await cost("active", registry.has_active_scan("ann"))
        await cost("history", registry.history("ann"))
        await cost("complete", claim.complete())  # type: ignore[attr-defined]
        await cost("results", registry.results(ticket.scan_id))
        await cost("extend", registry.extend(ticket.scan_id, 1000 * world.unit))
        await cost("ping", registry.ping())
        await cost("stalled", registry.stalled())
        two = {"join", "claim", "extend"}
        assert costs == {name: 2 if name in two else 1 for name in costs}

    async def test_a_burst_of_writes_shares_round_trips(self, world: World) -> None:
        worker = world.worker()
        names = [f"s{n}" for n in range(20)]
        ticket = await world.start(worker, strategies=names)
        claim = await world.hold(worker, ticket.scan_id)
        worker.store.reset()
        worker.store.plan(Fault.SLOW)
        await world.together(*(_finisher(claim, name) for name in names))
        assert worker.store.counts["Apply"] <= 3
        status = await worker.registry.status(ticket.scan_id)
        assert status.progress.strategies_completed == 20

    async def test_each_write_of_a_burst_gets_its_own_verdict(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        worker.store.plan(Fault.SLOW)
        names = ["alpha", "beta", "alpha", "gamma", "beta"]
        verdicts = await world.together(*(_trier(claim, name) for name in names))
        assert sorted(verdicts, key=str).count(None) == 3
        results = await worker.registry.results(ticket.scan_id, partial=True)
        assert len(results.opportunities) == 3

    async def test_opportunities_are_written_once(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        big = [{"x": "y" * 10_000}]
        await claim.strategy_finished("alpha", big)
        worker.store.reset()
        await claim.heartbeat()
        await claim.strategy_finished("beta", [])
        await claim.complete()
        assert all(_written(request) < 5_000 for request in worker.store.requests)

    async def test_g12_every_write_names_how_long_it_is_kept(self, world: World) -> None:
        worker = world.worker()
        await world.finished(worker)
        for request in worker.store.requests:
            for change in request.changes if isinstance(request, Apply) else ():
                assert isinstance(change, Erase) or change.keep > 0

    async def test_a_poll_moves_no_results(self, world: World) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        worker.store.reset()
        await worker.registry.status(status.scan_id)
        (request,) = worker.store.requests
        assert isinstance(request, Resolve)
        assert "data" not in request.parts


class CorruptCases(Cases):
    """G14: what is stored is data, never code."""

    @pytest.mark.parametrize(
        "body", [b"", b"\xc1", b"junk", b"\x80\x04K\x01.", b"\xdc\xff\xff", b"\x91\x01"], ids=repr
    )
    async def test_g14_bytes_that_make_no_sense_are_corrupt(
        self, world: World, body: bytes
    ) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        await _overwrite(world, worker.store, ticket.scan_id, body)
        for call in (
            worker.registry.status(ticket.scan_id),
            worker.registry.results(ticket.scan_id),
            worker.registry.cancel(ticket.scan_id),
            world.hold(worker, ticket.scan_id),
        ):
            assert await outcome_of(call) is CorruptRecord

    async def test_g14_a_newer_record_is_refused_by_name(self, world: World) -> None:
        import msgspec

        worker = world.worker()
        ticket = await world.start(worker)
        (start,) = [r for r in worker.store.requests if isinstance(r, Apply)]
        (put,) = [c for c in start.changes if isinstance(c, Save)]
        fields = msgspec.msgpack.decode(put.body)
        newer = msgspec.msgpack.encode([99, *fields[1:]])
        await _overwrite(world, worker.store, ticket.scan_id, newer)
        with pytest.raises(CorruptRecord, match="newer"):
            await worker.registry.status(ticket.scan_id)

    async def test_g14_what_a_later_version_appended_is_read_past(self, world: World) -> None:
        import msgspec

        worker = world.worker()
        ticket = await world.start(worker)
        (start,) = [r for r in worker.store.requests if isinstance(r, Apply)]
        (put,) = [c for c in start.changes if isinstance(c, Save)]
        fields = msgspec.msgpack.decode(put.body)
        await _overwrite(
            world, worker.store, ticket.scan_id, msgspec.msgpack.encode([*fields, "later"])
        )
        assert (await worker.registry.status(ticket.scan_id)).state is ScanState.PENDING


async def _overwrite(world: World, store: StorageBackend, scan_id: str, body: bytes) -> None:
    put = Save(scan_id, "0" * 16, body, 200_000, None, (_FAR,))
    await world.request(store, Apply((), (put,)))


def _finisher(claim: object, name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    return lambda: claim.strategy_finished(name, [{"of": name}])  # type: ignore[attr-defined]


def _trier(claim: object, name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    return lambda: outcome_of(claim.strategy_finished(name, [{}]))  # type: ignore[attr-defined]


def _written(request: object) -> int:
    changes = request.changes if isinstance(request, Apply) else ()
    saves = [change for change in changes if isinstance(change, Save)]
    return sum(len(frame) for save in saves for frame in (*save.events, *save.data))
