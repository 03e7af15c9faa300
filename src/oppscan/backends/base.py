"""What a store must do to carry scans, and a helper that does most of it.

Write a backend in one of two ways:

- The store has transactions (a SQL database, a dictionary behind a lock): subclass
  `TransactionalBackend` and give it one method, ``transaction``. `oppscan.backends.reference`
  does the rest, for the async and the blocking face.
- The store has its own language (a server with scripts): subclass `StorageBackend` and
  interpret the four requests of `oppscan.ops` yourself; `oppscan.backends.reference` is their exact
  meaning, and ``oppscan.testing`` the suite that compares.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, TypeVar

from oppscan.backends.reference import interpret
from oppscan.backends.rows import Transaction
from oppscan.clock import Clock, SystemClock
from oppscan.errors import StorageMisconfigured
from oppscan.ops import Apply, Purge, Request, SelectDue

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

R = TypeVar("R")

_WRITES: Final = (Apply, Purge, SelectDue)
_SWEEP_EVERY: Final = 64
_SWEEP_LIMIT: Final = 8 * _SWEEP_EVERY
"""A start makes seven rows that must go one day: dropping more than that keeps pace."""


class StorageBackend(ABC):
    """A store. One object serves any number of registries, async and blocking, in one process.

    Attributes:
        clock: the source of pauses between heartbeats and polls, for the registries that use
            this store. The instants in replies are the store's own and need not come from it.
        durable: whether a write can be confirmed by replicas (``durability="replicated"``).
        immediate: whether every answer comes without waiting for anything, so that bounds on
            time are not worth their price.

    """

    clock: Clock = SystemClock()
    durable: bool = False
    immediate: bool = False

    @abstractmethod
    async def execute(self, request: Request[R], namespace: str, timeout: float) -> R:
        """Run one request, and give its reply.

        - The whole request takes effect at one instant, or not at all, also when the process
          is killed or the task cancelled meanwhile (then either is allowed).
        - A request begun after another one's reply was given sees its effect.
        - The guards of an `Apply` are checked, in order, before its first change.
        - ``now`` in the reply is the store's clock in milliseconds, and is what expiry in the
          request was judged by: kept until t means gone at t.
        - Ends within ``timeout`` seconds: `StorageUnavailable` when the store does not answer,
          `StorageFull` when it has no room, `StorageMisconfigured` when asking again cannot
          help. After any error the next request meets a healthy store.
        - Requests in another ``namespace`` see nothing of this one's.
        - The event loop is never blocked for longer than a memory store's answer takes.
        """

    @abstractmethod
    def execute_blocking(self, request: Request[R], namespace: str, timeout: float) -> R:
        """Run one request for a caller that may block; the same conditions.

        - Any number of threads may call it at once.
        - It never starts, enters or needs an event loop.
        - In a forked child it works on connections of the child's own.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of connections and files.

        - Never raises because the store is down; closing twice is fine.
        - A later request may reconnect, or raise `StorageUnavailable`.
        """

    async def aclose(self) -> None:
        """Let go of connections and files, from the async face; the same conditions."""
        self.close()

    def require(self, durability: str) -> None:
        """Refuse a durability that this store cannot keep."""
        if durability == "replicated" and not self.durable:
            msg = f"{type(self).__name__} has no replicas; use durability='default'"
            raise StorageMisconfigured(msg)


class TransactionalBackend(StorageBackend):
    """A store with transactions: implement ``transaction`` and ``close``, and it is complete.

    Blocking calls run where they are made. Async calls run in a thread of the backend's own, so
    that a slow disk or a busy file never holds up the event loop; where ``immediate`` is true
    they run in place.
    """

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._threads_of = 0
        self._writes = 0

    @abstractmethod
    def transaction(self, timeout: float, *, write: bool) -> AbstractContextManager[Transaction]:
        """Open a transaction that is isolated from all others; ``write``: it may write.

        - Nothing that others write becomes visible in it once it was entered, and its ``now`` is
          no earlier than any write that is visible.
        - Leaving the block normally makes all its writes visible and durable at once; leaving
          it by an exception, or dying inside, makes none of them.
        - Two transactions that write never both begin from the same contents.
        - Raises `StorageUnavailable` when it cannot begin within ``timeout`` seconds.
        """

    def execute_blocking(self, request: Request[R], namespace: str, timeout: float) -> R:
        """Run one request in a transaction; every 64th write also drops what is overdue."""
        with self.transaction(timeout, write=isinstance(request, _WRITES)) as transaction:
            reply = interpret(transaction, request, namespace)
            if isinstance(request, Apply):
                self._writes += 1
                if self._writes % _SWEEP_EVERY == 0:
                    interpret(transaction, Purge(_SWEEP_LIMIT), namespace)
            return reply

    async def execute(self, request: Request[R], namespace: str, timeout: float) -> R:
        """Run one request in a transaction, off the event loop unless ``immediate``."""
        if self.immediate:
            return self.execute_blocking(request, namespace, timeout)
        if self._threads is None or self._threads_of != os.getpid():
            from concurrent.futures import ThreadPoolExecutor

            self._threads = ThreadPoolExecutor(1, type(self).__name__)
            self._threads_of = os.getpid()  # a fork carries no threads over
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, self.execute_blocking, request, namespace, timeout
        )

    async def aclose(self) -> None:
        """Let go of everything, behind the requests under way and off the event loop."""
        if self._threads is None or self._threads_of != os.getpid():
            self.close()
        else:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._threads, self.close)

    def close(self) -> None:
        """Let go of the thread; it ends with the request that it runs."""
        if self._threads is not None and self._threads_of == os.getpid():
            self._threads.shutdown(wait=False)
        self._threads = None
