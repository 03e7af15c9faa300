"""Submitting to an executor, with what Dask's own leaves open.

Laws
- Every future ends. Those of Dask's ``ClientExecutor`` may not: where an answer is lost with its
  worker before it was fetched, and running it anew fails, that failure is only logged. So the
  answer is fetched here, and whatever fetching it raises is the future's end.
- Dask is never imported: an executor of Dask's can only come from a host that did.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Protocol, TypeVar, cast
from weakref import WeakSet

T = TypeVar("T")


class _Loop(Protocol):
    asyncio_loop: asyncio.AbstractEventLoop


class _Client(Protocol):
    loop: _Loop

    def submit(self, call: Callable[[], object], /, **options: object) -> object: ...

    def gather(self, future: object, *, asynchronous: bool) -> Awaitable[object]: ...

    def cancel(self, future: object, *, asynchronous: bool) -> Awaitable[object]: ...


class _ClientExecutor(Protocol):
    _client: _Client
    _kwargs: Mapping[str, object]
    _shutdown: bool
    _futures: WeakSet[object]


def submit(executor: Executor, call: Callable[[], T]) -> Future[T]:
    """Run a call in an executor; raises what its own ``submit`` raises."""
    if not is_dask(executor):
        return executor.submit(call)
    return _submit_to_dask(cast("_ClientExecutor", executor), call)


def is_dask(executor: Executor) -> bool:
    """Tell whether an executor is one of Dask's: then all that a factory makes share a cluster."""
    dask = sys.modules.get("distributed.cfexecutor")
    return dask is not None and isinstance(executor, dask.ClientExecutor)


def _submit_to_dask(executor: _ClientExecutor, call: Callable[[], T]) -> Future[T]:
    if executor._shutdown:  # noqa: SLF001 - Dask tells it no other way
        raise RuntimeError("cannot schedule new futures after shutdown")
    client = executor._client  # noqa: SLF001 - nor this
    task = client.submit(call, **executor._kwargs)  # noqa: SLF001 - nor these
    executor._futures.add(task)  # noqa: SLF001 - what its shutdown waits for, or cancels

    async def fetch() -> T:
        fetching = asyncio.ensure_future(client.gather(task, asynchronous=True))
        try:
            return cast("T", await asyncio.shield(fetching))
        except asyncio.CancelledError:  # nobody waits for it any more
            await client.cancel(task, asynchronous=True)
            await asyncio.gather(fetching, return_exceptions=True)
            raise

    return asyncio.run_coroutine_threadsafe(fetch(), client.loop.asyncio_loop)
