"""One row of a log gone from a store of rows: never a silent part of the results (G4)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from oppscan import MemoryBackend, ScanLost
from oppscan.backends.base import TransactionalBackend
from oppscan.backends.sqlite import SQLiteBackend
from oppscan.sync import ScanRegistry


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TransactionalBackend]:
    store = MemoryBackend() if request.param == "memory" else SQLiteBackend(tmp_path / "a.db")
    yield store
    store.close()


@pytest.mark.parametrize("frame", [0, 1])
@pytest.mark.parametrize("part", ["events", "data"])
def test_g4_a_lost_row_of_a_log_is_noticed(
    store: TransactionalBackend, part: str, frame: int
) -> None:
    registry = ScanRegistry(store)
    ticket = registry.start("ann", ["a", "b", "c"])
    with registry.claim(ticket.scan_id) as scan:
        scan.strategy_finished("a", [{"n": 1}])
        scan.strategy_finished("b", [{"n": 2}])
        with store.transaction(1.0, write=True) as tx:
            tx.delete(f"oppscan/f/{ticket.scan_id}/{part}/{frame:08d}")
        with pytest.raises(ScanLost):
            registry.results(ticket.scan_id, partial=True)
        if part == "events":
            with pytest.raises(ScanLost):
                registry.status(ticket.scan_id)
        scan.release()
