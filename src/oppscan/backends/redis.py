"""`RedisBackend`: scans in Redis or Valkey; one server, a Sentinel's master, or a cluster.

Laws
- One script applies a whole request, at one instant of the server's clock.
- A status poll is one ``GET``; polls that come together leave as one ``MGET``.
- Clients are made for each process and event loop, when first used; a forked child never touches
  its parent's connections.
- Nothing is retried here but a script that the server does not have yet, and a host's pool that
  had no connection left: in both cases nothing was done.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.cluster import RedisCluster

from oppscan.backends import redis_address, redis_clients, redis_faults
from oppscan.backends.base import StorageBackend
from oppscan.backends.redis_batch import Answer, Batcher
from oppscan.backends.redis_clients import CONCURRENCY, DEADLINE
from oppscan.backends.redis_clock import KnownTime
from oppscan.backends.redis_requests import (
    READ,
    Get,
    Keys,
    Moment,
    Plan,
    Run,
    Script,
    Spread,
    Step,
    plan,
)
from oppscan.clock import delay, delay_blocking, elapsed
from oppscan.errors import StorageMisconfigured, StorageUnavailable
from oppscan.ops import Apply, Request

R = TypeVar("R")

_RAW: Final = {"NEVER_DECODE": True}  # the host's client may decode replies; ours are bytes
_WAIT_FOR_POOL: Final = 0.005
_HEAVY: Final = 256 * 1024
"""Bytes in one write; packing more takes longer than an event loop should stand still."""


class RedisBackend(StorageBackend):
    """A store in Redis (6.2 or later) or Valkey, in one server, behind Sentinels, or in a cluster.

    ``where``: a URL (see `oppscan.backends.redis_address`), or the host's own redis-py client or
    connection pool, awaiting or blocking; ``blocking``: a second one, for the other face. The
    host's clients keep the host's settings: their timeouts and retries are not ours.

    Raises `InvalidInput` for a URL that names no store, and on use `StorageUnavailable`,
    `StorageFull`, `StorageMisconfigured`.
    """

    def __init__(self, where: object, *, blocking: object = None) -> None:
        self._address = redis_address.parse(where) if isinstance(where, str) else None
        self._given = [_client_of(item) for item in (where, blocking) if item is not None]
        self._time = KnownTime()
        self._adopt()

    def __repr__(self) -> str:
        """Name the store, without its password."""
        shown = self._address.shown if self._address is not None else "the host's client"
        return f"RedisBackend({shown})"

    # --- The two faces --------------------------------------------------------------------------

    async def execute(self, request: Request[R], namespace: str, timeout: float) -> R:
        """Run one request. One round trip, but for what `redis_requests` says."""
        deadline = elapsed() + timeout
        try:
            async with asyncio.timeout(timeout):
                link = self._link()
                steps = plan(request, namespace, self._timely(link, namespace))
                answer: Any = None
                async with link.gate:
                    while True:
                        try:
                            step = await self._advance(steps, request, answer)
                        except _Done as done:
                            return done.result  # type: ignore[no-any-return]
                        answer = await self._ask(link, step, namespace, deadline)
        except redis_faults.FAULTS as error:
            raise self._failed(error) from error

    def execute_blocking(self, request: Request[R], namespace: str, timeout: float) -> R:
        """Run one request for a caller that may block; the same round trips."""
        deadline = elapsed() + timeout
        token = DEADLINE.set(deadline)
        try:
            line = self._line()
            steps = plan(request, namespace, self._timely(line, namespace))
            if not line.gate.acquire(timeout=timeout):
                msg = f"{self!r}: {CONCURRENCY} requests of this process were under way"
                raise StorageUnavailable(msg)
            try:
                answer: Any = None
                while True:
                    try:
                        step = steps.send(answer)
                    except StopIteration as stop:
                        return stop.value  # type: ignore[no-any-return]
                    answer = self._ask_blocking(line, step, namespace, deadline)
            finally:
                line.gate.release()
        except redis_faults.FAULTS as error:
            raise self._failed(error) from error
        finally:
            DEADLINE.reset(token)
