"""A store written from the documentation alone: one method over a dictionary of JSON lines."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from oppscan.backends.base import TransactionalBackend
from oppscan.backends.rows import Row, Value
from oppscan.clock import Clock
from oppscan.errors import StorageUnavailable
from oppscan.testing import ManualClock
from oppscan.testing.contract import StoreContract
from oppscan.testing.world import OpenStore


def _dump(value: Value, until: int) -> str:
    plain = [
        {"b": base64.b64encode(item).decode()} if isinstance(item, bytes) else item
        for item in value
    ]
    return json.dumps([plain, until])


def _load(line: str) -> Row:
    plain, until = json.loads(line)
    return Row(tuple(base64.b64decode(i["b"]) if isinstance(i, dict) else i for i in plain), until)


class Shelf:
    """What the workers share: a dictionary of text, behind one lock."""

    def __init__(self) -> None:
        self.lines: dict[str, str] = {}
        self.lock = threading.Lock()


class ShelfTransaction:
    """Reads the shelf as it was; writes are kept aside until the end."""

    def __init__(self, shelf: Shelf, now: int) -> None:
        self.now = now
        self.shelf = shelf
        self.changed: dict[str, str | None] = {}

    def get(self, key: str) -> Row | None:
        line = self.changed[key] if key in self.changed else self.shelf.lines.get(key)
        return None if line is None else _load(line)

    def put(self, key: str, value: Value, until: int) -> None:
        self.changed[key] = _dump(value, until)

    def delete(self, key: str) -> None:
        self.changed[key] = None

    def _keys(self, prefix: str) -> list[str]:
        keys = {key for key in self.shelf.lines if key.startswith(prefix)}
        keys |= {key for key in self.changed if key.startswith(prefix)}
        return sorted(key for key in keys if self.get(key) is not None)

    def scan(
        self, prefix: str, start: str = "", *, reverse: bool = False, limit: int | None = None
    ) -> list[tuple[str, Row]]:
        keys = self._keys(prefix)
        if reverse:
            keys = [key for key in reversed(keys) if not start or key < prefix + start]
        else:
            keys = [key for key in keys if key >= prefix + start]
        return [(key, row) for key in keys[:limit] if (row := self.get(key))]

    def overdue(self, prefix: str, limit: int) -> list[str]:
        due = [
            key for key in self._keys(prefix) if (row := self.get(key)) and row.until <= self.now
        ]
        return due[:limit]


class ShelfBackend(TransactionalBackend):
    """One worker's view of a shelf."""

    def __init__(self, shelf: Shelf, clock: Clock) -> None:
        super().__init__()
        self.shelf = shelf
        self.clock = clock

    @contextmanager
    def transaction(self, timeout: float, *, write: bool) -> Generator[ShelfTransaction]:
        if not self.shelf.lock.acquire(timeout=timeout):
            raise StorageUnavailable("the shelf is busy")
        try:
            view = ShelfTransaction(self.shelf, self.clock.now())
            yield view
            assert write or not view.changed
            for key, line in view.changed.items():
                if line is None:
                    self.shelf.lines.pop(key, None)
                else:
                    self.shelf.lines[key] = line
        finally:
            self.shelf.lock.release()


class TestShelf(StoreContract):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        shelves: dict[str, Shelf] = {}

        def open_store(clock: ManualClock, name: str) -> ShelfBackend:
            return ShelfBackend(shelves.setdefault(name, Shelf()), clock)

        return open_store
