"""The SQLite store: whose file it opens, and what it says when the file will not do."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import oppscan.sync
from oppscan import (
    CorruptRecord,
    ScanRegistry,
    StorageError,
    StorageFull,
    StorageMisconfigured,
    StorageUnavailable,
)
from oppscan.backends import sqlite as room
from oppscan.backends.sqlite import SCHEMA_VERSION, SQLiteBackend
from oppscan.clock import elapsed
from oppscan.ops import Purge, Resolve, SelectDue
from oppscan.sync import ScanRegistry as BlockingRegistry
from oppscan.testing import ManualClock


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "scans.db"


@pytest.fixture
def registry(file: Path) -> Iterator[BlockingRegistry]:
    with BlockingRegistry(SQLiteBackend(file), op_timeout=1.0) as opened:
        yield opened


def _refusal(path: Path, kind: type[StorageError], says: str) -> None:
    registry = BlockingRegistry(SQLiteBackend(path), op_timeout=0.3)
    with pytest.raises(kind, match=says):
        registry.start("ann", ["alpha"])
    registry.close()


def test_a_missing_file_is_made(file: Path, registry: BlockingRegistry) -> None:
    assert not file.exists()
    ticket = registry.start("ann", ["alpha"])
    assert registry.status(ticket.scan_id) == ticket.status
    assert file.exists()
    assert repr(registry) == f"ScanRegistry(SQLiteBackend({str(file)!r}))"


def test_a_folder_that_is_not_there_is_a_wrong_setting(tmp_path: Path) -> None:
    _refusal(tmp_path / "missing" / "scans.db", StorageMisconfigured, "unable to open")
    assert not (tmp_path / "missing").exists()
    (tmp_path / "folder").mkdir()
    _refusal(tmp_path / "folder", StorageMisconfigured, "unable to open")


def test_another_programs_file_is_refused_and_left_as_it_is(file: Path) -> None:
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = file.read_bytes()
    _refusal(file, StorageMisconfigured, "another program's database")
    assert file.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(file: Path) -> None:
    file.write_bytes(b"no database at all" * 100)
    _refusal(file, StorageMisconfigured, "not a database")


def test_a_newer_schema_is_refused_by_name(file: Path, registry: BlockingRegistry) -> None:
    registry.start("ann", ["alpha"])
    registry.close()
    with sqlite3.connect(file) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    newer.close()
    _refusal(file, StorageMisconfigured, "has schema 2, this oppscan knows up to 1")


def test_a_network_file_system_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "network_file_system", lambda _: "nfs4")
    _refusal(file, StorageMisconfigured, r"on a network file system \(nfs4\)")
    assert not file.exists()


def test_a_store_that_was_closed_opens_again(registry: BlockingRegistry) -> None:
    ticket = registry.start("ann", ["alpha"])
    registry.close()
    registry.close()
    assert registry.status(ticket.scan_id).state == "pending"


def _backend(registry: BlockingRegistry) -> SQLiteBackend:
    backend = registry._stores.backends[0]  # noqa: SLF001 - to have the disk full
    assert isinstance(backend, SQLiteBackend)
    return backend


def _connection(registry: BlockingRegistry) -> sqlite3.Connection:
    connection = _backend(registry)._place.connection  # noqa: SLF001
    assert connection is not None
    return connection


def test_a_full_disk_is_named_and_tears_nothing(registry: BlockingRegistry) -> None:
    ticket = registry.start("ann", ["alpha"])
    connection = _connection(registry)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(StorageFull, match="full"):  # noqa: PT012
        for number in range(50):
            registry.start("bob", ["alpha"], params={"n": number, "x": "y" * 2000})
    assert registry.status(ticket.scan_id).state == "pending"
    connection.execute("PRAGMA max_page_count = 1000000")
    assert registry.start("cid", ["alpha"]).must_run


@pytest.mark.parametrize("opened", [False, True])
def test_i6_a_locked_file_is_unavailable_within_op_timeout(
    file: Path, registry: BlockingRegistry, opened: bool
) -> None:
    registry.start("ann", ["alpha"])
    if not opened:
        registry.close()
    waiting = BlockingRegistry(_backend(registry), op_timeout=0.3)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = elapsed()
    with pytest.raises(StorageUnavailable, match="locked"):
        waiting.start("bob", ["alpha"])
    assert elapsed() - began < 1.0
    other.execute("ROLLBACK")
    other.close()
    assert waiting.start("bob", ["alpha"]).must_run


def test_reading_goes_on_while_another_writes(file: Path, registry: BlockingRegistry) -> None:
    ticket = registry.start("ann", ["alpha"])
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert registry.status(ticket.scan_id) == ticket.status
    other.execute("ROLLBACK")
    other.close()


def test_a_store_held_by_another_thread_is_unavailable_in_time(file: Path) -> None:
    backend = SQLiteBackend(file)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with backend.transaction(1, write=True):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    with pytest.raises(StorageUnavailable, match=r"held by other threads for 0\.05 s"):
        backend.execute_blocking(Purge(), "n", 0.05)
    leave.set()
    thread.join()
    backend.close()


def test_a_switch_to_wal_waits_for_its_turn(file: Path) -> None:
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA journal_mode = DELETE")
    backend = SQLiteBackend(file)

    class Busy:
        """A connection on which the first switch meets another one."""

        tries = 0

        def execute(self, statement: str) -> sqlite3.Cursor:
            self.tries += 1
            if self.tries < 3:
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise error
            return other.execute(statement)

    connection: sqlite3.Connection = Busy()  # type: ignore[assignment]
    backend._use_wal(connection, elapsed() + 5)  # noqa: SLF001 - a race that tests cannot time
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with pytest.raises(sqlite3.OperationalError):
        backend._use_wal(Busy(), elapsed())  # type: ignore[arg-type]  # noqa: SLF001
    other.close()


def test_a_file_without_wal_is_a_wrong_setting(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(sqlite3.Connection):
        def execute(self, statement: str, values: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401
            plain = statement.replace("journal_mode = WAL", "journal_mode = DELETE")
            return super().execute(plain, values)

    connect = partial(sqlite3.connect, factory=Plain)
    monkeypatch.setattr("oppscan.backends.sqlite.sqlite3.connect", connect)
    _refusal(file, StorageMisconfigured, "cannot use a write-ahead log")


def test_a_row_that_makes_no_sense_is_corrupt(registry: BlockingRegistry) -> None:
    ticket = registry.start("ann", ["alpha"])
    connection = _connection(registry)
    connection.execute("UPDATE rows SET value = x'c1'")
    with pytest.raises(CorruptRecord, match="a stored row makes no sense"):
        registry.status(ticket.scan_id)


def test_a_damaged_file_is_corrupt(file: Path, registry: BlockingRegistry) -> None:
    for number in range(40):
        registry.start("ann", ["alpha"], params={"n": number, "x": "y" * 500})
    registry.close()
    bytes_ = bytearray(file.read_bytes())
    bytes_[4096:] = b"\xff" * (len(bytes_) - 4096)
    file.write_bytes(bytes(bytes_))
    with pytest.raises(CorruptRecord, match="malformed"):
        registry.start("ann", ["alpha"])
    registry.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_g11_a_forked_child_works_on_a_connection_of_its_own(registry: BlockingRegistry) -> None:
    ticket = registry.start("ann", ["alpha"])
    parents = _connection(registry)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            mine = registry.start("bob", ["alpha"])
            assert registry.status(ticket.scan_id) == ticket.status
            assert registry.status(mine.scan_id) == mine.status
            assert _connection(registry) is not parents
            registry.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert registry.latest("bob").state == "pending"
    assert registry.start("cid", ["alpha"]).must_run
    assert _connection(registry) is not parents, "none was open while forking"


@pytest.mark.asyncio
async def test_the_async_face_runs_off_the_loop_and_closes(file: Path) -> None:
    async with ScanRegistry(SQLiteBackend(file)) as registry:
        ticket = await registry.start("ann", ["alpha"])
        assert await registry.status(ticket.scan_id) == ticket.status
    assert await registry.status(ticket.scan_id) == ticket.status
    await registry.aclose()


def test_connect_opens_a_file_by_its_url(file: Path) -> None:
    with oppscan.sync.connect(f"sqlite:///{file}") as registry:
        ticket = registry.start("ann", ["alpha"])
    with oppscan.sync.connect(f"sqlite:///{file}") as registry:
        assert registry.status(ticket.scan_id).owner == "ann"


def test_g12_sweeping_asks_the_index_of_what_is_overdue(
    file: Path, registry: BlockingRegistry
) -> None:
    registry.start("ann", ["alpha"])
    said: list[str] = []
    connection = _connection(registry)
    connection.set_trace_callback(said.append)
    registry.purge()
    connection.set_trace_callback(None)
    (overdue,) = [statement for statement in said if "until <=" in statement]
    plan = connection.execute(f"EXPLAIN QUERY PLAN {overdue}").fetchall()
    assert "rows_until" in str(plan), "a scan of all rows, every 64 writes"


@pytest.mark.parametrize("limit", [2**63, 2**200])
def test_a_limit_beyond_64_bits_lists_everything(registry: BlockingRegistry, limit: int) -> None:
    ticket = registry.start("ann", ["alpha"])
    assert registry.stalled(limit) == []
    assert [s.scan_id for s in registry.history("ann", limit=limit)] == [ticket.scan_id]


def test_a_clock_may_be_given(file: Path) -> None:
    clock = ManualClock()
    backend = SQLiteBackend(file, clock=clock)
    reply = backend.execute_blocking(Resolve("x", "t"), "n", 1)
    assert reply.now == clock.now()
    assert backend.execute_blocking(SelectDue(1), "n", 1).sightings == ()
    backend.close()
