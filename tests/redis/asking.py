"""One store, asked through either face by the same test."""

# ruff: noqa: ANN401 - requests and replies of any kind

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import oppscan.sync
from oppscan import ScanRegistry
from oppscan.backends.redis import RedisBackend
from oppscan.ops import Request
from oppscan.testing.faces import awaitable
from oppscan.testing.world import Face

SPACE = "faults"
TIMEOUT = 1.0


class Asker:
    """Asks stores through one face, again and again, in one event loop if it needs any."""

    def __init__(self, face: Face) -> None:
        self.runner = asyncio.Runner() if face == "async" else None
        self.stores: list[RedisBackend] = []

    def open(self, where: Any, **options: Any) -> RedisBackend:
        store = RedisBackend(where, **options)
        self.stores.append(store)
        return store

    def ask(self, store: RedisBackend, request: Request[Any], timeout: float = TIMEOUT) -> Any:
        if self.runner is None:
            return store.execute_blocking(request, SPACE, timeout)
        return self.runner.run(store.execute(request, SPACE, timeout))

    def use(
        self,
        where: Any,
        body: Callable[[ScanRegistry], Coroutine[Any, Any, Any]],
        **settings: Any,
    ) -> Any:
        """Run a body with a registry; the blocking one is only called awaited."""
        store = self.open(where)
        if self.runner is not None:
            return self.runner.run(body(ScanRegistry(store, **settings)))
        registry = awaitable(oppscan.sync.ScanRegistry(store, **settings), None)
        return asyncio.run(body(registry))

    def close(self) -> None:
        for store in self.stores:
            if self.runner is None:
                store.close()
            else:
                self.runner.run(store.aclose())
        if self.runner is not None:
            self.runner.close()
