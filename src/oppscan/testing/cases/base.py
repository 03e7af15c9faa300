"""`Cases`: the fixtures that all contract cases share."""

# ruff: noqa: D102 - fixtures and test cases: their names are their statements

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import ClassVar

import pytest
import pytest_asyncio
from attrs import evolve

from oppscan.backends.base import StorageBackend, TransactionalBackend
from oppscan.testing.loss import Kind, lose
from oppscan.testing.world import FACES, Face, LoseKey, OpenStore, World


class Cases:
    """The base of all contract cases; ``open_store`` is what a store's author adds."""

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.asyncio]
    real_time: ClassVar[bool] = False
    unit: ClassVar[float] = 1.0

    @pytest.fixture
    def lose_key(self) -> LoseKey:
        def lose_row(backend: StorageBackend, namespace: str, kind: Kind, scan_id: str) -> None:
            assert isinstance(backend, TransactionalBackend), "override the fixture lose_key"  # noqa: S101
            lose(backend, namespace, kind, scan_id)

        return lose_row

    @pytest.fixture(params=FACES)
    def face(self, request: pytest.FixtureRequest) -> Face:
        face: Face = request.param
        return face

    @pytest_asyncio.fixture
    async def world(
        self, face: Face, open_store: OpenStore, lose_key: LoseKey
    ) -> AsyncGenerator[World]:
        world = World(face, open_store, lose_key=lose_key, real_time=self.real_time, unit=self.unit)
        yield world
        await world.aclose()


def exact(world: World) -> None:
    """Leave out a case that needs to stand on a millisecond where time is real."""
    if not world.exact:
        pytest.skip("needs a clock that stands still; the store's own does not")


async def seen_of(world: World, scan_id: str) -> object:
    """Give what readers see of a scan that nobody should be writing.

    Where time is real, whether it reads as stalled is left out: that changes by itself.
    """
    registry = world.registry()
    status = await registry.status(scan_id)
    results = await registry.results(scan_id, partial=True)
    steady = status if world.exact else evolve(status, stalled=False)
    return steady, results.opportunities


Call = Callable[[], Awaitable[object]]


def calls(*given: Call) -> tuple[Call, ...]:
    """Give calls that a case makes one after the other."""
    return given
