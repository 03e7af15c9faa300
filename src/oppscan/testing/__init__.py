"""Tools for testing hosts of oppscan, and stores for it.

- `ManualClock`: time that passes when a test says so; `SequentialIds`: ids that can be read.
- `FaultyStore` and `Fault`: replies lost, stores down, full or silent; requests counted.
- `lose`: one stored key taken away.
- ``oppscan.testing.contract``: the suite that every store must pass (needs pytest and
  pytest-asyncio). ``oppscan.testing.plugin``: fixtures for hosts.
"""

from __future__ import annotations

from oppscan.testing.clock import ManualClock
from oppscan.testing.faults import Fault, FaultyStore
from oppscan.testing.ids import SequentialIds
from oppscan.testing.loss import KINDS, Kind, lose

__all__ = ["KINDS", "Fault", "FaultyStore", "Kind", "ManualClock", "SequentialIds", "lose"]
