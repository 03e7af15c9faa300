"""Where time passes by itself: cases that follow or leave a scan hold there too."""

from __future__ import annotations

from typing import ClassVar

import pytest

from oppscan import MemoryBackend
from oppscan.testing import ManualClock
from oppscan.testing.cases.base import exact
from oppscan.testing.cases.following import FollowingCases
from oppscan.testing.cases.leaving import LeavingCases
from oppscan.testing.world import OpenStore, World


class TestRealTime(FollowingCases, LeavingCases):
    real_time: ClassVar[bool] = True
    unit: ClassVar[float] = 0.1

    @pytest.fixture
    def open_store(self) -> OpenStore:
        stores: dict[str, MemoryBackend] = {}

        def open_store(_clock: ManualClock, name: str) -> MemoryBackend:
            return stores.setdefault(name, MemoryBackend())

        return open_store

    async def test_cases_that_stand_on_a_millisecond_are_left_out(self, world: World) -> None:
        with pytest.raises(pytest.skip.Exception, match="needs a clock that stands still"):
            exact(world)
