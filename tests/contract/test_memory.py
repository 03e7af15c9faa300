"""The memory store keeps the contract, through both faces."""

from __future__ import annotations

import pytest

from oppscan import MemoryBackend
from oppscan.testing import ManualClock
from oppscan.testing.contract import StoreContract
from oppscan.testing.world import OpenStore


class TestMemory(StoreContract):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        stores: dict[str, MemoryBackend] = {}

        def open_store(clock: ManualClock, name: str) -> MemoryBackend:
            return stores.setdefault(name, MemoryBackend(clock))

        return open_store
