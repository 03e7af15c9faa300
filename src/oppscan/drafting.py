"""What one commit of a claim will write: reports judged one by one, gathered into one head. Pure.

Laws
- A report is accepted or refused before anything is written; a refused one changes nothing.
- An outcome is final: a second one is refused, also within one commit.
- The first progress write fixes how a scan reports: by outcomes or by payloads.
- One event says all of a strategy: its outcome tells its start. O(1) for each report.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from oppscan import codec, lifecycle, ttl
from oppscan.errors import ClaimLost, InvalidInput
from oppscan.inputs import Limits
from oppscan.lifecycle import Finish, Scan, beat
from oppscan.model import OutcomeState
from oppscan.progress import read_payload
from oppscan.record import (
    NOW,
    OUTCOME_CODE,
    OUTCOME_STATES,
    Chunk,
    Head,
    OutcomeEvent,
    Spec,
    after,
)
from oppscan.views import has_outcome
from oppscan.writes import Additions


class Started(Struct, frozen=True):
    """A strategy was started."""

    index: int


class Reported(Struct, frozen=True):
    """A strategy has its outcome; ``body`` is its opportunities, packed."""

    index: int
    state: OutcomeState
    found: int = 0
    body: bytes = b""
    error: str | None = None
    scores: tuple[float, ...] = ()


class Payload(Struct, frozen=True):
    """The host posted a whole result dictionary; ``body`` is it, packed."""

    payload: dict[str, object]
    body: bytes
    final: bool


class Heartbeat(Struct, frozen=True):
    """The holder is alive."""


class Ending(Struct, frozen=True):
    """The holder ends the scan: ``error`` None completes it, otherwise it failed."""

    error: str | None = None
    summary: bytes | None = None


class Letting(Struct, frozen=True):
    """The holder lets the scan go."""


Report = Started | Reported | Payload | Heartbeat | Ending | Letting

_RUNNING = OUTCOME_CODE[OutcomeState.RUNNING]


class Draft:
    """A commit in the making: what is accepted so far, laid over what the store has.

    ``seconds_left``: until all strategies are through, where the runner can tell.
    """

    def __init__(
        self,
        scan: Scan,
        spec: Spec,
        outcomes: Sequence[OutcomeEvent | None],
        *,
        limits: Limits,
        operation: str,
        seconds_left: float | None,
    ) -> None:
        self.scan = scan
        self.latest: dict[int, OutcomeEvent] = {}
        self.ending: Ending | None = None
        self.finish: Finish | None = None
        self.letting: bool = False
        self._operation = operation
        self._spec = spec
        self._outcomes = outcomes
        self._limits = limits
        self._seconds_left = seconds_left
        self._mode = scan.head.mode
        self._progressed = False
        self._size = scan.head.size
        self._found = scan.head.opportunities
        self._finals: list[OutcomeEvent] = []
        self._posted = scan.head.posted
        self._data: list[bytes] = []
        self._fresh = False

    def add(self, report: Report) -> None:
        """Accept a report; `InvalidInput` or `ClaimLost` before anything was changed."""
        if self.ending is not None or self.letting:
            msg = f"scan {self.scan.scan_id} was ended by an earlier call; nothing was written"
            raise ClaimLost(msg, scan_id=self.scan.scan_id)
        match report:
            case Started():
                self._add_start(report)
            case Reported():
                self._add_outcome(report)
            case Payload():
                self._add_payload(report)
            case Ending():
                self.ending = report
            case Letting():
                self.letting = True
            case Heartbeat():
                pass
            case _:
                assert_never(report)

    @property
    def additions(self) -> Additions:
        """What the commit adds to the logs of the scan."""
        events = tuple(codec.encode(event) for event in self.latest.values())
        return Additions(events, tuple(self._data), self._fresh)

    def head(self) -> Head:
        """Give the head that the commit puts, but for the end of the scan."""
        seen = self.scan.head
        head = beat(seen, self._operation)
        if not self._progressed:
            return head
        final = bool(self._finals)
        return replace(
            head,
            mode=self._mode,
            revision=seen.revision + 1,
            progressed_at=NOW,
            productive=head.productive or final or self._fresh,
            size=self._size,
            opportunities=self._found,
            posted=self._posted,
            counts=lifecycle.count(seen.counts, self._finals),
            eta_at=self._eta() if final else seen.eta_at,
            events=seen.events + len(self.latest),
            data=len(self._data) + (0 if self._fresh else seen.data),
        )

    def _eta(self) -> int | None:
        left = self._seconds_left
        return None if left is None else after(ttl.to_ms(left))

    # --- Kinds of reports -----------------------------------------------------------------------

    def _check_mode(self, mode: str) -> None:
        if self._mode not in {"", mode}:
            msg = (
                f"scan {self.scan.scan_id} reports by {self._mode}: its first progress write fixed "
                f"that, so it cannot report by {mode}"
            )
            raise InvalidInput(msg, scan_id=self.scan.scan_id)

    def _progress(self, mode: str) -> None:
        self._mode = mode
        self._progressed = True

    def _open(self, index: int) -> OutcomeEvent | None:
        """Give the last event of a strategy; `InvalidInput` where that is its outcome."""
        event = self.latest.get(index) or self._outcomes[index]
        if event is not None and has_outcome(event):
            name, state = self._spec.strategies[index], OUTCOME_STATES[event.state]
            msg = (
                f"strategy {name!r} of scan {self.scan.scan_id} has its outcome already "
                f"({state}), and an outcome is final"
            )
            raise InvalidInput(msg, scan_id=self.scan.scan_id)
        return event

    def _add_start(self, report: Started) -> None:
        self._check_mode("outcomes")
        self._open(report.index)
        self._progress("outcomes")
        self.latest[report.index] = OutcomeEvent(report.index, _RUNNING, started_at=NOW)

    def _add_outcome(self, report: Reported) -> None:
        self._check_mode("outcomes")
        before = self._open(report.index)
        size = self._size + len(report.body)
        if size > self._limits.max_scan_bytes:
            msg = (
                f"the opportunities of scan {self.scan.scan_id} would take {size} bytes with those "
                f"of {self._spec.strategies[report.index]!r}, over the limit of "
                f"{self._limits.max_scan_bytes} (Limits.max_scan_bytes)"
            )
            raise InvalidInput(msg, scan_id=self.scan.scan_id)
        event = OutcomeEvent(
            report.index,
            OUTCOME_CODE[report.state],
            report.found,
            started_at=None if before is None else before.started_at,
            finished_at=NOW,
            error=report.error,
        )
        self._progress("outcomes")
        self._size = size
        self._found += report.found
        self._finals.append(event)
        self.latest[report.index] = event
        if report.found:
            self._data.append(codec.encode(Chunk("o", report.index, report.body, report.scores)))

    def _add_payload(self, report: Payload) -> None:
        self._check_mode("payload")
        seen = replace(self.scan.head, posted=self._posted, opportunities=self._found)
        posted = read_payload(report.payload, seen, final=report.final)
        self._progress("payload")
        self._posted, self._found, self._size = posted, posted.found, len(report.body)
        self._data = [codec.encode(Chunk("p", -1, report.body))]
        self._fresh = True
        if report.final:
            self.ending = Ending()
