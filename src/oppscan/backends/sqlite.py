"""`SQLiteBackend`: scans in one file, shared by the processes of one host.

Laws (each was measured to lose or tear data when broken)
- Every write runs in ``BEGIN IMMEDIATE``; a deferred one fails at once when two meet.
- WAL, so that polls are never held up by a writer of another process.
- No connection is open while this process forks. SQLite keeps the locks of a process in its
  memory, so a child that inherits an open one believes that it holds them: when the parent
  closes, it deletes the log that the child writes to.
- Nobody else opens the file in this process: closing a second handle drops SQLite's locks.
- Network file systems are refused: their locks do not hold.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from oppscan.backends.base import TransactionalBackend
from oppscan.backends.health import Finding
from oppscan.backends.mounts import network_file_system
from oppscan.backends.rows import FOREVER, Row, Value
from oppscan.clock import Clock, SystemClock, delay_blocking, elapsed
from oppscan.errors import (
    CorruptRecord,
    StorageError,
    StorageFull,
    StorageMisconfigured,
    StorageUnavailable,
)
from oppscan.forks import PATIENCE, watch_forks

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x6F707073  # "opps": marks the file as ours

_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS rows (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rows_until ON rows (until) WHERE until < {FOREVER};
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

_WAL_RETRY: Final = 0.01
_MOST_ROWS: Final = 2**31  # of one listing; SQLite knows no larger integers than 2**63

_VALUE: Final = msgspec.msgpack.Decoder(tuple)

# SQLite's primary result codes (https://sqlite.org/rescode.html) and what they mean to a caller.
_FAULTS: Final[dict[int, type[StorageError]]] = {
    sqlite3.SQLITE_BUSY: StorageUnavailable,
    sqlite3.SQLITE_LOCKED: StorageUnavailable,
    sqlite3.SQLITE_IOERR: StorageUnavailable,
    sqlite3.SQLITE_PROTOCOL: StorageUnavailable,
    sqlite3.SQLITE_FULL: StorageFull,
    sqlite3.SQLITE_READONLY: StorageMisconfigured,
    sqlite3.SQLITE_CANTOPEN: StorageMisconfigured,
    sqlite3.SQLITE_PERM: StorageMisconfigured,
    sqlite3.SQLITE_AUTH: StorageMisconfigured,
    sqlite3.SQLITE_NOTADB: StorageMisconfigured,
}


class SQLiteBackend(TransactionalBackend):
    """A store in one SQLite file, for any number of processes and threads of one host.

    ``path``: the file, created when missing; its folder must be there. ``clock``: the store's
    time; by default the host's, which all its processes share.

    Raises, on first use: `StorageMisconfigured` for a network file system, a file that is not
    ours or of a newer schema, or missing rights; `StorageUnavailable` when the file stays
    locked; `StorageFull` when the disk is full.

    A store made before a fork works on both sides of it.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock | None = None) -> None:
        super().__init__()
        self.path: Path = Path(path).absolute()
        self.clock: Clock = clock or SystemClock()
        self._place = _Place()
        cls = SQLiteBackend
        watch_forks(self, cls._begin_in_child, before=cls._rest, in_parent=cls._go_on)

    def __repr__(self) -> str:
        """Name the store."""
        return f"SQLiteBackend({str(self.path)!r})"

    @contextmanager
    def transaction(self, timeout: float, *, write: bool) -> Generator[_View]:
        """Hold this process's only connection, inside a transaction."""
        place = self._place
        deadline = elapsed() + timeout
        if not place.lock.acquire(timeout=timeout):
            msg = f"{self.path} was held by other threads for {timeout:g} s"
            raise StorageUnavailable(msg)
        try:
            with self._faults():
                connection = self._open(place, deadline)
                left = max(1, round((deadline - elapsed()) * 1000))
                try:
                    connection.execute(f"PRAGMA busy_timeout = {left}")
                    connection.execute("BEGIN IMMEDIATE" if write else "BEGIN DEFERRED")
                    if not write:
                        connection.execute("SELECT 1 FROM rows LIMIT 1")  # the snapshot is of now
                    yield _View(connection, self.clock.now())
                    connection.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        connection.rollback()  # nothing where none is open
                    raise
        finally:
            place.lock.release()

    def examine(self, namespace: str, timeout: float) -> tuple[Finding, ...]:
        """Look at the file, blocking; a missing one is not made."""
        from oppscan.backends.sqlite_health import examine_file  # for the doctor alone

        del namespace
        return tuple(examine_file(self.path, lambda: self.transaction(timeout, write=True)))

    def close(self) -> None:
        """Close this process's connection; a later request opens it anew."""
        super().close()
        place = self._place
        with place.lock:
            place.close()

    def _rest(self) -> None:
        """Close the connection, once it is at rest, and let nobody open it until the fork is over.

        Where a transaction does not end, the fork goes on without; the child refuses the file.
        """
        place = self._place
        place.resting = place.lock.acquire(timeout=PATIENCE)
        if place.resting:
            place.close()

    def _go_on(self) -> None:
        """Let the next request open the connection again."""
        if self._place.resting:
            self._place.resting = False
            self._place.lock.release()

    def _begin_in_child(self) -> None:
        """Start afresh; what the parent left open is kept, for closing it would touch the file."""
        self._place = _Place(self._place.connection or self._place.inherited)

    def _open(self, place: _Place, deadline: float) -> sqlite3.Connection:
        if place.connection is not None:
            return place.connection
        if place.inherited is not None:
            msg = (
                f"{self.path} was in use when this process was forked, and cannot be used here: "
                "close the registry before the fork, or make it afterwards"
            )
            raise StorageMisconfigured(msg)
        kind = network_file_system(self.path)
        if kind is not None:
            msg = f"{self.path} is on a network file system ({kind}), whose locks do not hold"
            raise StorageMisconfigured(msg)
        left = max(0.001, deadline - elapsed())
        connection = sqlite3.connect(
            self.path, timeout=left, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
            self._use_wal(connection, deadline)
        except BaseException:
            connection.close()
            raise
        place.connection = connection
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Bring the file to our schema, or refuse it; one that is there already is only read."""
        if _marks(connection) == (SCHEMA_VERSION, APPLICATION_ID):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._refuse_foreign(connection)
            for statement in _SCHEMA.split(";"):  # for the second of two at once, nothing new
                connection.execute(statement)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.rollback()
            raise

    def _refuse_foreign(self, connection: sqlite3.Connection) -> None:
        """Refuse a file that is not ours, or newer than we know."""
        version, ours = _marks(connection)
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and ours != APPLICATION_ID:
            msg = f"{self.path} is another program's database; give oppscan a file of its own"
            raise StorageMisconfigured(msg)
        if version > SCHEMA_VERSION:
            msg = (
                f"{self.path} has schema {version}, this oppscan knows up to {SCHEMA_VERSION}; "
                "upgrade oppscan, or give it another file"
            )
            raise StorageMisconfigured(msg)

    def _use_wal(self, connection: sqlite3.Connection, deadline: float) -> None:
        """Switch to the write-ahead log; SQLite does not wait for its turn here, so we do."""
        mode = None
        while mode is None:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or elapsed() >= deadline:
                    raise
                delay_blocking(_WAL_RETRY)
        if mode != "wal":
            msg = f"{self.path} cannot use a write-ahead log (journal mode is {mode})"
            raise StorageMisconfigured(msg)
        connection.execute("PRAGMA synchronous = NORMAL")

    @contextmanager
    def _faults(self) -> Generator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            msg = f"{self.path}: {error}"
            if code == sqlite3.SQLITE_CORRUPT:
                raise CorruptRecord(msg) from error
            raise _FAULTS.get(code, StorageUnavailable)(msg) from error


def _marks(connection: sqlite3.Connection) -> tuple[int, int]:
    """Give a file's schema version, and whose it is."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (ours,) = connection.execute("PRAGMA application_id").fetchone()
    return version, ours


class _Place:
    """One process's connection, and the lock of those who use it."""

    def __init__(self, inherited: sqlite3.Connection | None = None) -> None:
        self.lock = threading.Lock()
        self.connection: sqlite3.Connection | None = None
        self.inherited = inherited  # open when this process was forked; of no use here
        self.resting = False  # whether a fork is under way that holds the lock

    def close(self) -> None:
        if self.connection is not None:
            with suppress(sqlite3.Error):
                self.connection.close()
            self.connection = None


class _View:
    """The file inside one transaction, at one instant."""

    __slots__ = ("connection", "now")

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        self.connection = connection
        self.now = now

    def get(self, key: str) -> Row | None:
        found = self.connection.execute(
            "SELECT value, until FROM rows WHERE key = ?", (key,)
        ).fetchone()
        return None if found is None else Row(_unpack(found[0]), found[1])

    def put(self, key: str, value: Value, until: int) -> None:
        self.connection.execute(
            "INSERT INTO rows VALUES (?, ?, ?) ON CONFLICT (key) "
            "DO UPDATE SET value = excluded.value, until = excluded.until",
            (key, msgspec.msgpack.encode(value), until),
        )

    def delete(self, key: str) -> None:
        self.connection.execute("DELETE FROM rows WHERE key = ?", (key,))

    def scan(
        self, prefix: str, start: str = "", *, reverse: bool = False, limit: int | None = None
    ) -> list[tuple[str, Row]]:
        low, high = prefix + start, prefix + "\x7f"
        if reverse and start:
            low, high = prefix, prefix + start
        elif reverse:
            low = prefix
        found = self.connection.execute(
            "SELECT key, value, until FROM rows WHERE key >= ? AND key < ? "  # noqa: S608 - constants
            f"ORDER BY key {'DESC' if reverse else 'ASC'} LIMIT ?",
            (low, high, -1 if limit is None else min(limit, _MOST_ROWS)),
        )
        return [(key, Row(_unpack(value), until)) for key, value, until in found]

    def overdue(self, prefix: str, limit: int) -> list[str]:
        found = self.connection.execute(
            # The first bound lets SQLite use the partial index, the pluses keep it from the other.
            f"SELECT key FROM rows WHERE until < {FOREVER} AND until <= ? "  # noqa: S608 - constant
            "AND +key >= ? AND +key < ? LIMIT ?",
            (self.now, prefix, prefix + "\x7f", min(limit, _MOST_ROWS)),
        )
        return [key for (key,) in found]


def _unpack(value: bytes) -> Value:
    try:
        return _VALUE.decode(value)
    except msgspec.MsgspecError as error:
        msg = "a stored row makes no sense; was the file changed by another program?"
        raise CorruptRecord(msg) from error
