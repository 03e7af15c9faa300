"""The SQLite store keeps the contract, through both faces."""

from __future__ import annotations

from pathlib import Path

import pytest

from oppscan.backends.sqlite import SQLiteBackend
from oppscan.testing import ManualClock
from oppscan.testing.contract import StoreContract
from oppscan.testing.world import OpenStore


class TestSQLite(StoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        def open_store(clock: ManualClock, name: str) -> SQLiteBackend:
            return SQLiteBackend(tmp_path / f"{name}.db", clock=clock)

        return open_store
