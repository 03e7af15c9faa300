"""The blocking face, made awaitable: the same test case drives both.

Every call is made at once, in the thread of the caller, with no event loop beneath it. Only what
would wait for time to pass (`wait`, `watch`, `interrupted`) gets a thread of its own, so that
the test can move the clock meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Final, TypeVar, cast

import oppscan.sync
from oppscan.registry import ScanRegistry
from oppscan.testing.clock import ManualClock

T = TypeVar("T")

Expect = Callable[[threading.Thread], object]

_WAITS: Final = frozenset({"wait", "interrupted"})
_PLAIN: Final = frozenset({"for_owner", "claim", "watch"})


def awaitable(registry: oppscan.sync.ScanRegistry, clock: object) -> ScanRegistry:
    """Give a blocking registry the look of an async one."""
    expect: Expect = clock.expect if isinstance(clock, ManualClock) else _nobody_expects
    return cast("ScanRegistry", _Awaitable(registry, expect))


def _nobody_expects(thread: threading.Thread) -> None:
    """Time passes by itself."""


async def in_thread(expect: Expect, call: Callable[[], T]) -> T:
    """Run a blocking call in a new daemon thread, and await its end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if not done.done():
            done.set_result(cast("T", result)) if error is None else done.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as raised:  # noqa: BLE001 - handed to whoever awaits
            error = raised
        with suppress(RuntimeError):  # the test may be over, and its loop closed
            loop.call_soon_threadsafe(settle, result, error)

    thread = threading.Thread(target=run, daemon=True, name="blocking call of a test")
    thread.start()
    expect(thread)
    return await done


def run_at_once(coroutine: Coroutine[object, object, T]) -> T:
    """Run a coroutine that never has to wait, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    coroutine.close()
    msg = "this call would have to wait"
    raise RuntimeError(msg)


class _Awaitable:
    """Any object of the blocking face: its methods give awaitables, the rest passes through."""

    def __init__(self, target: object, expect: Expect) -> None:
        self._target = target
        self._expect = expect

    def __getattr__(self, name: str) -> object:
        value: object = getattr(self._target, name)
        if not callable(value):
            return value
        if name in _PLAIN:
            return lambda *args, **kwargs: self._wrap(name, value(*args, **kwargs))

        async def call(*args: object, **kwargs: object) -> object:
            if name in _WAITS:
                return await in_thread(self._expect, lambda: value(*args, **kwargs))
            return value(*args, **kwargs)

        return call

    def _wrap(self, name: str, value: object) -> object:
        return self._walk(value) if name == "watch" else _Awaitable(value, self._expect)

    async def _walk(self, statuses: object) -> AsyncGenerator[object]:
        end = object()
        while True:
            item = await in_thread(self._expect, lambda: next(statuses, end))  # type: ignore[call-overload]
            if item is end:
                return
            yield item

    async def aclose(self) -> None:
        """Close a registry."""
        cast("oppscan.sync.ScanRegistry", self._target).close()

    async def __aenter__(self) -> object:
        entered = self._target.__enter__()  # type: ignore[attr-defined]
        return self if entered is self._target else _Awaitable(entered, self._expect)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._target.__exit__(kind, error, traceback)  # type: ignore[attr-defined]
