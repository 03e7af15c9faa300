"""Bells that Redis rings: scripts publish each scan's news, whoever watches subscribes.

In a cluster messages are sharded: they stay on the server that holds the scan.

Laws
- One connection for all watchers of one event loop and server; a blocking watcher has its own,
  at most `MOST_BLOCKING` of them in a process.
- Nothing is connected before somebody waits, and nothing stays when nobody does.
- Whatever goes wrong here only means that watchers look as often as without.
"""

# ruff: noqa: ANN401 - the connections of redis-py are typed as they come

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from oppscan.backends.redis import faults
from oppscan.backends.redis.clients import DEADLINE
from oppscan.clock import delay_blocking, elapsed
from oppscan.errors import OppscanError, StorageUnavailable

CONNECTING: Final = 1.0
"""Seconds for a connection to be made; watchers look meanwhile."""

RETRY: Final = 2.0
"""Seconds until a connection that was lost, or refused, is tried again."""

MOST_BLOCKING: Final = 32

_IDLE: Final = 86_400.0
"""Seconds for which no news is no fault."""

_NEWS: Final = frozenset({b"message", b"smessage"})
_CONFIRMED: Final = frozenset({b"subscribe", b"ssubscribe"})
_RAW: Final[dict[str, Any]] = {"disable_decoding": True, "push_request": True}

FAULTS: Final[tuple[type[BaseException], ...]] = (*faults.FAULTS, OppscanError)


def verb(word: str, *, sharded: bool) -> str:
    """Give the command that listens, or stops to."""
    return f"S{word}" if sharded else word


class Line:
    """All that one event loop hears of one server; ``make`` gives a connection to it."""

    def __init__(self, make: Callable[[], Any], *, sharded: bool) -> None:
        self._make = make
        self._sharded = sharded
        self._rings: dict[bytes, set[asyncio.Event]] = {}
        self._heard: set[bytes] = set()
        self._connection: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._senders: set[asyncio.Task[None]] = set()
        self._tried = -RETRY

    def hears(self, channel: bytes) -> bool:
        """Tell whether a channel is subscribed to; see to it that it will be."""
        if self._reader is None and elapsed() - self._tried >= RETRY:
            self._tried = elapsed()
            self._reader = asyncio.get_running_loop().create_task(self._read())
        return channel in self._heard

    def add(self, channel: bytes, ring: asyncio.Event) -> None:
        """Ring for news of a channel."""
        rings = self._rings.setdefault(channel, set())
        if not rings:
            self._send("SUBSCRIBE", channel)
        rings.add(ring)

    def remove(self, channel: bytes, ring: asyncio.Event) -> None:
        """Ring no more; the last one hangs up."""
        rings = self._rings.get(channel, set())
        rings.discard(ring)
        if rings:
            return
        self._rings.pop(channel, None)
        self._heard.discard(channel)
        if self._rings:
            self._send("UNSUBSCRIBE", channel)
        else:
            self.hang_up()

    def hang_up(self) -> asyncio.Task[None] | None:
        """End the connection; gives what is still about to end."""
        reader, self._reader = self._reader, None
        self._tried = -RETRY
        if reader is not None:
            reader.cancel()
        return reader

    def _send(self, word: str, channel: bytes) -> None:
        connection = self._connection
        if connection is not None:
            task = asyncio.get_running_loop().create_task(self._tell(connection, word, channel))
            self._senders.add(task)
            task.add_done_callback(self._senders.discard)

    async def _tell(self, connection: Any, word: str, channel: bytes) -> None:
        """Send while it is connected: redis-py would connect anew to send."""
        with suppress(*FAULTS):  # then the reader is told so, too
            if connection.is_connected:
                await connection.send_command(verb(word, sharded=self._sharded), channel)

    async def _read(self) -> None:
        """Take in what comes, until the connection is lost or hung up."""
        connection = None
        try:
            connection = self._make()
            async with asyncio.timeout(CONNECTING):
                await connection.connect()
            self._connection = connection
            for channel in tuple(self._rings):
                await self._tell(connection, "SUBSCRIBE", channel)
            while True:
                self._take(await connection.read_response(timeout=_IDLE, **_RAW))
        except FAULTS:
            self._reader = None
        finally:
            if self._connection is connection:
                self._connection = None
                self._fall_silent()
            if connection is not None:
                with suppress(*FAULTS):
                    await connection.disconnect(nowait=True)

    def _take(self, message: Any) -> None:
        kind, channel = message[0], message[1]
        if kind in _NEWS:
            for ring in self._rings.get(channel, ()):
                ring.set()
        elif kind in _CONFIRMED and channel in self._rings:
            self._heard.add(channel)
        else:  # unsubscribed, by us or because the channel has moved to another server
            self._heard.discard(channel)

    def _fall_silent(self) -> None:
        """Wake all: what was missed must be looked for."""
        self._heard.clear()
        for rings in self._rings.values():
            for ring in rings:
                ring.set()


class LoopBell:
    """The bell of one watcher on an event loop; ``find`` gives line and channel."""

    def __init__(self, find: Callable[[], tuple[Line, bytes]]) -> None:
        self._find = find
        self._line: Line | None = None
        self._channel = b""
        self._since = 0.0
        self._ring = asyncio.Event()

    @property
    def listening(self) -> bool:
        """Whether it will ring for all that is written from now on."""
        return self._line is not None and self._line.hears(self._channel)

    async def wait(self, seconds: float) -> None:
        """Pause until it rings, or ``seconds`` are over; at once where it rang since the last."""
        if not self.listening and elapsed() - self._since >= RETRY:
            self.close()  # another server may have it by now
        if self._line is None:
            self._line, self._channel = self._find()
            self._line.add(self._channel, self._ring)
            self._line.hears(self._channel)
            self._since = elapsed()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ring.wait()
        self._ring.clear()

    def close(self) -> None:
        """Let go of what listens."""
        line, self._line = self._line, None
        if line is not None:
            with suppress(RuntimeError):  # the loop was closed before its watchers
                line.remove(self._channel, self._ring)


class ThreadBell:
    """The bell of one watcher in a thread, with a connection of its own.

    ``find`` gives a connection, the channel, and whether it is sharded; ``turns`` bounds how many
    connections there are.
    """

    def __init__(
        self, find: Callable[[], tuple[Any, bytes, bool]], turns: threading.Semaphore
    ) -> None:
        self._find = find
        self._turns = turns
        self._connection: Any = None
        self._tried = -RETRY
        self.listening: bool = False

    def wait(self, seconds: float) -> None:
        """Pause until it rings, or ``seconds`` are over; at once where it rang since the last."""
        until = elapsed() + seconds
        try:
            if self._connected():
                while self._connection.can_read(max(0.0, until - elapsed())):
                    if self._take(self._connection.read_response(**_RAW)):
                        return
        except FAULTS:
            missing = self.listening  # what was missed must be looked for
            self.close()
            if missing:
                return
        delay_blocking(max(0.0, until - elapsed()))

    def _connected(self) -> bool:
        """Connect, where that was not tried just now, and as long as there are not too many."""
        if self._connection is not None:
            return True
        if elapsed() - self._tried < RETRY or not self._turns.acquire(blocking=False):
            return False
        self._tried = elapsed()
        token = DEADLINE.set(self._tried + CONNECTING)
        try:
            self._connection, channel, sharded = self._find()
            self._connection.connect()
            self._connection.send_command(verb("SUBSCRIBE", sharded=sharded), channel)
        finally:
            DEADLINE.reset(token)
            if self._connection is None:
                self._turns.release()
        return True

    def _take(self, message: Any) -> bool:
        """Take in a message; tell whether it is news."""
        kind = message[0]
        if kind in _CONFIRMED:
            self.listening = True
        elif kind not in _NEWS:
            raise StorageUnavailable("the channel has moved to another server")
        return kind in _NEWS

    def close(self) -> None:
        """Let go of what listens."""
        connection, self._connection = self._connection, None
        self.listening = False
        if connection is not None:
            self._turns.release()
            with suppress(*FAULTS):
                connection.disconnect()
