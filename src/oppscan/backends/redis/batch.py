"""Reads of one event loop that leave together.

Laws
- A lone read leaves at once. What is asked while one is under way waits for its end, or for
  `PATIENCE`, and leaves as one ``MGET`` for each slot.
- Equal reads share an answer, but never one whose request was sent before they were asked: the
  store's answer must not be older than the question.
- A reader that is cancelled takes nobody with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from oppscan.clock import elapsed

Answer = tuple[bytes | None, int]
Fetch = Callable[[Sequence[str], float], Awaitable[list[Answer]]]

PATIENCE: Final = 0.01
"""Seconds that a read waits for the one before it; a slow one must not hold up all others."""

LARGEST: Final = 256
"""Keys in one ``MGET``: a server serves nobody else meanwhile."""


class Batcher:
    """Gathers the reads of one loop. ``fetch`` reads many keys of one slot; ``slot`` names it."""

    def __init__(self, fetch: Fetch, slot: Callable[[str], str]) -> None:
        self._fetch = fetch
        self._slot = slot
        self._flying = 0
        self._waiting: dict[str, list[asyncio.Future[Answer]]] = {}
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._flights: set[asyncio.Task[None]] = set()

    async def get(self, key: str, deadline: float) -> Answer:
        """Read one key, until ``deadline`` on the clock of `elapsed`."""
        if not self._flying and not self._waiting:
            self._flying += 1
            try:
                return (await self._fetch((key,), deadline))[0]
            finally:
                self._landed()
        self._deadline = max(self._deadline, deadline)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.setdefault(key, []).append(future)
        if self._timer is None:
            self._timer = loop.call_later(PATIENCE, self._depart)
        return await future

    def _landed(self) -> None:
        self._flying -= 1
        if not self._flying and self._timer is not None:
            self._timer.cancel()
            self._depart()

    def _depart(self) -> None:
        """Send all that waits."""
        self._timer = None
        waiting, self._waiting = self._waiting, {}
        deadline, self._deadline = self._deadline, 0.0
        slots: dict[str, list[str]] = {}
        for key in waiting:
            slots.setdefault(self._slot(key), []).append(key)
        for keys in slots.values():
            for start in range(0, len(keys), LARGEST):
                batch = {key: waiting[key] for key in keys[start : start + LARGEST]}
                self._flying += 1
                task = asyncio.get_running_loop().create_task(self._fly(batch, deadline))
                self._flights.add(task)
                task.add_done_callback(self._flights.discard)

    async def _fly(self, batch: dict[str, list[asyncio.Future[Answer]]], deadline: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, deadline - elapsed())):
                answers = await self._fetch(tuple(batch), deadline)
        except BaseException as error:
            told = error if isinstance(error, Exception) else ConnectionError("it was cut off")
            for future in _waiters(batch):
                future.set_exception(told)
            if not isinstance(error, Exception):
                raise
        else:
            for key, answer in zip(batch, answers, strict=True):
                for future in _waiters({key: batch[key]}):
                    future.set_result(answer)
        finally:
            self._landed()

    async def aclose(self) -> None:
        """End what is under way."""
        flights = tuple(self._flights)
        for task in flights:
            task.cancel()
        await asyncio.gather(*flights, return_exceptions=True)


def _waiters(
    batch: dict[str, list[asyncio.Future[Answer]]],
) -> list[asyncio.Future[Answer]]:
    """List those who still wait."""
    return [future for futures in batch.values() for future in futures if not future.done()]
