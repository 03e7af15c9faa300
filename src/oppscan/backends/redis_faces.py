"""The two faces of a Redis store: each answers the steps of a plan through its own client.

They differ in nothing but waiting. What one does, the other does under the same name.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from oppscan.backends import redis_faults
from oppscan.backends.redis_batch import Answer, Batcher
from oppscan.backends.redis_clients import CONCURRENCY
from oppscan.backends.redis_clock import KnownTime
from oppscan.backends.redis_layout import hash_tag
from oppscan.backends.redis_requests import Get, Keys, Moment, Run, Spread, Step, moment_of
from oppscan.clock import delay, delay_blocking, elapsed
from oppscan.errors import DurabilityNotConfirmed, StorageUnavailable

T = TypeVar("T")
Command = tuple[Any, ...]

_RAW: Final = {"NEVER_DECODE": True}  # the host's client may decode replies; ours are bytes
_POOL_PAUSE: Final = 0.005
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

    def _arguments(self, run: Run) -> Command:
        confirm = ("confirm",) if self.confirm and run.writes else ()
        return (len(run.keys), *run.keys, *run.arguments, *confirm)

    def _learn(self, run: Run, reply: Any, sent: float) -> Any:
        if run.script.timed:
            self.time.learn(self.server(run.keys[0]), reply[run.script.timed - 1], sent)
        return reply

    def _confirmed(self, replies: Sequence[Any]) -> Any:
        """Give a write's reply, if a replica has it."""
        reply, copies = replies
        for item in replies:
            if isinstance(item, Exception):
                raise item
        if copies < 1:
            msg = "the write was applied, but no replica confirmed it in time"
            raise DurabilityNotConfirmed(msg)
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


def _wait_for(deadline: float) -> int:
    return max(1, int((deadline - elapsed()) * 900))


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
                if not self.fresh(step.key):
                    await self._run(moment_of(step.key), deadline)
                return self.time.now(self.server(step.key))

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
        arguments = self._arguments(run)
        commands = (("EVALSHA", run.script.sha, *arguments), ("EVAL", run.script.text, *arguments))
        for command in commands:
            sent = elapsed()
            try:
                if self.confirm and run.writes:
                    both = self._pipeline((command, ("WAIT", 1, _wait_for(deadline))))
                    replies = await self._through(
                        lambda both=both: both.execute(raise_on_error=False), deadline
                    )
                    reply = self._confirmed(replies)
                else:
                    reply = await self._through(
                        lambda c=command: self.client.execute_command(*c, **_RAW), deadline
                    )
            except Exception as error:
                if command is commands[-1] or not redis_faults.no_script(error):
                    raise
            else:
                return self._learn(run, reply, sent)
        raise AssertionError("unreachable")

    async def _spread(self, commands: Sequence[Command], deadline: float) -> Any:
        pipe = self._pipeline(commands)
        return await self._through(pipe.execute, deadline)

    async def _fetch(self, keys: Sequence[str], deadline: float) -> list[Answer]:
        command = ("GET", *keys) if len(keys) == 1 else ("MGET", *keys)
        server = self.server(keys[0])
        now = self.time.now(server)
        reply = await self._through(
            lambda: self.client.execute_command(*command, **_RAW), deadline
        )
        return [(item, now) for item in ([reply] if len(keys) == 1 else reply)]

    async def reconnect(self) -> None:
        """Drop the connections that are not in use: the server is not what it was."""
        self.time.forget()
        if not self.cluster:
            await self.client.connection_pool.disconnect(inuse_connections=False)

    async def aclose(self) -> None:
        """Close a client of ours; the host's stays open."""
        await self.batcher.aclose()
        if not self.own:
            return
        if self.cluster:
            await self.client.aclose()
        else:
            await self.client.connection_pool.disconnect()


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
                return self._through(lambda: [_text(key) for key in self._page(step.pattern)], deadline)
            case Moment():
                if not self.fresh(step.key):
                    self._run(moment_of(step.key), deadline)
                return self.time.now(self.server(step.key))

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
        arguments = self._arguments(run)
        commands = (("EVALSHA", run.script.sha, *arguments), ("EVAL", run.script.text, *arguments))
        for command in commands:
            sent = elapsed()
            try:
                if self.confirm and run.writes:
                    both = self._pipeline((command, ("WAIT", 1, _wait_for(deadline))))
                    replies = self._through(
                        lambda both=both: both.execute(raise_on_error=False), deadline
                    )
                    reply = self._confirmed(replies)
                else:
                    reply = self._through(
                        lambda c=command: self.client.execute_command(*c, **_RAW), deadline
                    )
            except Exception as error:
                if command is commands[-1] or not redis_faults.no_script(error):
                    raise
            else:
                return self._learn(run, reply, sent)
        raise AssertionError("unreachable")

    def _spread(self, commands: Sequence[Command], deadline: float) -> Any:
        pipe = self._pipeline(commands)
        return self._through(pipe.execute, deadline)

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
            self.client.connection_pool.disconnect()
