"""What both faces offer, as flows: arguments are checked here, before any store is asked.

Laws
- A string that cannot be this owner's scan is unknown, without I/O; what is no string is invalid.
- The faces add nothing to an operation but how it waits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from datetime import timedelta

from attrs import evolve
from msgspec import Struct

from oppscan import changing, listing, reading
from oppscan.errors import InvalidInput, ScanNotFound
from oppscan.flow import Flow
from oppscan.holding import Holding
from oppscan.inputs import (
    check_count,
    check_description,
    check_description_size,
    check_reuse,
    check_scan_id,
    check_strategies,
    check_text,
    key_of,
    owner_tag,
)
from oppscan.lookup import Answer
from oppscan.model import Page, Reuse, ScanResults, ScanState, ScanStatus, Ticket
from oppscan.reading import Scope
from oppscan.record import Spec
from oppscan.results import read_cursor, read_limit
from oppscan.sightings import Query
from oppscan.ttl import duration, to_ms


class Operations(Struct, frozen=True):
    """The operations of one registry."""

    scope: Scope

    def start(  # noqa: PLR0917 - the arguments of ``start``
        self,
        owner: str,
        strategies: Iterable[str],
        params: Mapping[str, object] | None,
        metadata: Mapping[str, object] | None,
        key: str | None,
        reuse: Reuse,
    ) -> Flow[Ticket]:
        """Check and start."""
        limits = self.scope.limits
        owner = check_text(owner, "owner")
        names = check_strategies(strategies, limits.max_strategies)
        plain = check_description(params, "params")
        more = check_description(metadata, "metadata")
        check_description_size(plain, more, limits.max_params_bytes)
        named = key_of(names, plain) if key is None else check_text(key, "key")
        order = changing.Order(owner, Spec(plain, more, names), named, check_reuse(reuse))
        return changing.start(self.scope, order)

    def status(
        self, scan_id: str, owner: str | None, *, outcomes: bool
    ) -> Flow[tuple[ScanStatus, float]]:
        """Check and read."""
        self.known(scan_id, owner)
        return reading.status(self.scope, scan_id, owner, outcomes=outcomes)

    def results(
        self, scan_id: str, owner: str | None, *, partial: bool, after: object, limit: object
    ) -> Flow[ScanResults]:
        """Check and read the results."""
        cursor, most = read_cursor(after), read_limit(limit)
        self.known(scan_id, owner)
        return reading.results(
            self.scope, scan_id, owner, partial=partial, cursor=cursor, limit=most
        )

    def latest(self, owner: str, key: str | None) -> Flow[ScanStatus]:
        """Check and read the newest."""
        self._owner_and_key(owner, key)
        return reading.latest(self.scope, owner, key)

    def has_active_scan(self, owner: str, key: str | None) -> Flow[bool]:
        """Check and ask."""
        self._owner_and_key(owner, key)
        return listing.has_active(self.scope, owner, key)

    def history(
        self, owner: str, states: Iterable[ScanState] | None, limit: int, after: str | None
    ) -> Flow[Page[ScanStatus]]:
        """Check and list."""
        check_text(owner, "owner")
        check_count(limit, "limit")
        before = _page_cursor(after)
        wanted = None if states is None else frozenset(_state(state) for state in _each(states))
        return listing.history(self.scope, owner, wanted, limit, before)

    def cancel(self, scan_id: str, owner: str | None) -> Flow[ScanStatus]:
        """Check and cancel."""
        self.known(scan_id, owner)
        return changing.cancel(self.scope, scan_id, owner)

    def extend(self, scan_id: str, ttl: float | timedelta, owner: str | None) -> Flow[ScanStatus]:
        """Check and extend."""
        milliseconds = to_ms(duration(ttl, "ttl"))
        self.known(scan_id, owner)
        return changing.extend(self.scope, scan_id, owner, milliseconds)

    def forget(self, scan_id: str, owner: str | None) -> Flow[None]:
        """Check and forget; what cannot be there is forgotten already."""
        if not self._possible(scan_id, owner):
            return _nothing()
        return changing.forget(self.scope, scan_id, owner)

    def claim(self, scan_id: str, owner: str | None) -> Flow[Holding]:
        """Check and claim."""
        self.known(scan_id, owner)
        return changing.claim(self.scope, scan_id, owner)

    def stalled(self, limit: int) -> Flow[list[ScanStatus]]:
        """Check and list."""
        return listing.stalled(check_count(limit, "limit"))

    def explain(self, scan_id: str | None, owner: str | None, key: str | None) -> Flow[Answer]:
        """Check and trace."""
        if scan_id is None:
            if owner is None:
                msg = "explain needs a scan_id, or an owner"
                raise InvalidInput(msg)
            self._owner_and_key(owner, key)
            return reading.explain(self.scope, reading.newest(owner, key))
        if not self._possible(scan_id, owner):
            return reading.explained_without_asking(scan_id, owner)
        return reading.explain(self.scope, Query(scan_id, owner))

    def near(
        self, scan_id: str, owner: str | None, now: float, *, outcomes: bool
    ) -> ScanStatus | None:
        """Give the status of a finished scan from this process's memory, where opted in."""
        if not self.scope.policy.near_ttl or "near" not in self.scope.sources.steps:
            return None
        self.known(scan_id, owner)
        status = self.scope.near.status(scan_id, now)
        if status is None or owner not in {None, status.owner}:
            return None
        params, metadata = deepcopy((status.params, status.metadata))  # each caller's to change
        shown = status.outcomes if outcomes else ()
        return evolve(status, params=params, metadata=metadata, outcomes=shown)

    def keep_near(self, status: ScanStatus, left: float, now: float) -> None:
        """Remember the status of a finished scan, where opted in, while it lives."""
        if status.done and self.scope.policy.near_ttl and "near" in self.scope.sources.steps:
            self.scope.near.keep_status(status, now + min(left, self.scope.policy.near_ttl))

    def checked_owner(self, owner: str) -> str:
        """Check an owner."""
        return check_text(owner, "owner")

    def known(self, scan_id: str, owner: str | None) -> None:
        """Raise `ScanNotFound` for an id that cannot be this owner's scan."""
        if not self._possible(scan_id, owner):
            raise ScanNotFound.of(scan_id)

    def _possible(self, scan_id: str, owner: str | None) -> bool:
        if owner is not None:
            check_text(owner, "owner")
        possible = check_scan_id(scan_id)
        return possible and (owner is None or scan_id.startswith(owner_tag(owner)))

    def _owner_and_key(self, owner: str, key: str | None) -> None:
        check_text(owner, "owner")
        if key is not None:
            check_text(key, "key")


def _nothing() -> Flow[None]:
    return
    yield


def _each(states: object) -> Sequence[object]:
    if isinstance(states, str) or not isinstance(states, Iterable):
        msg = f"states must be a collection of ScanState, not {states!r}"
        raise InvalidInput(msg)
    return list(states)


def _page_cursor(after: object) -> str:
    if after is None:
        return ""
    if not isinstance(after, str) or not re.fullmatch(r"[0-9]{1,20}", after):
        msg = f"after must be the cursor of an earlier page, not {after!r}"
        raise InvalidInput(msg)
    return after


def _state(value: object) -> ScanState:
    try:
        return ScanState(str(value))
    except ValueError:
        msg = f"states: {value!r} is none of {', '.join(ScanState)}"
        raise InvalidInput(msg) from None
