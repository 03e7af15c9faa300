"""The state machine: several workers live through anything, on every store, beside the model.

Time moves in whole units, with a lease of 2, so that every boundary is hit exactly. After each
step all that can be asked is asked (`tests.machine.observing`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from oppscan import Reuse, ScanStatus, Ticket, reports
from oppscan.drafting import Heartbeat, Report
from oppscan.holding import Holding
from oppscan.testing import lose
from tests.machine import model, sides
from tests.machine.model import Claim, Refused
from tests.machine.observing import KEYS, OWNERS, Observed, Worked
from tests.machine.sides import LIMITS, Failed

MOST_SCANS = 7
SUMMARY: dict[str, object] = {"note": "as given"}

owners = st.sampled_from(OWNERS)
keys = st.sampled_from(KEYS)
workers = st.integers(0, sides.WORKERS - 1)
names = st.sampled_from(model.STRATEGIES)
pick = st.sampled_from([0, 0, 0, 1, 1, 2, 3])  # the latest, mostly
found = st.integers(0, 2).map(lambda n: [{"n": i} for i in range(n)])
payloads = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "total_strategies": st.sampled_from([0, 1, 3, "junk"]),
                "strategies_completed": st.sampled_from([0, 1, 2, 5]),
            },
        ),
        "strategy_performance": st.integers(0, 4).map(lambda n: ["x"] * n),
        "opportunities": found,
    }
)
by_anybody = {"worker": workers, "number": pick}
by_holder = {"number": pick}

ACTIONS: Final[dict[str, tuple[int, dict[str, st.SearchStrategy[Any]]]]] = {
    "time_passes": (12, {"steps": st.sampled_from([1, 1, 1, 2, 2, 3, 4, 6])}),
    "start": (
        6,
        {
            "worker": workers,
            "owner": owners,
            "key": keys,
            "fresh": st.sampled_from([None, None, None, 0, 1, 2]),
            "alone": st.sampled_from([False, False, False, True]),
        },
    ),
    "claim": (8, by_anybody),
    "crash": (1, by_holder),
    "heartbeat": (3, by_holder),
    "strategy_started": (2, {**by_holder, "name": names}),
    "strategy_finished": (3, {**by_holder, "name": names, "items": found}),
    "strategy_failed": (2, {**by_holder, "name": names, "items": found, "late": st.booleans()}),
    "burst": (
        1,
        {**by_holder, "first": names, "second": names, "items": found, "ending": st.booleans()},
    ),
    "update": (2, {**by_holder, "payload": payloads, "final": st.sampled_from([False, True])}),
    "complete": (2, {**by_holder, "summary": st.sampled_from([None, SUMMARY])}),
    "fail": (1, by_holder),
    "release": (2, by_holder),
    "cancel": (4, by_anybody),
    "extend": (3, {**by_anybody, "units": st.integers(1, 9)}),
    "forget": (1, by_anybody),
    "forget_anothers": (1, by_anybody),
    "purge": (1, {"worker": workers}),
    "lose_next_reply": (3, {}),
    "lose_latest": (1, by_holder),
    "lose_head": (1, by_holder),
}
"""What may happen next: how often, and with what."""

_NEXT: Final = st.sampled_from(
    [name for name, (weight, _) in ACTIONS.items() for _ in range(weight)]
).flatmap(lambda name: st.tuples(st.just(name), st.fixed_dictionaries(ACTIONS[name][1])))


class Lives(Observed):
    """What may happen to scans: one rule, so that every run mixes all of it."""

    @initialize(owner=owners, key=keys)
    def first(self, owner: str, key: str) -> None:
        """One scan is there, and held."""
        self.begin()
        self.start(0, owner, key, None, alone=False)
        self.claim(0, 0)

    @rule(action=_NEXT)
    def next(self, action: tuple[str, dict[str, Any]]) -> None:
        name, arguments = action
        if "number" in arguments and "worker" not in arguments and not self.claims:
            return
        if "number" in arguments and not self.all:
            return
        getattr(self, name)(**arguments)

    # --- Time -----------------------------------------------------------------------------------

    def time_passes(self, steps: int) -> None:
        self.model.now += steps
        self.clock.jump(steps)

    # --- Starting and claiming ------------------------------------------------------------------

    def start(self, worker: int, owner: str, key: str, fresh: int | None, alone: bool) -> None:
        if len(self.all) >= MOST_SCANS:
            return
        reuse = Reuse.ACTIVE if fresh is None else Reuse.fresh(fresh)
        if alone:
            reuse, fresh = Reuse.NEVER, None
        ticket = self.ask(
            worker, lambda reg: reg.start(owner, model.STRATEGIES, key=key, reuse=reuse)
        )
        assert isinstance(ticket, Ticket)
        joined = self.model.start(owner, key, fresh, alone=alone)
        assert ticket.joined == (joined is not None)
        if joined is None:
            private = ticket.scan_id if alone else key
            joined = self.model.made(ticket.scan_id, owner, private)
            self.all.append(joined)
            assert ticket.must_run
        assert ticket.must_run == (not ticket.joined or self.model.stalled(joined))
        assert ticket.key == joined.key
        self.matches(ticket.status, joined)

    def claim(self, worker: int, number: int) -> None:
        scan = self.scan(number)
        answers = [side.claim(worker, scan.scan_id) for side in self.sides]
        for answer in answers:
            if isinstance(answer, Failed):
                assert answer == answers[0]
        claim = self.compare(answers[0], lambda: self.model.claim(scan))
        if claim is not None:
            holdings = [answer for answer in answers if isinstance(answer, Holding)]
            assert len(holdings) == len(self.sides)
            for holding in holdings:
                assert set(holding.remaining) == set(model.STRATEGIES) - claim.done
                self.matches(holding.status, scan)
            self.claims.append(Worked(worker, claim, holdings))

    def crash(self, number: int) -> None:
        """A worker dies: its claim is never heard of again."""
        self.claims.remove(self.worked(number))

    # --- What a holder does -----------------------------------------------------------------------

    def report(
        self,
        worked: Worked,
        *said: tuple[Callable[[Holding], Report], Callable[[Claim], object]],
    ) -> None:
        """Have a holder say things that share one commit, here and in the model."""
        makers = [make for make, _ in said]
        first, *others = [
            side.commit(worked.worker, holding, makers)
            for side, holding in zip(self.sides, worked.holdings, strict=True)
        ]
        assert all(other == first for other in others)
        wanted = []
        for _, rule_ in said:
            try:
                rule_(worked.claim)
                wanted.append("")
            except Refused as refused:
                wanted.append(refused.name)
        if "ClaimLost" in first and "" not in first:
            wanted = [name if name == "" else "ClaimLost" for name in wanted]
        assert first == wanted
        for holding in worked.holdings:
            assert (holding.ended is not None) == worked.claim.over

    def heartbeat(self, number: int) -> None:
        worked = self.worked(number)
        scan = worked.claim.scan
        before = self.ask(0, lambda reg: reg.status(scan.scan_id))
        self.report(worked, (lambda _: Heartbeat(), self.model.writable))
        after = self.ask(0, lambda reg: reg.status(scan.scan_id))
        if isinstance(before, ScanStatus):
            assert before.revision == after.revision

    def strategy_started(self, number: int, name: str) -> None:
        self.report(self.worked(number), self._start(name))

    def strategy_finished(self, number: int, name: str, items: list[dict[str, object]]) -> None:
        self.report(self.worked(number), self._finish(name, items))

    def strategy_failed(
        self, number: int, name: str, items: list[dict[str, object]], late: bool
    ) -> None:
        state = "timed_out" if late else "failed"
        self.report(
            self.worked(number),
            (
                lambda h: reports.failed(h, name, "down", items, LIMITS, timed_out=late),
                lambda c: self.model.reported(c, name, state, items, "down"),
            ),
        )

    def burst(
        self, number: int, first: str, second: str, items: list[dict[str, object]], ending: bool
    ) -> None:
        """Several reports share one commit, each with a verdict of its own."""
        said = [self._start(first), self._finish(first, items), self._finish(second, [])]
        if ending:
            said.insert(2, self._complete(None))
        self.report(self.worked(number), *said)

    def update(self, number: int, payload: dict[str, object], final: bool) -> None:
        self.report(
            self.worked(number),
            (
                lambda _: reports.posted(payload, LIMITS, partial=not final),
                lambda c: self.model.posted(c, payload, final=final),
            ),
        )

    def complete(self, number: int, summary: dict[str, object] | None) -> None:
        self.report(self.worked(number), self._complete(summary))

    def fail(self, number: int) -> None:
        self.report(
            self.worked(number),
            (lambda _: reports.gave_up("gave up"), lambda c: self.model.ended(c, "gave up", None)),
        )

    def release(self, number: int) -> None:
        self.report(self.worked(number), (lambda _: reports.LETTING, self.model.released))

    def _start(self, name: str) -> tuple[Callable[[Holding], Report], Callable[[Claim], object]]:
        return (lambda h: reports.started(h, name), lambda c: self.model.begun(c, name))

    def _finish(
        self, name: str, items: list[dict[str, object]]
    ) -> tuple[Callable[[Holding], Report], Callable[[Claim], object]]:
        state = "found" if items else "empty"
        return (
            lambda h: reports.finished(h, name, items, LIMITS),
            lambda c: self.model.reported(c, name, state, items, None),
        )

    def _complete(
        self, summary: dict[str, object] | None
    ) -> tuple[Callable[[Holding], Report], Callable[[Claim], object]]:
        return (
            lambda _: reports.completed(summary, LIMITS),
            lambda c: self.model.ended(c, None, summary),
        )

    # --- What others do ---------------------------------------------------------------------------

    def cancel(self, worker: int, number: int) -> None:
        scan = self.scan(number)
        answer = self.ask(worker, lambda reg: reg.cancel(scan.scan_id))
        if self.compare(answer, lambda: self.model.cancel(scan)):
            self.matches(answer, scan)

    def extend(self, worker: int, number: int, units: int) -> None:
        scan = self.scan(number)
        answer = self.ask(worker, lambda reg: reg.extend(scan.scan_id, units))
        if self.compare(answer, lambda: self.model.extend(scan, units)):
            self.matches(answer, scan)

    def forget(self, worker: int, number: int) -> None:
        scan = self.scan(number)
        assert self.ask(worker, lambda reg: reg.forget(scan.scan_id, owner=scan.owner)) is None
        self.model.forget(scan)

    def forget_anothers(self, worker: int, number: int) -> None:
        scan = self.scan(number)
        other = next(owner for owner in OWNERS if owner != scan.owner)
        assert self.ask(worker, lambda reg: reg.forget(scan.scan_id, owner=other)) is None

    def purge(self, worker: int) -> None:
        self.ask(worker, lambda reg: reg.purge())

    # --- Faults -----------------------------------------------------------------------------------

    def lose_next_reply(self) -> None:
        for side in self.sides:
            side.lose_next_reply()

    def lose_latest(self, number: int) -> None:
        """The pointer to the owner's newest scan is lost: nothing shows of it."""
        for side in self.sides:
            lose(side.backend, side.namespace, "latest", self.scan(number).scan_id)

    def lose_head(self, number: int) -> None:
        """A record is lost: a finished one is rebuilt, a live one is named as lost."""
        scan = self.scan(number)
        if not self.model.known(scan) or self.model.expired(scan):
            return
        for side in self.sides:
            lose(side.backend, side.namespace, "head", scan.scan_id)
        scan.lost = scan.live
