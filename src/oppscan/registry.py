"""`ScanRegistry`: start, follow and read scans. The async face.

It decides nothing: `oppscan.operations` says what is asked of the stores, `oppscan.driver` asks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from oppscan import changing, reading
from oppscan.backends.push import bell_of
from oppscan.claim import ScanClaim
from oppscan.clock import elapsed
from oppscan.driver import Observer, drive
from oppscan.flow import Flow
from oppscan.inputs import Limits
from oppscan.lookup import LookupStep
from oppscan.model import LookupTrace, Page, Reuse, ScanResults, ScanState, ScanStatus, Ticket
from oppscan.opening import OP_TIMEOUT, BaseRegistry, Fallback, open_store
from oppscan.ttl import TTLPolicy
from oppscan.watching import Watch

T = TypeVar("T")


def connect(
    url: str,
    *,
    ttl: TTLPolicy | None = None,
    limits: Limits | None = None,
    fallbacks: Sequence[Fallback] = (),
    lookups: Sequence[str | LookupStep] | None = None,
    namespace: str = "oppscan",
    observers: Sequence[Observer] = (),
    op_timeout: float = OP_TIMEOUT,
    durability: str = "default",
) -> ScanRegistry:
    """Give a registry on the store that ``url`` names; nothing is connected until it is used.

    ``memory:`` (each one a new store), ``sqlite:///relative.db``, ``sqlite:////absolute.db``.
    The other arguments are those of `ScanRegistry`. Raises `InvalidInput`.
    """
    return ScanRegistry(
        open_store(url),
        ttl=ttl,
        limits=limits,
        fallbacks=fallbacks,
        lookups=lookups,
        namespace=namespace,
        observers=observers,
        op_timeout=op_timeout,
        durability=durability,
    )


class ScanRegistry(BaseRegistry):
    """Scans in a store, seen alike by every worker that opens it.

    Usable as it is, or as an async context manager that closes it. One object serves any number
    of tasks. Every operation ends within ``op_timeout`` seconds; all may raise
    `StorageUnavailable` and its siblings, and `InvalidInput` before anything is asked.

    ``fallbacks``: further stores, or their URLs, that are asked when the first one does not know
    a scan, or is down and theirs is finished. ``lookups``: the steps of a lookup, in order.
    ``observers``: called with an `Event` for what happens. ``durability``: ``"replicated"`` has
    every write confirmed by replicas, where the store can.
    """

    async def __aenter__(self) -> Self:
        """Give the registry itself; nothing is asked of the store."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of connections and files; never raises because a store is down."""
        for backend in self._stores.backends:
            await backend.aclose()

    async def _run(self, flow: Flow[T]) -> T:
        return await drive(flow, self._stores)

    # --- Starting and claiming ------------------------------------------------------------------

    async def start(
        self,
        owner: str,
        strategies: Iterable[str],
        *,
        params: Mapping[str, object] | None = None,
        metadata: Mapping[str, object] | None = None,
        key: str | None = None,
        reuse: Reuse = Reuse.ACTIVE,
    ) -> Ticket:
        """Start a scan, or join an equal one; it can be read before this returns.

        ``key`` names the request; by default `request_key` of strategies and params. Two equal
        requests of one owner share a live scan, unless ``reuse`` says otherwise. Raises
        `TooManyScans`. One round trip when nothing equal lives.
        """
        flow = self._operations.start(owner, strategies, params, metadata, key, reuse)
        return await self._run(flow)

    def claim(self, scan_id: str, *, owner: str | None = None) -> ScanClaim:
        """Give an async context manager that holds the scan while its block runs.

        Entering raises `ScanAlreadyClaimed`, `ScanFinished`, or what ``status`` raises.
        """
        entering = partial(self._operations.claim, scan_id, owner)
        scope = self._operations.scope
        return ScanClaim(entering, self._stores, self._clock, scope.ids, scope.limits)

    # --- Reading --------------------------------------------------------------------------------

    async def status(
        self, scan_id: str, *, owner: str | None = None, outcomes: bool = True
    ) -> ScanStatus:
        """Read one scan; ``outcomes=False`` leaves out those of the strategies. One round trip.

        Raises `ScanNotFound`, `ScanExpired`, `ScanLost`, `CorruptRecord`.
        """
        kept = self._operations.near(scan_id, owner, self._clock.elapsed(), outcomes=outcomes)
        if kept is not None:
            return kept
        flow = self._operations.status(scan_id, owner, outcomes=outcomes)
        status, left = await self._run(flow)
        if outcomes:
            self._operations.keep_near(status, left, self._clock.elapsed())
        return status

    async def results(
        self,
        scan_id: str,
        *,
        owner: str | None = None,
        partial: bool = False,
        after: str | None = None,
        limit: int | None = None,
    ) -> ScanResults:
        """Read what a scan found. One round trip.

        ``partial=True`` answers in every state; without it a live scan raises `ScanNotFinished`,
        a failed one `ScanFailed`, a cancelled one `ScanCancelled`. ``after``: the cursor of
        earlier results, for what came since; ``limit``: at most so many opportunities.
        """
        flow = self._operations.results(scan_id, owner, partial=partial, after=after, limit=limit)
        return await self._run(flow)

    async def latest(self, owner: str, *, key: str | None = None) -> ScanStatus:
        """Read the owner's newest started scan, in whatever state. One round trip."""
        return await self._run(self._operations.latest(owner, key))

    async def has_active_scan(self, owner: str, *, key: str | None = None) -> bool:
        """Tell whether the owner has a live scan that is not stalled."""
        return await self._run(self._operations.has_active_scan(owner, key))

    async def history(
        self,
        owner: str,
        *,
        states: Iterable[ScanState] | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[ScanStatus]:
        """List the owner's scans, newest first; expired ones as tombstones."""
        return await self._run(self._operations.history(owner, states, limit, after))

    async def explain(
        self, scan_id: str | None = None, *, owner: str | None = None, key: str | None = None
    ) -> LookupTrace:
        """Tell how a scan was looked for: each step, what it saw, its time, the TTL left."""
        answer = await self._run(self._operations.explain(scan_id, owner, key))
        return answer.trace

    async def stalled(self, limit: int = 100) -> list[ScanStatus]:
        """List scans of all owners that nobody works on, longest stalled first. O(answer).

        One whose record cannot be read is logged and left out: it is not for this worker.
        """
        return await self._run(self._operations.stalled(limit))

    # --- Following ------------------------------------------------------------------------------

    async def watch(self, scan_id: str, *, owner: str | None = None) -> AsyncGenerator[ScanStatus]:
        """Yield each status that is news, also when ``stalled`` changes, up to the final one."""
        watch = Watch()
        with closing(bell_of(self._first, self._stores.namespace, scan_id)) as bell:
            while True:
                listening = bell.listening
                status = await self.status(scan_id, owner=owner)
                if watch.tells(status):
                    yield status
                    if status.done:
                        return
                await bell.wait(watch.next_pause(listening=listening))

    async def wait(
        self,
        scan_id: str,
        *,
        owner: str | None = None,
        timeout: float | None = None,
    ) -> ScanStatus:
        """Give the final status; `TimeoutError` when it is not there after ``timeout`` seconds."""
        watch = Watch()
        deadline = watch.deadline(timeout, self._clock.elapsed())
        with closing(bell_of(self._first, self._stores.namespace, scan_id)) as bell:
            while True:
                listening = bell.listening
                status = await self.status(scan_id, owner=owner)
                if status.done:
                    return status
                watch.tells(status)
                now = self._clock.elapsed()
                await bell.wait(watch.until(deadline, now, status, listening=listening))

    # --- Changing -------------------------------------------------------------------------------

    async def cancel(self, scan_id: str, *, owner: str | None = None) -> ScanStatus:
        """Ask the holder to stop; a scan that nobody holds is cancelled at once."""
        return await self._run(self._operations.cancel(scan_id, owner))

    async def extend(
        self, scan_id: str, ttl: float | timedelta, *, owner: str | None = None
    ) -> ScanStatus:
        """Let a scan live for at least ``ttl`` from now. Never shortens, never revives."""
        return await self._run(self._operations.extend(scan_id, ttl, owner))

    async def forget(self, scan_id: str, *, owner: str | None = None) -> None:
        """Erase a scan from every store, or raise. Forgetting nothing succeeds."""
        await self._run(self._operations.forget(scan_id, owner))

    async def purge(self) -> int:
        """Drop what nobody may read any more, and count the scans that went.

        O(owners), in bites that each end within ``op_timeout``.
        """
        bite = await self._run(changing.purge(""))
        gone = bite.scans
        while bite.more:
            bite = await self._run(changing.purge(bite.beyond))
            gone += bite.scans
        return gone

    async def ping(self) -> float:
        """Give the seconds of one round trip to the store."""
        began = elapsed()
        await self._run(reading.ping())
        return elapsed() - began

    def for_owner(self, owner: str) -> OwnerScans:
        """Give the same registry with the owner filled in everywhere."""
        return OwnerScans(self, self._operations.checked_owner(owner))


class OwnerScans:
    """A registry as one owner sees it: what is another's is unknown here."""

    def __init__(self, registry: ScanRegistry, owner: str) -> None:
        self._registry = registry
        self.owner = owner

    async def start(
        self,
        strategies: Iterable[str],
        *,
        params: Mapping[str, object] | None = None,
        metadata: Mapping[str, object] | None = None,
        key: str | None = None,
        reuse: Reuse = Reuse.ACTIVE,
    ) -> Ticket:
        """`ScanRegistry.start` for this owner."""
        return await self._registry.start(
            self.owner, strategies, params=params, metadata=metadata, key=key, reuse=reuse
        )

    def claim(self, scan_id: str) -> ScanClaim:
        """`ScanRegistry.claim` for this owner."""
        return self._registry.claim(scan_id, owner=self.owner)

    async def status(self, scan_id: str, *, outcomes: bool = True) -> ScanStatus:
        """`ScanRegistry.status` for this owner."""
        return await self._registry.status(scan_id, owner=self.owner, outcomes=outcomes)

    async def results(
        self,
        scan_id: str,
        *,
        partial: bool = False,
        after: str | None = None,
        limit: int | None = None,
    ) -> ScanResults:
        """`ScanRegistry.results` for this owner."""
        return await self._registry.results(
            scan_id, owner=self.owner, partial=partial, after=after, limit=limit
        )

    async def latest(self, *, key: str | None = None) -> ScanStatus:
        """`ScanRegistry.latest` for this owner."""
        return await self._registry.latest(self.owner, key=key)

    async def has_active_scan(self, *, key: str | None = None) -> bool:
        """`ScanRegistry.has_active_scan` for this owner."""
        return await self._registry.has_active_scan(self.owner, key=key)

    async def history(
        self,
        *,
        states: Iterable[ScanState] | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[ScanStatus]:
        """`ScanRegistry.history` for this owner."""
        return await self._registry.history(self.owner, states=states, limit=limit, after=after)

    async def explain(self, scan_id: str | None = None, *, key: str | None = None) -> LookupTrace:
        """`ScanRegistry.explain` for this owner."""
        return await self._registry.explain(scan_id, owner=self.owner, key=key)

    def watch(self, scan_id: str) -> AsyncGenerator[ScanStatus]:
        """`ScanRegistry.watch` for this owner."""
        return self._registry.watch(scan_id, owner=self.owner)

    async def wait(self, scan_id: str, *, timeout: float | None = None) -> ScanStatus:
        """`ScanRegistry.wait` for this owner."""
        return await self._registry.wait(scan_id, owner=self.owner, timeout=timeout)

    async def cancel(self, scan_id: str) -> ScanStatus:
        """`ScanRegistry.cancel` for this owner."""
        return await self._registry.cancel(scan_id, owner=self.owner)

    async def extend(self, scan_id: str, ttl: float | timedelta) -> ScanStatus:
        """`ScanRegistry.extend` for this owner."""
        return await self._registry.extend(scan_id, ttl, owner=self.owner)

    async def forget(self, scan_id: str) -> None:
        """`ScanRegistry.forget` for this owner."""
        await self._registry.forget(scan_id, owner=self.owner)
