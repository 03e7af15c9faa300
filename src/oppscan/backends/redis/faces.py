"""The two faces of a Redis store: each answers the steps of a plan through its own client.

They differ in nothing but waiting. What one does, the other does under the same name.
"""

# ruff: noqa: ANN401 - the clients and replies of redis-py are typed as they come

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar, assert_never

from oppscan.backends.redis import faults
from oppscan.backends.redis.batch import Answer, Batcher
from oppscan.backends.redis.bells import Line
from oppscan.backends.redis.clients import CONCURRENCY, ONE_NODE
from oppscan.backends.redis.clock import Known
from oppscan.backends.redis.layout import hash_tag
from oppscan.backends.redis.steps import Get, Keys, Moment, Run, Spread, Step, moment_of
from oppscan.clock import delay, delay_blocking, elapsed
from oppscan.errors import DurabilityNotConfirmed, StorageUnavailable

T = TypeVar("T")
Command = tuple[Any, ...]

_RAW: Final = {"NEVER_DECODE": True}  # the host's client may decode replies; ours are bytes
_POOL_PAUSE: Final = 0.005
_LAST_MOMENT: Final = 0.25
_JOINING: Final = 1.0  # seconds; the node that was asked may be frozen, another one is not
_SCAN_COUNT: Final = 1000
_TICK: Final = 0.15  # seconds; a server looks ten times a second whether a WAIT is over


class _Face:
    """What both faces know: a client, the time of its servers, and whether writes are confirmed."""

    def __init__(self, client: Any, time: Known, *, own: bool, confirm: bool) -> None:
        self.client = client
        self.time = time
        self.own = own
        self.confirm = confirm
        self.cluster: bool = hasattr(client, "nodes_manager")
        self._mode = ("c" if confirm else "") + ("s" if self.cluster else "")
        self._slots: dict[str, int] = {}

    def server(self, key: str) -> str:
        """Name the server that a key lives on; there is one clock for each."""
        node = self._node(key) if self.cluster else None
        return str(node.name) if node is not None else ""

    def _node(self, key: str) -> Any:
        """Find the node of a cluster that a key lives on; None before the topology is known."""
        tag = hash_tag(key)
        slot = self._slots.get(tag)
        if slot is None:
            slot = self._slots[tag] = self.client.keyslot(key)
        nodes = self.client.nodes_manager.slots_cache.get(slot)
        return nodes[0] if nodes else None

    def _pools(self) -> list[Any]:
        """List the pools of a client: its own, and those of its Sentinels."""
        pool = self.client.connection_pool
        watchers = getattr(getattr(pool, "sentinel_manager", None), "sentinels", ())
        return [pool, *(watcher.connection_pool for watcher in watchers)]

    def _commands(self, run: Run) -> tuple[Command, Command]:
        """Give a script by its name, and as a whole for a server that does not know it."""
        mode = (self._mode,) if run.script.applies else ()
        arguments = (len(run.keys), *run.keys, *mode, *run.arguments)
        return ("EVALSHA", run.script.sha, *arguments), ("EVAL", run.script.text, *arguments)

    def _confirms(self, run: Run) -> bool:
        """Tell whether a replica must confirm: sweeping may be lost, nobody is told of it."""
        return self.confirm and run.script.applies

    def _sender(self, run: Run, command: Command, deadline: float) -> Callable[[], Any]:
        """Give what sends a script, and where wanted waits for a replica on the same connection."""
        if self._confirms(run):
            left = deadline - elapsed()
            wait = ("WAIT", 1, max(1, int(1000 * (left - max(left / 10, _TICK)))))
            return lambda: self._pipeline((command, wait)).execute(raise_on_error=False)
        return lambda: self._execute(command)

    def _reply(self, run: Run, reply: Any, sent: float) -> Any:
        """Give a script's reply, having learnt the time from it."""
        if self._confirms(run):
            reply, copies = reply
            for item in (reply, copies):
                if isinstance(item, Exception):
                    raise item
            if copies < 1 and reply[0]:  # refused: perhaps for having been applied by a try before
                raise StorageUnavailable("no replica confirmed what the store says")
            if copies < 1:
                msg = "the write was applied, but no replica confirmed it in time"
                raise DurabilityNotConfirmed(msg)
        if run.script.timed:
            self.time.learn(self.server(run.keys[0]), reply[run.script.timed - 1], sent)
        return reply

    def _execute(self, command: Command) -> Any:
        return self.client.execute_command(*command, **_RAW)

    def _pipeline(self, commands: Sequence[Command]) -> Any:
        pipe = self.client.pipeline() if self.cluster else self.client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command, **_RAW)
        return pipe

    def _timeless(self, key: str) -> bool:
        """Tell whether asking for the time takes a round trip of its own."""
        return self.cluster and not self.time.now(self.server(key))

    def _reads(self, keys: Sequence[str]) -> tuple[int, list[Command]]:
        """Give the server's time, and the commands that read keys of one slot.

        Where the time is not known, 0 and a command more, before the other. Not in a cluster: there
        a command without a key may go anywhere.
        """
        read: Command = ("GET", *keys) if len(keys) == 1 else ("MGET", *keys)
        now = self.time.now(self.server(keys[0]))
        return now, [read] if now or self.cluster else [("TIME",), read]

    def _answers(
        self, keys: Sequence[str], now: int, replies: list[Any], sent: float
    ) -> list[Answer]:
        """Give what was read, with the time at which it was."""
        if len(replies) > 1:
            seconds, micros = replies[0]
            now = int(seconds) * 1000 + int(micros) // 1000
            self.time.learn(self.server(keys[0]), now, sent)
        found = [replies[-1]] if len(keys) == 1 else replies[-1]
        return [(item, now) for item in found]

    def _made_like(self, pool: Any) -> Any:
        """Make a connection as a pool does, that is not one of the pool's."""
        return pool.connection_class(**pool.connection_kwargs)

    def _page(self, pattern: str) -> Any:
        nodes = {"target_nodes": "primaries"} if self.cluster else {}
        return self.client.scan_iter(match=pattern, count=_SCAN_COUNT, **nodes)


def _text(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else str(key)


def _hear(task: asyncio.Task[Any]) -> None:
    """Take note of how a task ended: that a store is down is no news then."""
    if not task.cancelled():
        task.exception()


class AsyncFace(_Face):
    """Answers steps for one event loop."""

    def __init__(self, client: Any, time: Known, *, own: bool, confirm: bool) -> None:
        super().__init__(client, time, own=own, confirm=confirm)
        self.gate: asyncio.Semaphore = asyncio.Semaphore(CONCURRENCY)
        self.batcher: Batcher = Batcher(self._fetch, hash_tag if self.cluster else lambda _: "")
        self.closing: asyncio.Task[None] | None = None
        self._joining: asyncio.Task[Any] | None = None
        self._lines: dict[str, Line] = {}

    async def ask(self, step: Step, deadline: float) -> Any:
        """Answer one step."""
        match step:
            case Get():
                if self._timeless(step.key):
                    return None, 0
                return await self.batcher.get(step.key, deadline)
            case Run():
                return await self._run(step, deadline)
            case Spread():
                return await self._spread(step.commands, deadline) if step.commands else []
            case Keys():
                async with self.gate:
                    return [_text(key) async for key in self._page(step.pattern)]
            case Moment():
                known = self.time.now(self.server(step.key))
                return known or (await self._run(moment_of(step.key), deadline))[0]
            case _:
                assert_never(step)

    async def _through(self, send: Callable[[], Any], deadline: float) -> Any:
        """Send when it is this request's turn, and the host's pool has a connection."""
        async with self.gate:
            if self.cluster:
                await self._join()
            while True:
                try:
                    return await (self._to_one_node(send, deadline) if self.cluster else send())
                except Exception as error:
                    if not faults.pool_exhausted(error) or elapsed() >= deadline:
                        raise
                await delay(_POOL_PAUSE)

    async def _to_one_node(self, send: Callable[[], Any], deadline: float) -> Any:
        """Send, but not wait for a silent node until the end: another may have taken over."""
        try:
            async with asyncio.timeout((deadline - elapsed()) * ONE_NODE):
                return await send()
        except TimeoutError:
            self.client._initialize = True  # noqa: SLF001 - as redis-py does after an error
            raise

    async def _join(self) -> None:
        """Learn the cluster's topology, once for all who ask.

        A caller whose time is over leaves; what it waited for goes on, or under load none of them
        would ever come to its end.
        """
        if not getattr(self.client, "_initialize", False):
            return
        if self._joining is None or self._joining.done():
            learning = asyncio.wait_for(self.client.initialize(), _JOINING)
            self._joining = asyncio.get_running_loop().create_task(learning)
            self._joining.add_done_callback(_hear)
        await asyncio.shield(self._joining)

    async def _run(self, run: Run, deadline: float) -> Any:
        named, whole = self._commands(run)
        try:
            return await self._attempt(run, named, deadline)
        except Exception as error:
            if not faults.no_script(error):
                raise
        return await self._attempt(run, whole, deadline)

    async def _attempt(self, run: Run, command: Command, deadline: float) -> Any:
        sent = elapsed()
        reply = await self._through(self._sender(run, command, deadline), deadline)
        return self._reply(run, reply, sent)

    async def _spread(self, commands: Sequence[Command], deadline: float) -> Any:
        return await self._through(lambda: self._pipeline(commands).execute(), deadline)

    async def _fetch(self, keys: Sequence[str], deadline: float) -> list[Answer]:
        now, commands = self._reads(keys)
        sent = elapsed()
        if len(commands) > 1:
            replies = await self._spread(commands, deadline)
        else:
            (read,) = commands
            replies = [await self._through(lambda: self._execute(read), deadline)]
        return self._answers(keys, now, replies, sent)

    def line(self, channel: str) -> Line:
        """Give what hears of the server that publishes to a channel."""
        server = self.server(channel)
        line = self._lines.get(server)
        if line is None:
            line = Line(lambda: self._listener(channel), sharded=self.cluster)
            self._lines[server] = line
        return line

    def _listener(self, channel: str) -> Any:
        return self._made_like(self._node(channel) if self.cluster else self.client.connection_pool)

    async def reconnect(self) -> None:
        """Drop the connections that are not in use: the server is not what it was."""
        self.time.forget()
        if not self.cluster:
            await self.client.connection_pool.disconnect(inuse_connections=False)

    async def aclose(self) -> None:
        """Close a client of ours, after a moment for what is under way; the host's stays open."""
        await self.batcher.aclose()
        readers = [reader for line in self._lines.values() if (reader := line.hang_up())]
        await asyncio.gather(*readers, return_exceptions=True)
        if self._joining is not None:
            self._joining.cancel()
            await asyncio.wait([self._joining])
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
        """Close soon: a blocking caller in a running loop cannot await it."""
        self.closing = asyncio.get_running_loop().create_task(self.aclose())
        self.closing.add_done_callback(_hear)


class BlockingFace(_Face):
    """Answers steps for any number of threads of one process."""

    def __init__(self, client: Any, time: Known, *, own: bool, confirm: bool) -> None:
        super().__init__(client, time, own=own, confirm=confirm)
        self.turns: SimpleQueue[None] = SimpleQueue()  # a semaphore, at a tenth of its time
        for _ in range(CONCURRENCY):
            self.turns.put(None)

    def ask(self, step: Step, deadline: float) -> Any:
        """Answer one step."""
        match step:
            case Get():
                return (None, 0) if self._timeless(step.key) else self._fetch(step.key, deadline)
            case Run():
                return self._run(step, deadline)
            case Spread():
                return self._spread(step.commands, deadline) if step.commands else []
            case Keys():
                return self._through(
                    lambda: [_text(key) for key in self._page(step.pattern)], deadline
                )
            case Moment():
                known = self.time.now(self.server(step.key))
                return known or self._run(moment_of(step.key), deadline)[0]
            case _:
                assert_never(step)

    def _through(self, send: Callable[[], Any], deadline: float) -> Any:
        try:
            self.turns.get(timeout=max(0.0, deadline - elapsed()))
        except Empty:
            msg = f"{CONCURRENCY} requests of this process were under way"
            raise StorageUnavailable(msg) from None
        try:
            while True:
                try:
                    return send()
                except Exception as error:
                    if not faults.pool_exhausted(error) or elapsed() >= deadline:
                        raise
                delay_blocking(_POOL_PAUSE)
        finally:
            self.turns.put(None)

    def _run(self, run: Run, deadline: float) -> Any:
        named, whole = self._commands(run)
        try:
            return self._attempt(run, named, deadline)
        except Exception as error:
            if not faults.no_script(error):
                raise
        return self._attempt(run, whole, deadline)

    def _attempt(self, run: Run, command: Command, deadline: float) -> Any:
        sent = elapsed()
        reply = self._through(self._sender(run, command, deadline), deadline)
        return self._reply(run, reply, sent)

    def _spread(self, commands: Sequence[Command], deadline: float) -> Any:
        return self._through(lambda: self._pipeline(commands).execute(), deadline)

    def _fetch(self, key: str, deadline: float) -> Answer:
        now, commands = self._reads((key,))
        sent = elapsed()
        if len(commands) > 1:
            replies = self._spread(commands, deadline)
        else:
            (read,) = commands
            replies = [self._through(lambda: self._execute(read), deadline)]
        return self._answers((key,), now, replies, sent)[0]

    def listener(self, channel: str) -> Any:
        """Make a connection to the server that publishes to a channel."""
        client = self.client
        if self.cluster:
            client = client.get_redis_connection(self._node(channel))
        return self._made_like(client.connection_pool)

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
