"""`RedisBackend`: scans in Redis or Valkey; one server, a Sentinel's master, or a cluster.

Laws
- One script applies a whole request, at one instant of the server's clock.
- A status poll is one ``GET``; polls that come together leave as one ``MGET``.
- Clients are made for each process and event loop, when first used; a forked child never touches
  its parent's connections.
- Nothing is retried here but a script that the server does not have yet, and a host's pool that
  had no connection left: in both cases nothing was done.
"""

# ruff: noqa: ANN401 - the clients and replies of redis-py are typed as they come

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import redis as redis_py
import redis.asyncio as redis_asyncio
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.cluster import RedisCluster

from oppscan.backends.base import StorageBackend
from oppscan.backends.health import Finding
from oppscan.backends.redis import address, clients, faults, layout
from oppscan.backends.redis.bells import CONNECTING, MOST_BLOCKING, Line, LoopBell, ThreadBell
from oppscan.backends.redis.clients import DEADLINE
from oppscan.backends.redis.clock import Known
from oppscan.backends.redis.faces import AsyncFace, BlockingFace
from oppscan.backends.redis.records import Records
from oppscan.backends.redis.requests import plan, reply_weight, weight
from oppscan.backends.redis.steps import Plan, advance
from oppscan.clock import elapsed
from oppscan.errors import (
    InvalidInput,
    OppscanError,
    StorageMisconfigured,
    StorageUnavailable,
)
from oppscan.forks import watch_forks
from oppscan.ops import Request

R = TypeVar("R")
Loop = asyncio.AbstractEventLoop

_ASYNC: Final = (redis_asyncio.Redis, AsyncRedisCluster)
_BLOCKING: Final = (redis_py.Redis, RedisCluster)

_HEAVY: Final = 256 * 1024
"""Bytes of one write or reply; packing more takes longer than an event loop should stand still."""


class RedisBackend(StorageBackend):
    """A store in Redis (6.2 or later) or Valkey, in one server, behind Sentinels, or in a cluster.

    ``where``: a URL (see `oppscan.backends.redis.address`), or the host's own redis-py client or
    connection pool, awaiting or blocking; ``blocking``: a second one, for the other face. The
    host's clients keep the host's settings: their timeouts and retries are not ours.

    Raises `InvalidInput` for what names no store, and on use `StorageUnavailable`, `StorageFull`,
    `StorageMisconfigured`.
    """

    def __init__(self, where: object, *, blocking: object = None) -> None:
        self._address = address.parse(where) if isinstance(where, str) else None
        if self._address is not None:
            clients.check(self._address)
        given = [where, blocking] if self._address is None else [blocking]
        self._given = [_client_of(item) for item in given if item is not None]
        self._confirm = False
        self._abandoned: list[object] = []
        self._start_afresh()
        watch_forks(self, RedisBackend._start_in_child)

    def __repr__(self) -> str:
        """Name the store, without its password."""
        return f"RedisBackend({self._shown})"

    @property
    def _shown(self) -> str:
        return "the host's client" if self._address is None else self._address.shown

    @property
    def durable(self) -> bool:  # type: ignore[override]
        """Whether a write can be confirmed by replicas: not in a cluster."""
        cluster = any(hasattr(client, "nodes_manager") for client in self._given)
        return not cluster and (self._address is None or self._address.kind != "cluster")

    def require(self, durability: str) -> None:
        """Have every write through this object confirmed by a replica, if so wanted."""
        if durability == "replicated" and not self.durable:
            msg = f"{self!r}: writes are not confirmed in a cluster; use durability='default'"
            raise StorageMisconfigured(msg)
        self._confirm = self._confirm or durability == "replicated"

    # --- The two faces --------------------------------------------------------------------------

    async def execute(self, request: Request[R], namespace: str, timeout: float) -> R:
        """Run one request; one round trip, but where `requests` says otherwise."""
        deadline = elapsed() + timeout
        face = self._async_face()
        try:
            steps = self._plan(request, namespace)
            async with asyncio.timeout(timeout):
                answer: Any = None
                size = weight(request)
                while True:
                    if size > _HEAVY:
                        done, step = await asyncio.to_thread(advance, steps, answer)
                    else:
                        done, step = advance(steps, answer)
                    if done:
                        return step  # type: ignore[no-any-return]
                    answer = await face.ask(step, deadline)
                    size = reply_weight(answer)
        except faults.FAULTS as error:
            if faults.stale(error):
                with suppress(*faults.FAULTS):
                    await face.reconnect()
            if self._may_be_plain(error):
                plain = await asyncio.to_thread(self._is_plain)
                raise (self._not_tls() if plain else self._failed(error)) from error
            raise self._failed(error) from error

    def execute_blocking(self, request: Request[R], namespace: str, timeout: float) -> R:
        """Run one request for a caller that may block; the same round trips."""
        deadline = elapsed() + timeout
        face: BlockingFace | None = None
        token = DEADLINE.set(deadline)
        try:
            face = self._blocking_face(timeout)  # a cluster's client connects when it is made
            steps = self._plan(request, namespace)
            answer: Any = None
            while True:
                done, step = advance(steps, answer)
                if done:
                    return step  # type: ignore[no-any-return]
                answer = face.ask(step, deadline)
        except faults.FAULTS as error:
            if face is not None and faults.stale(error):
                with suppress(*faults.FAULTS):
                    face.reconnect()
            if self._may_be_plain(error) and self._is_plain():
                raise self._not_tls() from error
            raise self._failed(error) from error
        finally:
            DEADLINE.reset(token)

    def _plan(self, request: Request[R], namespace: str) -> Plan[R]:
        return plan(request, namespace, self._time, self._records)

    def _failed(self, error: BaseException) -> OppscanError:
        """Give our error for one of redis-py's; raise what is no fault of the store as it is."""
        if isinstance(error, RuntimeError) and "loop" not in str(error):
            raise error
        found = faults.translate(error, self._shown)
        if isinstance(found, StorageUnavailable):
            self._time.forget()
        return found

    def _may_be_plain(self, error: BaseException) -> bool:
        secure = self._address is not None and self._address.base.startswith("rediss:")
        return secure and "Timeout connecting" in str(error)

    def _is_plain(self) -> bool:
        where = self._address
        return where is not None and clients.speaks_plainly(*where.first)

    def _not_tls(self) -> StorageMisconfigured:
        return StorageMisconfigured(f"{self._shown}: the server speaks no TLS; write redis:")

    def examine(self, namespace: str, timeout: float) -> tuple[Finding, ...]:
        """Look at the servers, blocking; all but one key that ends by itself stays as it is."""
        from oppscan.backends.redis.examine import gather  # for the doctor alone
        from oppscan.backends.redis.health import judge

        deadline = elapsed() + timeout
        token = DEADLINE.set(deadline)
        try:
            return judge(gather(self._blocking_face(timeout).client, namespace, deadline))
        except faults.FAULTS as error:
            if self._may_be_plain(error) and self._is_plain():
                raise self._not_tls() from error
            raise self._failed(error) from error
        finally:
            DEADLINE.reset(token)

    # --- News -----------------------------------------------------------------------------------

    def bell(self, namespace: str, scan_id: str) -> LoopBell:
        """Give a bell for the news of a scan; see `oppscan.backends.push`."""

        def find() -> tuple[Line, bytes]:
            channel = layout.key(namespace, "n", scan_id)
            return self._async_face().line(channel), channel.encode()

        return LoopBell(find)

    def bell_blocking(self, namespace: str, scan_id: str) -> ThreadBell:
        """Give a bell for a caller that blocks."""

        def find() -> tuple[Any, bytes, bool]:
            channel = layout.key(namespace, "n", scan_id)
            face = self._blocking_face(CONNECTING)
            return face.listener(channel), channel.encode(), face.cluster

        return ThreadBell(find, self._listening)

    # --- Clients --------------------------------------------------------------------------------

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._time = Known()
        self._records = Records()
        self._loops: WeakKeyDictionary[Loop, AsyncFace] = WeakKeyDictionary()
        self._face: BlockingFace | None = None
        self._listening = threading.Semaphore(MOST_BLOCKING)

    def _start_in_child(self) -> None:
        """Start afresh: the parent's connections are not ours, even to close."""
        self._abandoned += [*self._loops.values(), self._face]
        self._start_afresh()

    def _async_face(self) -> AsyncFace:
        loop = asyncio.get_running_loop()
        face = self._loops.get(loop)
        if face is None:
            self._leave_closed_loops()
            client = self._own_or_given(_ASYNC, clients.make_async, "redis.asyncio")
            own = client not in self._given
            face = AsyncFace(client, self._time, own=own, confirm=self._confirm)
            self._loops[loop] = face
        return face

    def _leave_closed_loops(self) -> None:
        """Let go of what loops had that are over: their connections held them, and they those."""
        for loop in [loop for loop in self._loops if loop.is_closed()]:
            del self._loops[loop]

    def _blocking_face(self, timeout: float = -1) -> BlockingFace:
        if (face := self._face) is not None:
            return face
        if not self._lock.acquire(timeout=timeout):
            raise StorageUnavailable(f"{self._shown}: another thread waits for a connection")
        try:
            self._face = self._face or self._new_blocking_face()
            return self._face
        finally:
            self._lock.release()

    def _new_blocking_face(self) -> BlockingFace:
        client = self._own_or_given(_BLOCKING, clients.make_blocking, "redis")
        own = client not in self._given
        return BlockingFace(client, self._time, own=own, confirm=self._confirm)

    def _own_or_given(self, kinds: tuple[type, ...], make: Any, module: str) -> Any:
        for client in self._given:
            if isinstance(client, kinds):
                return client
        if self._address is None:
            msg = f"RedisBackend was given no client of {module}, which this face needs"
            raise StorageMisconfigured(msg)
        return make(self._address)

    def close(self) -> None:
        """Close what is ours of the blocking face, and of this thread's event loop, if one runs."""
        with suppress(RuntimeError):
            here = self._loops.pop(asyncio.get_running_loop(), None)
            if here is not None:
                here.drop()
        with self._lock:
            face, self._face = self._face, None
        if face is not None:
            with suppress(*faults.FAULTS):
                face.close()

    async def aclose(self) -> None:
        """Close what is ours, of this event loop and of the blocking face."""
        face = self._loops.pop(asyncio.get_running_loop(), None)
        self._leave_closed_loops()
        if face is not None:
            with suppress(*faults.FAULTS):
                await face.aclose()
        self.close()


def _client_of(item: object) -> Any:
    """Take a client as it is, and a pool as what a client draws from."""
    if isinstance(item, (*_ASYNC, *_BLOCKING)):
        return item
    if isinstance(item, redis_asyncio.ConnectionPool):
        return redis_asyncio.Redis(connection_pool=item)
    if isinstance(item, redis_py.ConnectionPool):
        return redis_py.Redis(connection_pool=item)
    msg = f"RedisBackend needs a URL, a redis-py client or pool, not {type(item).__name__}"
    raise InvalidInput(msg)
