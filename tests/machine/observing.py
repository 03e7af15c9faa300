"""What is asked of every store after each step of the state machine, beside the model.

G2: no observer ever sees a scan go back. All else: each answer must be the model's, on every
store alike.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, ClassVar, TypeVar

from attrs import define
from hypothesis.stateful import RuleBasedStateMachine, invariant

from oppscan import Page, ScanResults, ScanState, ScanStatus
from oppscan.backends.base import TransactionalBackend
from oppscan.holding import Holding
from oppscan.sync import ScanRegistry
from oppscan.testing import ManualClock
from tests.machine import model, sides
from tests.machine.model import Claim, Model, Refused, Scan
from tests.machine.sides import Failed, Side

T = TypeVar("T")

OWNERS = ("ann", "bob")
KEYS = ("k", "l")

_RANK = {"pending": 0, "running": 1, "complete": 2, "failed": 2, "cancelled": 2}
_LIFE = {"expires_at": None}  # what may change of a finished scan


@define
class Worked:
    """A claim: the model's, and each side's; ``worker`` made it."""

    worker: int
    claim: Claim
    holdings: list[Holding]


class Observed(RuleBasedStateMachine):
    """Stores, the model, and all that can be asked of them. Subclasses say on which stores."""

    @staticmethod
    def backends(clock: ManualClock) -> list[TransactionalBackend]:
        """Open the stores."""
        raise NotImplementedError

    _numbers: ClassVar[count[int]] = count()

    def begin(self) -> None:
        self.clock = ManualClock()
        self.model = Model()
        namespace = f"n{next(self._numbers)}"
        self.sides = [Side(backend, namespace) for backend in self.backends(self.clock)]
        self.claims: list[Worked] = []
        logging.getLogger("oppscan").setLevel(logging.ERROR)  # every miss would be told
        self.seen: dict[str, ScanStatus] = {}
        self.turn = 0
        self.all: list[Scan] = []  # every scan that was ever started

    # --- Asking all sides -----------------------------------------------------------------------

    def ask(self, worker: int, call: Callable[[ScanRegistry], Any]) -> Any:  # noqa: ANN401
        """Run an operation on every side, and give the answer that all gave."""
        first, *others = [side.run(worker, call) for side in self.sides]
        for other in others:
            assert other == first
        return first

    def compare(self, answer: object, rule_: Callable[[], T]) -> T | None:
        """Compare an answer that may be an error with the model's."""
        wanted, refusal = None, None
        try:
            wanted = rule_()
        except Refused as refused:
            refusal = refused.name
        assert (answer.name if isinstance(answer, Failed) else None) == refusal, answer
        return wanted

    def matches(self, answer: object, scan: Scan) -> None:
        """Check one whole status against the model."""
        assert isinstance(answer, ScanStatus)
        assert sides.told(answer) == sides.expected(scan, self.model)
        assert sides.told_outcomes(answer) == sides.expected_outcomes(scan)

    def scan(self, number: int) -> Scan:
        return self.all[-1 - number % len(self.all)]

    def worked(self, number: int) -> Worked:
        return self.claims[-1 - number % len(self.claims)]

    # --- After every step: ask everything ---------------------------------------------------------

    @invariant()
    def statuses(self) -> None:
        for scan in self.all:
            answer = self.ask(0, partial(_status, scan.scan_id))
            if self.compare(answer, partial(self.model.find, scan)):
                self.matches(answer, scan)
                self._never_back(answer)

    def _never_back(self, now: ScanStatus) -> None:
        before = self.seen.get(now.scan_id)
        self.seen[now.scan_id] = now
        if before is not None:
            assert now.revision >= before.revision
            assert _RANK[now.state] >= _RANK[before.state]
            assert now.progress.strategies_completed >= before.progress.strategies_completed
            assert now.progress.opportunities_found >= before.progress.opportunities_found
            assert not before.done or now.to_dict() | _LIFE == before.to_dict() | _LIFE

    @invariant()
    def listings(self) -> None:
        self.turn += 1
        for owner in OWNERS:
            key = (None, *KEYS)[self.turn % 3]
            active = self.ask(0, partial(_active, owner, key))
            assert active == self.model.active(owner, key)
            latest = self.ask(1, partial(_latest, owner, key))
            scan = self.compare(latest, partial(self.model.latest, owner, key))
            if scan is not None:
                self.matches(latest, scan)
            self._history(owner)
        stalled = self.ask(0, lambda reg: reg.stalled(100))
        assert [s.scan_id for s in stalled] == [s.scan_id for s in self.model.all_stalled()]
        assert self.ask(1, lambda reg: reg.stalled(1)) == stalled[:1]

    def _history(self, owner: str) -> None:
        wanted = self.model.owned(owner)
        page = self.ask(1, lambda reg: reg.history(owner))
        assert [sides.told(s) for s in page] == [sides.expected(s, self.model) for s in wanted]
        live = [ScanState.PENDING, ScanState.RUNNING]
        first = self.ask(0, lambda reg: reg.history(owner, states=live, limit=1))
        assert [s.scan_id for s in first] == [s.scan_id for s in wanted if s.live][:1]
        ids: list[str] = []
        cursor: str | None = None
        while True:
            part = self.ask(0, partial(_page, owner, cursor))
            ids += [s.scan_id for s in part]
            cursor = part.cursor
            if cursor is None or len(ids) > len(wanted):
                break
        assert ids == [s.scan_id for s in wanted]

    @invariant()
    def results(self) -> None:
        scan = self.all[self.turn % len(self.all)]
        for partly in (False, True):
            answer = self.ask(0, partial(_results, scan.scan_id, partly, None, None))
            if self.compare(answer, partial(self.model.results, scan, partial=partly)):
                self._found(answer, scan)
        other = next(owner for owner in OWNERS if owner != scan.owner)
        hidden = self.ask(1, lambda reg: reg.status(scan.scan_id, owner=other))
        assert hidden == Failed("ScanNotFound")

    def _found(self, answer: ScanResults, scan: Scan) -> None:
        if scan.mode == "payload" and scan.payload is not None:
            rest = {k: v for k, v in scan.payload.items() if k != "opportunities"}
            assert list(answer.opportunities) == scan.payload["opportunities"]
            assert answer.summary == (scan.summary or rest)
            return
        assert list(answer.opportunities) == [item for _, item in scan.items]
        for name in model.STRATEGIES:
            mine = tuple(item for strategy, item in scan.items if strategy == name)
            assert answer.by_strategy.get(name, ()) == mine
        assert answer.summary == scan.summary
        paged: list[dict[str, object]] = []
        cursor = None
        for _ in range(len(scan.items) + 1):
            page = self.ask(1, partial(_results, scan.scan_id, True, cursor, 1))
            paged += page.opportunities
            cursor = page.cursor
        assert paged == [item for _, item in scan.items]


def _status(scan_id: str, registry: ScanRegistry) -> ScanStatus:
    return registry.status(scan_id)


def _active(owner: str, key: str | None, registry: ScanRegistry) -> bool:
    return registry.has_active_scan(owner, key=key)


def _latest(owner: str, key: str | None, registry: ScanRegistry) -> ScanStatus:
    return registry.latest(owner, key=key)


def _page(owner: str, after: str | None, registry: ScanRegistry) -> Page[ScanStatus]:
    return registry.history(owner, limit=2, after=after)


def _results(
    scan_id: str, partly: bool, after: str | None, limit: int | None, registry: ScanRegistry
) -> ScanResults:
    return registry.results(scan_id, partial=partly, after=after, limit=limit)
