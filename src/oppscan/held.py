"""What claims of both faces have in common: what is held, and whether it may be written."""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import deepcopy
from functools import cached_property
from math import inf
from typing import Final

from oppscan.clock import Clock, IdSource, elapsed
from oppscan.driver import Stores
from oppscan.errors import ClaimLost, InvalidInput
from oppscan.flow import Flow
from oppscan.holding import Holding
from oppscan.inputs import Limits
from oppscan.model import JSON, ScanStatus

LAST_TRY: Final = 0.5
"""Seconds that a write is given when there is no time left: to a healthy store it is plenty."""


class HeldScan:
    """A scan that is held, as its holder sees it; the faces add how it is written."""

    def __init__(
        self,
        entering: Callable[[], Flow[Holding]],
        stores: Stores,
        clock: Clock,
        ids: IdSource,
        limits: Limits,
    ) -> None:
        self.limits = limits
        self._entering = entering
        self._stores = stores
        self._clock = clock
        self._ids = ids
        self._process = os.getpid()
        self._held: Holding | None = None
        self.ends_at: float = inf  # for runners: when the last write should be through

    def _enter(self) -> Flow[Holding]:
        """Take the scan; once a try has succeeded, `InvalidInput`."""
        if self._held is not None:
            msg = f"the claim on scan {self.scan_id} was entered before; make another one"
            raise InvalidInput(msg, scan_id=self.scan_id)
        self._process = os.getpid()
        return self._entering()

    @property
    def holding(self) -> Holding:
        """What is held; for runners."""
        if self._held is None:
            msg = "this claim was not entered; use it as `with registry.claim(scan_id) as scan`"
            raise ClaimLost(msg)
        return self._held

    @cached_property
    def _description(self) -> tuple[JSON, JSON]:
        spec = self.holding.spec
        return deepcopy((spec.params, spec.metadata))

    @property
    def scan_id(self) -> str:
        """The scan."""
        return self.holding.scan.scan_id

    @property
    def owner(self) -> str:
        """Whose scan it is."""
        return self.holding.scan.head.owner

    @property
    def params(self) -> JSON:
        """What the scan was started with; a copy, this claim's to change."""
        return self._description[0]

    @property
    def metadata(self) -> JSON:
        """What the host noted beside the params; a copy, too."""
        return self._description[1]

    @property
    def remaining(self) -> tuple[str, ...]:
        """The strategies without an outcome, in declared order. O(strategies)."""
        return self.holding.remaining

    @property
    def token(self) -> int:
        """The fencing token: greater than that of every claim before."""
        return self.holding.scan.head.token

    @property
    def cancel_requested(self) -> bool:
        """Whether cancellation was asked for, as of the latest write or heartbeat."""
        return self.holding.scan.head.cancel_requested

    @property
    def status(self) -> ScanStatus:
        """The scan as this claim knows it, without asking the store."""
        return self.holding.status

    def _write_until(self) -> float:
        """Give when a write that begins now must be through; there is always time for a try."""
        return min(self._stores.deadline(), max(self.ends_at, elapsed() + LAST_TRY))

    @property
    def _stopping(self) -> bool:
        """Whether there is reason to stop: cancellation was asked for, or the claim has ended."""
        return self.holding.ended is not None or self.cancel_requested

    @property
    def _forked(self) -> bool:
        """Whether this is a forked child of the process that claimed."""
        return os.getpid() != self._process

    def _refuse_in_child(self) -> None:
        """Refuse to write from a forked child."""
        if self._forked:
            msg = (
                f"the claim on scan {self.scan_id} belongs to the parent process and did not "
                "cross the fork"
            )
            raise ClaimLost(msg, scan_id=self.scan_id)

    def _writable(self) -> Holding:
        """Refuse to write with a claim that ended, or from a forked child."""
        holding = self.holding
        self._refuse_in_child()
        if not holding.writable:
            raise holding.lost()
        return holding
