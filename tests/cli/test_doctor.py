"""``oppscan doctor``: what it says of each kind of store, and its exit status."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import oppscan.sync
from oppscan import MemoryBackend, opening
from oppscan.backends import mounts, sqlite_health
from oppscan.backends.base import StorageBackend
from oppscan.backends.health import Finding
from oppscan.backends.sqlite import SQLiteBackend
from oppscan.checkup import check_up
from oppscan.cli import doctor, main
from oppscan.ops import Request


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "scans.db"
    with oppscan.sync.connect(f"sqlite:///{path}") as registry:
        registry.start("ann", ["alpha"])
    yield path
    tmp_path.chmod(0o700)


def severities(path: Path) -> dict[str, str]:
    return {item.check: item.severity for item in check_up(f"sqlite:///{path}")}


def test_a_sound_file_has_nothing_to_mend(path: Path) -> None:
    found = severities(path)
    assert set(found) == {"file system", "folder", "disk", "file", "contents", "answer"}
    assert "mend" not in found.values()


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    assert severities(path)["file"] == "note"
    assert not path.exists()
    assert severities(tmp_path / "nowhere" / "new.db")["folder"] == "mend"


def test_another_programs_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE things (x)")
    connection.close()
    assert severities(path)["file"] == "mend"


def test_a_torn_file_is_found(path: Path) -> None:
    with oppscan.sync.connect(f"sqlite:///{path}") as registry:
        for number in range(200):
            registry.start(f"owner-{number}", ["alpha"], params={"x": "y" * 200})
    raw = bytearray(path.read_bytes())
    raw[8192 : len(raw) // 2] = b"\xff" * (len(raw) // 2 - 8192)
    path.write_bytes(raw)
    assert "mend" in severities(path).values()


def test_a_folder_that_cannot_be_written_is_found(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # whoever runs tests may be root
    assert severities(path)["folder"] == "mend"


def test_a_network_file_system_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_health, "network_file_system", lambda _: "nfs4")
    assert severities(path) == {"file system": "mend"}
    assert mounts.network_file_system(path) is None


def test_a_full_disk_and_a_slow_one_are_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    monkeypatch.setattr(sqlite_health, "SLOW", 0.0)
    found = severities(path)
    assert (found["disk"], found["answer"]) == ("mend", "note")


# --- The command --------------------------------------------------------------------------------


def test_nothing_to_mend_is_status_0(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", f"sqlite:///{path}"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "fine  file system  local"
    assert main(["doctor", "memory:"]) == 0


def test_something_to_mend_is_status_1_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", f"sqlite:///{tmp_path}/nowhere/new.db"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[1].startswith("mend  folder")
    assert told[2].strip() == "-> make it"


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "ftp:x", "memory:x"])
def test_no_look_is_status_2(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", url]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("oppscan doctor: ")
    assert len(told.err.splitlines()) == 1


@pytest.mark.parametrize("given", ["soon", "0", "nan", "1e9"])
def test_a_timeout_is_a_number_of_seconds(given: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["doctor", "memory:", "--timeout", given])
    assert main(["doctor", "memory:", "--timeout", "2.5"]) == 0


FOUND = (Finding("keys", "mend", "two [never] end", "delete them", "host:1"),)


def test_a_terminal_gets_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr("oppscan.checkup.check_up", lambda *_, **__: FOUND)
    assert main(["doctor", "memory:"]) == 1
    told = capsys.readouterr().out
    assert all(word in told for word in ("keys host:1", "two [never] end", "what to do", "mend"))
    assert "->" not in told


def test_a_terminal_without_rich_gets_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr("oppscan.checkup.check_up", lambda *_, **__: FOUND)
    assert main(["doctor", "memory:"]) == 1
    assert capsys.readouterr().out.splitlines() == doctor.lines(FOUND)


class _Plain(StorageBackend):
    """A store of one's own that cannot look at itself."""

    def __init__(self) -> None:
        self.inner = MemoryBackend()

    async def execute(self, request: Request[Any], namespace: str, timeout: float) -> Any:  # noqa: ANN401
        return await self.inner.execute(request, namespace, timeout)

    def execute_blocking(self, request: Request[Any], namespace: str, timeout: float) -> Any:  # noqa: ANN401
        return self.inner.execute_blocking(request, namespace, timeout)

    def close(self) -> None:
        self.inner.close()


def test_a_store_that_cannot_look_at_itself_is_asked_whether_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(opening._OPENERS, "memory", lambda *_: _Plain())  # noqa: SLF001
    (found,) = check_up("memory:")
    assert (found.check, found.severity) == ("answer", "fine")
    assert isinstance(SQLiteBackend("x.db"), StorageBackend)
