"""What the holder of a scan knows and may write: the claim's chain of commits, without I/O.

Laws
- At most one commit is under way; what is reported meanwhile leaves together in the next one,
  and each report gets a verdict of its own.
- Each commit carries an id of its own and replaces the head that this holder saw last. Where
  that head changed meanwhile, its ``chain`` tells why: still our last commit (somebody asked to
  cancel: rebuild, write again), one whose reply was lost (take it over), or another's (the
  claim is lost, for good).
- A report that is made again because its first try had no answer is not written twice.
- A verdict is reached before anything is written; a refused report changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from oppscan import codec, ttl, writes
from oppscan.drafting import Draft, Ending, Heartbeat, Report
from oppscan.errors import ClaimLost, InvalidInput
from oppscan.flow import Flow, Tell, ask
from oppscan.inputs import Limits
from oppscan.lifecycle import Scan, conclude, release
from oppscan.model import Event, ScanStatus
from oppscan.ops import Applied, Apply, Resolve
from oppscan.record import OUTCOME_STATES, Head, OutcomeEvent, Spec, settle_head
from oppscan.views import has_outcome, status_of


class Holding:
    """A claim, as its driver holds it. Not thread-safe: the driver lets in one at a time."""

    def __init__(
        self,
        scan: Scan,
        spec: Spec,
        outcomes: Sequence[OutcomeEvent | None],
        store: int,
        limits: Limits,
    ) -> None:
        self.scan: Scan = scan
        self.spec = spec
        self.outcomes: list[OutcomeEvent | None] = list(outcomes)
        self.store = store
        self.limits = limits
        self.index: dict[str, int] = {name: number for number, name in enumerate(spec.strategies)}
        self.seconds_left: float | None = None  # the runner's estimate
        self.ended: str | None = None  # why this claim may write no more
        self.closed: bool = False  # whether it was this claim that ended the scan, or let it go
        self._unsure: dict[str, tuple[Draft, Head, Sequence[Report]]] = {}
        self._settled: list[Report] = []
        # All data frames that are stored, while this claim wrote them all and they are few.
        self._data: tuple[bytes, ...] | None = () if scan.head.data == 0 else None

    @property
    def remaining(self) -> tuple[str, ...]:
        """The strategies without an outcome, in declared order."""
        pairs = zip(self.spec.strategies, self.outcomes, strict=True)
        return tuple(name for name, event in pairs if not has_outcome(event))

    @property
    def writable(self) -> bool:
        """Whether a report may still be made: one that was written unheard may be made again."""
        return self.ended is None or bool(self._settled)

    @property
    def status(self) -> ScanStatus:
        """The scan as this claim saw it last."""
        scan = self.scan
        return status_of(scan.scan_id, scan.head, scan.now, self.spec, self.outcomes)

    def place(self, name: object) -> int:
        """Give the number of a strategy; `InvalidInput` for an unknown name."""
        index = self.index.get(name) if isinstance(name, str) else None
        if index is None:
            msg = f"scan {self.scan.scan_id} has no strategy {name!r}"
            raise InvalidInput(msg, scan_id=self.scan.scan_id)
        return index

    def lost(self) -> ClaimLost:
        """Give the error for writing with a claim that has ended."""
        scan_id = self.scan.scan_id
        unheard = self.closed or self._unsure
        written = "an earlier write may stand" if unheard else "nothing was written"
        msg = f"the claim on scan {scan_id} may write no more: {self.ended}; {written}"
        return ClaimLost(msg, scan_id=scan_id)

    def commit(self, reports: Sequence[Report], operation: str) -> Flow[list[Exception | None]]:
        """Write a batch of reports, and give the verdict on each.

        Raises `ClaimLost` when nothing may be written any more, and what the store raises.
        """
        while True:
            if self.ended is not None:
                if self._settled and all(report in self._settled for report in reports):
                    return [None] * len(reports)
                raise self.lost()
            draft, verdicts = self._draft(reports, operation)
            if draft is None:
                return verdicts
            apply, head = self._write(draft, operation)
            self._unsure[operation] = (draft, head, reports)
            reply = yield from ask(self.store, apply)
            if isinstance(reply, Applied):
                self._absorb(draft, head, operation, reply.now)
            elif (yield from self._applied_before()) != operation:
                self._unsure.pop(operation, None)  # refused, so it is certain
                continue
            yield Tell(self._events(draft))
            self._settled = [report for report in self._settled if report not in reports]
            return verdicts

    def _draft(
        self, reports: Sequence[Report], operation: str
    ) -> tuple[Draft | None, list[Exception | None]]:
        """Judge each report and gather what the accepted ones write."""
        draft = Draft(
            self.scan, self.spec, self.outcomes,
            limits=self.limits, operation=operation, seconds_left=self.seconds_left,
        )  # fmt: skip
        verdicts: list[Exception | None] = []
        accepted = False
        for report in reports:
            verdicts.append(None)
            if self._settled and report in self._settled:
                continue  # an earlier try of this very report was applied, its reply lost
            try:
                draft.add(report)
                accepted = True
            except (InvalidInput, ClaimLost) as refused:
                verdicts[-1] = refused
        return (draft if accepted else None), verdicts

    # --- Writing --------------------------------------------------------------------------------

    def _write(self, draft: Draft, operation: str) -> tuple[Apply, Head]:
        """Give the write of a draft, and the head that it puts.

        Letting go of a scan that is to be cancelled ends it: nobody else should take it up.
        """
        most, head, added = self.limits.max_remembered, draft.head(), draft.additions
        ending = draft.ending
        if draft.letting and head.cancel_requested:
            ending = Ending()
        if ending is None:
            head = release(head) if draft.letting else head
            return writes.write(self.scan, head, operation, most, added), head
        outcomes = list(self.outcomes)
        for index, event in draft.latest.items():
            outcomes[index] = event
        draft.finish = conclude(head, outcomes, operation, error=ending.error)
        if self._data is not None:
            added = writes.anew(self._data, added)
        return writes.write_finish(
            self.scan, draft.finish, self.spec, operation, most,
            summary=ending.summary, added=added,
        )  # fmt: skip

    def _absorb(self, draft: Draft, head: Head, operation: str, now: int) -> None:
        """Take over what the store has taken, with the instant at which it took it."""
        settled = settle_head(head, now)
        self._unsure.clear()
        self._data = draft.additions.few_after(self._data)
        self.scan = Scan(self.scan.scan_id, operation, settled, now)
        if draft.finish is not None:
            self.ended = f"it is {settled.state}"
            draft.latest.update((event.index, event) for event in draft.finish.events)
        elif draft.letting:
            self.ended = "it was released"
        self.closed = self.ended is not None
        for index, event in draft.latest.items():
            self.outcomes[index] = codec.settle_event(event, now)

    def _applied_before(self) -> Flow[str | None]:
        """After a refusal, find out why; give the commit of ours that turns out to stand.

        A commit whose reply was lost, this one or an earlier one, is recognised by its id and
        taken over. None: there is none, and `ended` or the scan as seen now says what to do.
        """
        scan_id = self.scan.scan_id
        reply = yield from ask(self.store, Resolve(scan_id, self.scan.tag))
        stored = reply.sighting.head if reply.sighting is not None else None
        found = codec.decode_head(stored, scan_id)
        if stored is None or found is None or reply.now >= ttl.expires_at(found):
            self.ended = "its record is gone (forgotten, expired, or lost by the store)"
            return None
        for operation in (stored.version, found.chain):
            if operation in self._unsure:
                draft, head, reports = self._unsure[operation]
                stamp = stored.stamp
                if stored.version != operation:  # somebody wrote after us, and kept our times
                    stamp = found.finished_at or found.heartbeat_at or stamp
                self._settled += [item for item in reports if not isinstance(item, Heartbeat)]
                self._absorb(draft, head, operation, stamp)
                self.scan = Scan(scan_id, stored.version, found, reply.now)
                return operation
        seen = self.scan
        if found.chain != seen.head.chain or found.token != seen.head.token or not found.live:
            self.ended = "another worker took it over" if found.live else f"it is {found.state}"
        elif stored.version == seen.version:  # our head stands: a log is not as long as it must be
            self.ended = "the store lost a part of the scan"
        else:
            self.scan = Scan(scan_id, stored.version, found, reply.now)
        return None

    def _events(self, draft: Draft) -> Iterator[Event]:
        """Give what a commit was about, for those who listen."""
        scan_id, head = self.scan.scan_id, self.scan.head
        for event in draft.latest.values():
            state = OUTCOME_STATES[event.state]
            if state.done:
                detail: dict[str, object] = {
                    "strategy": self.spec.strategies[event.index],
                    "state": state.value,
                    "found": event.found,
                }
                yield Event("strategy", scan_id, head.owner, detail)
        if draft.finish is not None:
            yield Event("finished", scan_id, head.owner, {"state": head.state})
        elif draft.letting:
            yield Event("released", scan_id, head.owner)
