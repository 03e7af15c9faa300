"""Fixtures of the runner's tests: a rig of either face, and a check that nothing is left behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import cast

import pytest
from loky.backend import resource_tracker as loky_tracker  # type: ignore[import-untyped]

from tests.runner.leaks import Census, left_since
from tests.runner.rig import Face, Rig, rigs


@pytest.fixture(scope="session", autouse=True)
def trackers() -> None:
    """Start what the standard library and loky start once for a process, and never end."""
    resource_tracker.ensure_running()
    loky_tracker.ensure_running()


@pytest.fixture(scope="session", autouse=True)
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep temporary folders apart from those of whatever else runs on this machine."""
    before, tempfile.tempdir = tempfile.tempdir, str(tmp_path_factory.mktemp("t"))
    yield
    tempfile.tempdir = before


@pytest.fixture(autouse=True)
def nothing_left_behind(trackers: None, own_folder: None) -> Iterator[None]:
    """Fail a test after which a thread, a process or an open file is left."""
    before = Census.take()
    yield
    left = left_since(before)
    assert not left, f"left behind: {left}"


@pytest.fixture(params=["async", "blocking"])
def rig(request: pytest.FixtureRequest, nothing_left_behind: None) -> Iterator[Rig]:
    """Give a rig of either face."""
    yield from rigs(cast("Face", request.param))


@pytest.fixture
def async_rig(nothing_left_behind: None) -> Iterator[Rig]:
    """Give a rig of the async face, for what only it promises."""
    yield from rigs("async")


@pytest.fixture
def blocking_rig(nothing_left_behind: None) -> Iterator[Rig]:
    """Give a rig of the blocking face, for what only it promises."""
    yield from rigs("blocking")
