"""A claim as an object: entered once, given time once, and what it hands out is the caller's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

import oppscan
import oppscan.sync
from oppscan import InvalidInput, MemoryBackend, ScanAlreadyClaimed, StorageUnavailable
from oppscan.backends.base import StorageBackend
from oppscan.clock import delay_blocking, elapsed
from oppscan.ops import Apply
from oppscan.testing import Fault, FaultyStore, lose
from oppscan.testing.faces import awaitable
from oppscan.testing.world import FACES, Face

TIMEOUT = 0.6


def registry_on(store: StorageBackend, face: Face) -> oppscan.ScanRegistry:
    if face == "async":
        return oppscan.ScanRegistry(store, op_timeout=TIMEOUT)
    return awaitable(oppscan.sync.ScanRegistry(store, op_timeout=TIMEOUT), None)


@pytest.mark.asyncio
async def test_a_report_that_waits_its_turn_gets_no_more_time_than_others() -> None:
    store = FaultyStore(MemoryBackend())
    registry = oppscan.ScanRegistry(store, op_timeout=TIMEOUT)
    ticket = await registry.start("ann", ["alpha"])
    claim = registry.claim(ticket.scan_id)
    await claim.__aenter__()
    store.always(Fault.HANG, on=Apply)
    first = asyncio.create_task(claim.heartbeat())
    await asyncio.sleep(TIMEOUT / 6)
    began = elapsed()
    with pytest.raises(StorageUnavailable):
        await claim.strategy_finished("alpha", [])
    assert elapsed() - began < TIMEOUT * 1.5
    await asyncio.gather(first, return_exceptions=True)
    store.clear()
    await claim.__aexit__(None, None, None)


def test_a_report_that_waits_its_turn_gets_no_more_time_than_others_blocking() -> None:
    store = FaultyStore(MemoryBackend())
    registry = oppscan.sync.ScanRegistry(store, op_timeout=TIMEOUT)
    ticket = registry.start("ann", ["alpha"])
    with registry.claim(ticket.scan_id) as claim:
        store.always(Fault.HANG, on=Apply)
        first = threading.Thread(target=lambda: _unavailable(claim.heartbeat))
        first.start()
        delay_blocking(TIMEOUT / 6)
        began = elapsed()
        _unavailable(lambda: claim.strategy_finished("alpha", []))
        assert elapsed() - began < TIMEOUT * 1.5
        first.join()
        store.clear()


def _unavailable(call: Callable[[], None]) -> None:
    with pytest.raises(StorageUnavailable):
        call()


@pytest.mark.asyncio
@pytest.mark.parametrize("face", FACES)
async def test_a_claim_that_was_refused_can_be_tried_again_and_is_entered_once(face: Face) -> None:
    registry = registry_on(MemoryBackend(), face)
    ticket = await registry.start("ann", ["alpha"])
    again = registry.claim(ticket.scan_id)
    async with registry.claim(ticket.scan_id) as held:
        with pytest.raises(ScanAlreadyClaimed):
            await again.__aenter__()
        await held.release()
    async with again:
        with pytest.raises(InvalidInput, match="was entered before"):
            await again.__aenter__()
    with pytest.raises(InvalidInput, match="was entered before"):
        await again.__aenter__()


@pytest.mark.asyncio
@pytest.mark.parametrize("face", FACES)
async def test_what_a_holder_does_to_its_params_is_stored_nowhere(face: Face) -> None:
    backend = MemoryBackend()
    registry = registry_on(backend, face)
    ticket = await registry.start("ann", ["alpha"], params={"p": [1]}, metadata={"m": {}})
    async with registry.claim(ticket.scan_id) as claim:
        claim.params["p"].append(2)  # type: ignore[attr-defined]
        claim.metadata["m"] = 3
        assert claim.params == {"p": [1, 2]}
    for lost in (False, True):
        if lost:
            lose(backend, "oppscan", "spec", ticket.scan_id)
        status = await registry.status(ticket.scan_id)
        assert (status.params, status.metadata) == ({"p": [1]}, {"m": {}})
