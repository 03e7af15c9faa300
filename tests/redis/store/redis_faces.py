"""The two faces of a Redis store: each answers the steps of a plan through its own client.

They differ in nothing but waiting. What one does, the other does under the same name.
"""

# ruff: noqa: ANN401 - the clients and replies of redis-py are typed as they come

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from oppscan.clock import delay, delay_blocking, elapsed
from oppscan.errors import DurabilityNotConfirmed, StorageUnavailable
from tests.redis.store import redis_faults
from tests.redis.store.redis_batch import Answer, Batcher
from tests.redis.store.redis_clients import CONCURRENCY
from tests.redis.store.redis_clock import KnownTime
from tests.redis.store.redis_layout import hash_tag
from tests.redis.store.redis_requests import Get, Keys, Moment, Run, Spread, Step, moment_of

T = TypeVar("T")
Command = tuple[Any, ...]

_RAW: Final = {"NEVER_DECODE": True}  # the host's client may decode replies; ours are bytes
_POOL_PAUSE: Final = 0.005
_LAST_MOMENT: Final = 0.25
_SCAN_COUNT: Final = 1000


class _Face:
    """What both faces know: a client, the time of its servers, and whether writes are confirmed."""

    def __init__(self, client: Any, time: KnownTime, *, own: bool, confirm: bool) -> None:
        self.client = client
        self.time = time
        self.own = own
        self.confirm = confirm
        self.cluster = hasattr(client, "nodes_manager")
        self._slots: dict[str, int] = {}

    def server(self, key: str) -> str:
        """Name the server that a key lives on; there is one clock for each."""
        if not self.cluster:
            return ""
        tag = hash_tag(key)
        slot = self._slots.get(tag)
        if slot is None:
            slot = self._slots[tag] = self.client.keyslot(key)
        nodes = self.client.nodes_manager.slots_cache.get(slot)
        return str(nodes[0].name) if nodes else ""

    def fresh(self, key: str) -> bool:
        """Tell whether the time of the server that a key lives on is known well."""
        return self.time.fresh(self.server(key))

    def _pools(self) -> list[Any]:
        """List the pools of a client: its own, and those of its Sentinels."""
        pool = self.client.connection_pool
        watchers = getattr(getattr(pool, "sentinel_manager", None), "sentinels", ())
        return [pool, *(watcher.connection_pool for watcher in watchers)]

    def _commands(self, run: Run) -> tuple[Command, Command]:
        """Give a script by its name, and as a whole for a server that does not know it."""
        confirm = ("confirm",) if self.confirm and run.writes else ()
        arguments = (len(run.keys), *run.keys, *run.arguments, *confirm)
        return ("EVALSHA", run.script.sha, *arguments), ("EVAL", run.script.text, *arguments)

    def _sender(self, run: Run, command: Command, deadline: float) -> Callable[[], Any]:
        """Give what sends a script, and where wanted waits for a replica on the same connection."""
        if self.confirm and run.writes:
            wait = ("WAIT", 1, max(1, int((deadline - elapsed()) * 900)))
            return lambda: self._pipeline((command, wait)).execute(raise_on_error=False)
        return lambda: self.client.execute_command(*command, **_RAW)

    def _reply(self, run: Run, reply: Any, sent: float) -> Any:
        """Give a script's reply, having learnt the time from it."""
        if self.confirm and run.writes:
            reply, copies = reply
            for item in (reply, copies):
                if isinstance(item, Exception):
                    raise item
            if copies < 1:
                msg = "the write was applied, but no replica confirmed it in time"
                raise DurabilityNotConfirmed(msg)
        if run.script.timed:
            self.time.learn(self.server(run.keys[0]), reply[run.script.timed - 1], sent)
        return reply

    def _pipeline(self, commands: Sequence[Command]) -> Any:
        pipe = self.client.pipeline() if self.cluster else self.client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command, **_RAW)
        return pipe

    def _page(self, pattern: str) -> Any:
        nodes = {"target_nodes": "primaries"} if self.cluster else {}
        return self.client.scan_iter(match=pattern, count=_SCAN_COUNT, **nodes)


def _text(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else str(key)


class AsyncFace(_Face):
    """Answers steps for one event loop."""

    def __init__(self, client: Any, time: KnownTime, *, own: bool, confirm: bool) -> None:
        super().__init__(client, time, own=own, confirm=confirm)
        self.gate = asyncio.Semaphore(CONCURRENCY)
        self.batcher = Batcher(self._fetch, hash_tag if self.cluster else lambda _: "")

    async def ask(self, step: Step, deadline: float) -> Any:
        """Answer one step."""
        match step:
            case Get():
                return await self.batcher.get(step.key, deadline)
            case Run():
                return await self._run(step, deadline)
            case Spread():
                return await self._spread(step.commands, deadline) if step.commands else []
            case Keys():
                async with self.gate:
                    return [_text(key) async for key in self._page(step.pattern)]
            case Moment():
                known = self.time.now(self.server(step.key)) if self.fresh(step.key) else 0
                return known or (await self._run(moment_of(step.key), deadline))[0]

    async def _through(self, send: Callable[[], Any], deadline: float) -> Any:
        """Send when it is this request's turn, and the host's pool has a connection."""
        async with self.gate:
            while True:
                try:
                    return await send()
                except Exception as error:
                    if not redis_faults.pool_exhausted(error) or elapsed() >= deadline:
                        raise
                await delay(_POOL_PAUSE)

    async def _run(self, run: Run, deadline: float) -> Any:
        for command in self._commands(run):
            sent = elapsed()
            try:
                reply = await self._through(self._sender(run, command, deadline), deadline)
                return self._reply(run, reply, sent)
            except Exception as error:
                if command[0] == "EVAL" or not redis_faults.no_script(error):
                    raise
        raise AssertionError("the last command raises or returns")

    async def _spread(self, commands: Sequence[Command], deadline: float) -> Any:
        return await self._through(lambda: self._pipeline(commands).execute(), deadline)

    async def _fetch(self, keys: Sequence[str], deadline: float) -> list[Answer]:
        command = ("GET", *keys) if len(keys) == 1 else ("MGET", *keys)
        server = self.server(keys[0])
        now = self.time.now(server)
        reply = await self._through(lambda: self.client.execute_command(*command, **_RAW), deadline)
        return [(item, now) for item in ([reply] if len(keys) == 1 else reply)]

    async def reconnect(self) -> None:
        """Drop the connections that are not in use: the server is not what it was."""
        self.time.forget()
        if not self.cluster:
            await self.client.connection_pool.disconnect(inuse_connections=False)

    async def aclose(self) -> None:
        """Close a client of ours, after a moment for what is under way; the host's stays open."""
        await self.batcher.aclose()
        if not self.own:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_MOMENT):
                for _ in range(CONCURRENCY):
                    await self.gate.acquire()
        if self.cluster:
            await self.client.aclose()
        else:
            for pool in self._pools():
                await pool.disconnect()

    def drop(self) -> None:
        """Close what can be closed without waiting."""
        if not self.own or self.cluster:
            return
        for pool in self._pools():
            closing = pool.disconnect()
            with suppress(StopIteration, *redis_faults.FAULTS):
                closing.send(None)
            closing.close()


class BlockingFace(_Face):
    """Answers steps for any number of threads of one process."""

    def __init__(self, client: Any, time: KnownTime, *, own: bool, confirm: bool) -> None:
        super().__init__(client, time, own=own, confirm=confirm)
        self.gate = threading.BoundedSemaphore(CONCURRENCY)

    def ask(self, step: Step, deadline: float) -> Any:
        """Answer one step."""
        match step:
            case Get():
                return self._fetch(step.key, deadline)
            case Run():
                return self._run(step, deadline)
            case Spread():
                return self._spread(step.commands, deadline) if step.commands else []
            case Keys():
                return self._through(
                    lambda: [_text(key) for key in self._page(step.pattern)], deadline
                )
            case Moment():
                known = self.time.now(self.server(step.key)) if self.fresh(step.key) else 0
                return known or self._run(moment_of(step.key), deadline)[0]

    def _through(self, send: Callable[[], Any], deadline: float) -> Any:
        if not self.gate.acquire(timeout=max(0.0, deadline - elapsed())):
            raise StorageUnavailable(f"{CONCURRENCY} requests of this process were under way")
        try:
            while True:
                try:
                    return send()
                except Exception as error:
                    if not redis_faults.pool_exhausted(error) or elapsed() >= deadline:
                        raise
                delay_blocking(_POOL_PAUSE)
        finally:
            self.gate.release()

    def _run(self, run: Run, deadline: float) -> Any:
        for command in self._commands(run):
            sent = elapsed()
            try:
                reply = self._through(self._sender(run, command, deadline), deadline)
                return self._reply(run, reply, sent)
            except Exception as error:
                if command[0] == "EVAL" or not redis_faults.no_script(error):
                    raise
        raise AssertionError("the last command raises or returns")

    def _spread(self, commands: Sequence[Command], deadline: float) -> Any:
        return self._through(lambda: self._pipeline(commands).execute(), deadline)

    def _fetch(self, key: str, deadline: float) -> Answer:
        now = self.time.now(self.server(key))
        return (
            self._through(lambda: self.client.execute_command("GET", key, **_RAW), deadline),
            now,
        )

    def reconnect(self) -> None:
        """Drop the connections that are not in use: the server is not what it was."""
        self.time.forget()
        if not self.cluster:
            self.client.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close a client of ours; the host's stays open."""
        if not self.own:
            return
        if self.cluster:
            self.client.close()
        else:
            for pool in self._pools():
                pool.disconnect(inuse_connections=False)  # other threads may be in the middle
