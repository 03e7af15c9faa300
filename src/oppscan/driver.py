"""The two drivers of flows: one awaits, one blocks. They decide nothing.

Laws
- An operation ends within its timeout, with `StorageUnavailable` when a store does not answer.
- A request whose reply was lost is repeated with the same ids, so it is applied once.
- What follows a write in its flow is seen through like the write.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from oppscan.backends.base import StorageBackend
from oppscan.clock import delay, delay_blocking, elapsed
from oppscan.errors import InvalidInput, OppscanError, StorageUnavailable
from oppscan.flow import AskHost, Call, Flow, Tell, next_pause, share_of
from oppscan.model import Event, ScanStatus

T = TypeVar("T")
Observer = Callable[[Event], None]

logger: Final = logging.getLogger("oppscan")


class Stores(Struct, frozen=True):
    """The stores of one registry, the first one first, and whom to tell what happens."""

    backends: tuple[StorageBackend, ...]
    namespace: str
    timeout: float
    observers: tuple[Observer, ...] = ()

    def deadline(self) -> float:
        """Give when an operation that begins now must have ended, on the clock of `elapsed`."""
        return elapsed() + self.timeout

    def tell(self, news: Tell) -> None:
        """Tell the log and the observers, where anybody listens."""
        level = logging.WARNING if news.warn else logging.DEBUG
        if self.observers or logger.isEnabledFor(level):
            for event in news.events:
                self._tell(event, level)

    def _tell(self, event: Event, level: int) -> None:
        """Tell one event; an observer that raises is logged, no more."""
        shown = {"scan_id": event.scan_id, "owner": event.owner, "detail": event.detail}
        logger.log(level, "%s scan=%s %s", event.kind, event.scan_id, event.detail, extra=shown)
        for observer in self.observers:
            try:
                observer(event)
            except Exception:  # foreign code; what it raises must not fail the operation
                logger.exception("observer %r failed on %s", observer, event.kind)


def _late(call: Call[Any], stores: Stores) -> StorageUnavailable:
    backend = stores.backends[call.store]
    return StorageUnavailable(f"{backend!r} gave no answer within {stores.timeout:g} s")


async def drive(flow: Flow[T], stores: Stores, deadline: float | None = None) -> T:
    """Run a flow, awaiting its stores; until ``deadline``, by default its timeout from now."""
    deadline = stores.deadline() if deadline is None else deadline
    answer: object = None
    error: Exception | None = None
    wrote = False
    while True:
        try:
            wish = flow.send(answer) if error is None else flow.throw(error)
        except StopIteration as stop:
            result: T = stop.value
            return result
        answer = error = None
        try:
            if isinstance(wish, Call):
                began = elapsed()
                call = replace(wish, follows_write=True) if wrote else wish
                wrote = wrote or wish.writes
                answer = (await _call(call, stores, deadline), elapsed() - began)
            elif isinstance(wish, Tell):
                stores.tell(wish)
            else:
                began = elapsed()
                async with asyncio.timeout(max(0.0, deadline - began)):
                    answer = (await _ask_host(wish), elapsed() - began)
        except Exception as raised:  # noqa: BLE001 - the flow decides what it means
            error = raised


async def _call(call: Call[Any], stores: Stores, deadline: float) -> object:
    backend = stores.backends[call.store]
    tries = 0
    while True:
        tries += 1
        left = deadline - elapsed()
        if left <= 0:
            raise _late(call, stores)
        share = share_of(left, call, len(stores.backends), tries)
        try:
            if backend.immediate:
                return await backend.execute(call.request, stores.namespace, share)
            async with asyncio.timeout(share):
                return await backend.execute(call.request, stores.namespace, share)
        except (StorageUnavailable, TimeoutError) as error:
            pause = next_pause(call, tries, deadline - elapsed())
            if pause is None:
                raise _failure(error, call, stores) from error
        if pause:
            await delay(pause)


async def _ask_host(wish: AskHost) -> ScanStatus | None:
    found = wish.find(wish.scan_id, wish.owner)
    return await found if inspect.isawaitable(found) else found


def drive_blocking(flow: Flow[T], stores: Stores, deadline: float | None = None) -> T:
    """Run a flow, blocking on its stores; no event loop, no other thread."""
    deadline = stores.deadline() if deadline is None else deadline
    answer: object = None
    error: Exception | None = None
    wrote = False
    while True:
        try:
            wish = flow.send(answer) if error is None else flow.throw(error)
        except StopIteration as stop:
            result: T = stop.value
            return result
        answer = error = None
        try:
            if isinstance(wish, Call):
                began = elapsed()
                call = replace(wish, follows_write=True) if wrote else wish
                wrote = wrote or wish.writes
                answer = (_call_blocking(call, stores, deadline), elapsed() - began)
            elif isinstance(wish, Tell):
                stores.tell(wish)
            else:
                began = elapsed()
                answer = (_ask_host_blocking(wish), elapsed() - began)
        except Exception as raised:  # noqa: BLE001 - the flow decides what it means
            error = raised


def _call_blocking(call: Call[Any], stores: Stores, deadline: float) -> object:
    backend = stores.backends[call.store]
    tries = 0
    while True:
        tries += 1
        left = deadline - elapsed()
        if left <= 0:
            raise _late(call, stores)
        share = share_of(left, call, len(stores.backends), tries)
        try:
            return backend.execute_blocking(call.request, stores.namespace, share)
        except StorageUnavailable as error:
            pause = next_pause(call, tries, deadline - elapsed())
            if pause is None:
                raise
            del error
        if pause:
            delay_blocking(pause)


def _ask_host_blocking(wish: AskHost) -> ScanStatus | None:
    found = wish.find(wish.scan_id, wish.owner)
    if inspect.iscoroutine(found):
        found.close()
        msg = "a blocking registry cannot await its host's lookup; give it a plain function"
        raise InvalidInput(msg)
    return cast("ScanStatus | None", found)


def _failure(error: Exception, call: Call[Any], stores: Stores) -> OppscanError:
    return error if isinstance(error, StorageUnavailable) else _late(call, stores)
