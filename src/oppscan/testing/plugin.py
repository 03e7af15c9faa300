"""pytest fixtures for hosts: a registry that needs no store, on a clock that the test moves.

Not loaded by itself. In the host's ``conftest.py``::

    pytest_plugins = ["oppscan.testing.plugin"]
"""

from __future__ import annotations

import pytest

import oppscan
import oppscan.sync
from oppscan.testing.clock import ManualClock
from oppscan.testing.ids import SequentialIds


@pytest.fixture
def oppscan_clock() -> ManualClock:
    """Give a clock that stands still until ``advance`` or ``jump``."""
    return ManualClock()


@pytest.fixture
def oppscan_store(oppscan_clock: ManualClock) -> oppscan.MemoryBackend:
    """Give an empty store in memory, on the manual clock."""
    return oppscan.MemoryBackend(oppscan_clock)


@pytest.fixture
def oppscan_registry(oppscan_store: oppscan.MemoryBackend) -> oppscan.ScanRegistry:
    """Give an async registry on the store in memory, with ids that count."""
    return oppscan.ScanRegistry(oppscan_store, ids=SequentialIds(1))


@pytest.fixture
def oppscan_sync_registry(oppscan_store: oppscan.MemoryBackend) -> oppscan.sync.ScanRegistry:
    """Give a blocking registry on the same store."""
    return oppscan.sync.ScanRegistry(oppscan_store, ids=SequentialIds(2))
