"""Being told of news instead of looking for it: an optional ability of stores.

Laws
- A bell only ever shortens a pause. Whoever waited looks at the store, whether it rang or not, so
  a message that is lost costs a pause, never an answer.
- It may ring for nothing. While it is ``listening`` it rings for all news of its scan.
"""

from __future__ import annotations

import threading
from typing import Protocol, runtime_checkable

from oppscan.backends.base import StorageBackend
from oppscan.clock import Clock


class Bell(Protocol):
    """Rings for news of one scan."""

    @property
    def listening(self) -> bool:
        """Whether it will ring for all that is written from now on."""
        ...

    async def wait(self, seconds: float) -> None:
        """Pause until it rings, or ``seconds`` are over; at once where it rang since the last."""
        ...

    def close(self) -> None:
        """Let go of what listens."""
        ...


class BlockingBell(Protocol):
    """The same, for a caller that blocks."""

    @property
    def listening(self) -> bool:
        """Whether it will ring for all that is written from now on."""
        ...

    def wait(self, seconds: float) -> None:
        """Pause until it rings, or ``seconds`` are over; at once where it rang since the last."""
        ...

    def close(self) -> None:
        """Let go of what listens."""
        ...


@runtime_checkable
class Pushing(Protocol):
    """A store that can tell of news. It need not reach anything to give a bell, nor ever raises."""

    def bell(self, namespace: str, scan_id: str) -> Bell:
        """Give a bell for the running event loop."""
        ...

    def bell_blocking(self, namespace: str, scan_id: str) -> BlockingBell:
        """Give a bell for the running thread."""
        ...


class Silence:
    """The bell of a store that cannot tell: it only pauses."""

    listening = False

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def wait(self, seconds: float) -> None:
        """Pause."""
        await self._clock.sleep(seconds)

    def close(self) -> None:
        """Nothing listens."""


class BlockingSilence:
    """The same, for a caller that blocks."""

    listening = False

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def wait(self, seconds: float) -> None:
        """Pause."""
        self._clock.wait(threading.Event(), seconds)

    def close(self) -> None:
        """Nothing listens."""


def bell_of(store: StorageBackend, namespace: str, scan_id: str) -> Bell:
    """Give the bell of a scan, whatever its store can do."""
    if isinstance(store, Pushing):
        return store.bell(namespace, scan_id)
    return Silence(store.clock)


def blocking_bell_of(store: StorageBackend, namespace: str, scan_id: str) -> BlockingBell:
    """Give the bell of a scan to a caller that blocks."""
    if isinstance(store, Pushing):
        return store.bell_blocking(namespace, scan_id)
    return BlockingSilence(store.clock)
