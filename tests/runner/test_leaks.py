"""The checks for things left behind see what is left behind."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.runner.leaks import Census, left_since
from tests.runner.rig import census_of_loop


def test_a_thread_left_behind_is_named() -> None:
    before, gate = Census.take(), threading.Event()
    thread = threading.Thread(target=gate.wait, name="left by a test")
    thread.start()
    assert "left by a test" in left_since(before, patience=0.05)
    gate.set()
    thread.join()
    assert not left_since(before)


def test_a_process_left_behind_is_named() -> None:
    before = Census.take()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert str(process.pid) in left_since(before, patience=0.05)
    process.communicate(b"\n")
    assert not left_since(before)


def test_a_file_and_a_folder_left_behind_are_named(tmp_path: Path) -> None:
    before = Census.take()
    folder = tempfile.mkdtemp(prefix="oppscan-")
    with (tmp_path / "left open").open("w"):
        left = left_since(before, patience=0.05)
    assert "left open" in left
    assert folder in left
    shutil.rmtree(folder)
    assert not left_since(before)


def test_a_task_and_a_timer_left_behind_are_named() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(60, print)
        task = asyncio.create_task(forever(), name="left by a test")
        await asyncio.sleep(0)
        left = census_of_loop(loop)
        timer.cancel()
        task.cancel()
        await asyncio.wait([task])
        assert any("left by a test" in item for item in left)
        assert any("TimerHandle" in item for item in left)

    asyncio.run(main())
