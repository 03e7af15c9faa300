"""The life of a scan, told a second time: what a store with no faults would answer.

Written from the guarantees, not from the library, and with none of its code: times are whole
units, a scan is one mutable object, and every rule is applied where it is needed. A store that
differs from this in any answer is wrong, or this is.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field

PENDING_TTL, RUNNING_TTL, RESULT_TTL, MARGIN = 5, 4, 6, 2
LEASE, CLAIM_WITHIN, MAX_ATTEMPTS = 2, 3, 2
STRATEGIES = ("a", "b")

LIVE = ("pending", "running")
OPEN = ("pending", "running")


class Refused(Exception):
    """An answer that is an error; ``name`` is the type that must be raised."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@define
class Outcome:
    """One strategy of a scan."""

    state: str = "pending"
    found: int = 0
    started: int | None = None
    finished: int | None = None
    error: str | None = None


@define(eq=False)
class Scan:
    """One scan."""

    scan_id: str
    owner: str
    key: str
    created: int
    state: str = "pending"
    error: str | None = None
    cancel_requested: bool = False
    attempts: int = 0
    strikes: int = 0
    productive: bool = False
    holder: object = None  # whose claim it was last, unless released
    due: int = 0
    started: int | None = None
    finished: int | None = None
    heartbeat: int | None = None
    progressed: int | None = None
    extended: int = 0
    mode: str = ""
    posted: tuple[int, int, int] | None = None  # completed, total, found
    told: bool = False  # whether a payload ever said how many were completed
    payload: dict[str, object] | None = None
    summary: dict[str, object] | None = None
    outcomes: dict[str, Outcome] = field(factory=lambda: {name: Outcome() for name in STRATEGIES})
    items: list[tuple[str, dict[str, object]]] = field(factory=list)
    lost: bool = False  # its record was live, and the store lost it

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def expires(self) -> int:
        if self.state == "pending":
            natural = self.created + PENDING_TTL
        elif self.finished is None:
            natural = self.due + RUNNING_TTL
        else:
            natural = self.finished + RESULT_TTL
        return max(natural, self.extended)

    @property
    def progress(self) -> tuple[int, int, int, float]:
        if self.posted is not None:
            done, total, found = self.posted
        else:
            done = sum(o.state not in OPEN for o in self.outcomes.values())
            total, found = len(self.outcomes), len(self.items)
        return done, total, found, 100.0 * done / total


@define(eq=False)
class Claim:
    """A worker's claim, and what that worker knows."""

    scan: Scan
    mode: str
    done: set[str]
    over: bool = False


class Model:
    """All scans of one store, at one instant."""

    def __init__(self) -> None:
        self.now = 0
        self.scans: list[Scan] = []  # in the order they were started; forgotten ones are dropped
        self.leads_to: dict[
            tuple[str, str], Scan | None
        ] = {}  # owner and key: the scan started last

    # --- Asking ---------------------------------------------------------------------------------

    def expired(self, scan: Scan) -> bool:
        return self.now >= scan.expires

    def known(self, scan: Scan) -> bool:
        return scan in self.scans and self.now < scan.expires + MARGIN

    def stalled(self, scan: Scan) -> bool:
        return scan.live and self.now >= scan.due

    def held(self, scan: Scan) -> bool:
        return scan.state == "running" and scan.holder is not None and self.now < scan.due

    def find(self, scan: Scan, owner: str | None = None) -> Scan:
        if not self.known(scan) or owner not in {None, scan.owner}:
            raise Refused("ScanNotFound")
        if self.expired(scan):
            raise Refused("ScanExpired")
        if scan.lost:
            raise Refused("ScanLost")
        return scan

    def owned(self, owner: str, key: str | None = None) -> list[Scan]:
        """Give what is remembered of an owner, newest first."""
        mine = (s for s in self.scans if s.owner == owner and key in {None, s.key})
        return [scan for scan in reversed(list(mine)) if self.known(scan)]

    def latest(self, owner: str, key: str | None) -> Scan:
        newest = next(iter(self.owned(owner, key)), None)
        if newest is None:
            raise Refused("ScanNotFound")
        return self.find(newest)

    def active(self, owner: str, key: str | None) -> bool:
        mine = self.owned(owner, key)
        return any(
            s.live and not s.lost and not self.expired(s) and not self.stalled(s) for s in mine
        )

    def all_stalled(self) -> list[Scan]:
        found = [s for s in self.scans if self.stalled(s) and not self.expired(s) and not s.lost]
        return sorted(found, key=lambda scan: (scan.due, scan.scan_id))

    def results(self, scan: Scan, *, partial: bool) -> Scan:
        self.find(scan)
        refusals = {"failed": "ScanFailed", "cancelled": "ScanCancelled"}
        if not partial and scan.state != "complete":
            raise Refused(refusals.get(scan.state, "ScanNotFinished"))
        return scan

    # --- Starting -------------------------------------------------------------------------------

    def start(self, owner: str, key: str, fresh: int | None, *, alone: bool) -> Scan | None:
        """Give the scan that is joined; None where a new one is to be made."""
        if alone:
            return None
        for scan in self._equal(owner, key, finished_too=fresh is not None):
            if self.expired(scan) or scan.lost:
                continue
            if scan.live and not scan.cancel_requested:
                return scan
            done = scan.finished
            complete = done is not None and scan.state == "complete"
            if complete and fresh is not None and self.now - (done or 0) <= fresh:
                return scan
            if scan.live and not self.held(scan):
                self.finish(scan, asked=True)
        return None

    def _equal(self, owner: str, key: str, *, finished_too: bool) -> Iterator[Scan]:
        """Walk the equal scans that a start looks at: the newest; where that was forgotten, all."""
        newest = self.leads_to.get((owner, key))
        if newest is not None and self.known(newest):
            yield newest
        elif newest is None:
            everything = self.owned(owner, key)
            yield from (s for s in everything if s.live or (finished_too and s is everything[0]))

    def made(self, scan_id: str, owner: str, key: str) -> Scan:
        scan = Scan(scan_id, owner, key, self.now, due=self.now + CLAIM_WITHIN)
        self.scans.append(scan)
        self.leads_to[owner, key] = scan
        return scan

    # --- Claiming, and what a holder does ---------------------------------------------------------

    def claim(self, scan: Scan) -> Claim:
        self.find(scan)
        if not scan.live:
            raise Refused("ScanFinished")
        if self.held(scan):
            raise Refused("ScanAlreadyClaimed")
        if scan.productive:
            scan.strikes = 0
        elif scan.state == "running" and scan.holder is not None:
            scan.strikes += 1
        if scan.cancel_requested:
            self.finish(scan, asked=True)
            raise Refused("ScanFinished")
        if scan.strikes >= MAX_ATTEMPTS:
            self.finish(scan, error=f"abandoned after {scan.strikes} attempts")
            raise Refused("ScanFinished")
        done = {name for name, outcome in scan.outcomes.items() if outcome.state not in OPEN}
        claim = Claim(scan, scan.mode, done)
        scan.holder, scan.state, scan.productive = claim, "running", False
        scan.attempts += 1
        scan.started = self.now if scan.started is None else scan.started
        scan.heartbeat, scan.due = self.now, self.now + LEASE
        return claim

    def fenced(self, claim: Claim) -> bool:
        scan = claim.scan
        gone = not self.known(scan) or self.expired(scan) or scan.lost
        return gone or not scan.live or scan.holder is not claim

    def writable(self, claim: Claim) -> Scan:
        """Renew the lease, or raise what the holder is told."""
        if claim.over or self.fenced(claim):
            claim.over = True
            raise Refused("ClaimLost")
        scan = claim.scan
        scan.heartbeat, scan.due = self.now, self.now + LEASE
        return scan

    def check(self, claim: Claim, mode: str, name: str | None = None) -> None:
        """Refuse what the holder must not say, before anything is written."""
        if claim.over:
            raise Refused("ClaimLost")
        if claim.mode not in {"", mode} or name in claim.done:
            raise Refused("InvalidInput")

    def begun(self, claim: Claim, name: str) -> None:
        self.check(claim, "outcomes", name)
        scan = self.writable(claim)
        scan.outcomes[name].state = "running"
        scan.outcomes[name].started = self.now
        self._moved(claim, "outcomes")

    def reported(
        self, claim: Claim, name: str, state: str, items: list[dict[str, object]], error: str | None
    ) -> None:
        self.check(claim, "outcomes", name)
        scan = self.writable(claim)
        outcome = scan.outcomes[name]
        outcome.state, outcome.found = state, len(items)
        outcome.finished, outcome.error = self.now, error
        scan.items += [(name, item) for item in items]
        scan.productive = True
        claim.done.add(name)
        self._moved(claim, "outcomes")

    def posted(self, claim: Claim, payload: dict[str, object], *, final: bool) -> None:
        self.check(claim, "payload")
        scan = self.writable(claim)
        scan.posted = read(payload, scan, final=final)
        scan.payload = payload
        scan.productive = True
        self._moved(claim, "payload")
        if final:
            self.finish(scan)
            claim.over = True

    def _moved(self, claim: Claim, mode: str) -> None:
        claim.mode = claim.scan.mode = mode
        claim.scan.progressed = self.now

    def ended(self, claim: Claim, error: str | None, summary: dict[str, object] | None) -> None:
        scan = self.writable(claim)
        scan.summary = summary
        self.finish(scan, error=error)
        claim.over = True

    def released(self, claim: Claim) -> None:
        scan = self.writable(claim)
        if scan.productive:
            scan.strikes = 0
        scan.holder, scan.due, scan.productive = None, self.now, False
        claim.over = True

    # --- Changing from outside --------------------------------------------------------------------

    def finish(self, scan: Scan, *, error: str | None = None, asked: bool = False) -> None:
        asked = scan.cancel_requested = asked or scan.cancel_requested
        missing = [outcome for outcome in scan.outcomes.values() if outcome.state in OPEN]
        for outcome in missing:
            ran = outcome.state == "running"
            outcome.state = "cancelled" if asked else "failed" if ran else "skipped"
            outcome.error = "no outcome was reported" if outcome.state == "failed" else None
            outcome.finished = self.now
        states = {outcome.state for outcome in scan.outcomes.values()}
        incomplete = bool(missing) if scan.posted is None else scan.posted[0] < scan.posted[1]
        if error is not None:
            scan.state, scan.error = "failed", error
        elif asked and incomplete:
            scan.state = "cancelled"
        elif states & {"found", "empty"} or scan.posted is not None:
            scan.state = "complete"
            if scan.posted is not None and not scan.told:
                scan.posted = (scan.posted[1], *scan.posted[1:])
        else:
            scan.state, scan.error = "failed", "no strategy succeeded"
        scan.finished = self.now

    def cancel(self, scan: Scan) -> Scan:
        self.find(scan)
        if scan.live and self.held(scan):
            scan.cancel_requested = True
        elif scan.live:
            self.finish(scan, asked=True)
        return scan

    def extend(self, scan: Scan, units: int) -> Scan:
        self.find(scan)
        if self.now + units > scan.expires:
            scan.extended = self.now + units
        return scan

    def forget(self, scan: Scan) -> None:
        if scan in self.scans:
            self.scans.remove(scan)
        if self.leads_to.get((scan.owner, scan.key)) is scan:
            self.leads_to[scan.owner, scan.key] = None


def read(payload: dict[str, object], scan: Scan, *, final: bool) -> tuple[int, int, int]:
    """Read a payload's progress: completed, total and found."""
    metadata = payload.get("metadata")
    assert isinstance(metadata, dict)
    total = metadata.get("total_strategies")
    stated = metadata.get("strategies_completed")
    performance = payload.get("strategy_performance")
    assert isinstance(performance, list)
    if not isinstance(total, int) or not total:
        total = max(stated or 0, len(performance)) or len(scan.outcomes)
    before = scan.posted or (0, 0, 0)
    scan.told = scan.told or stated is not None
    total = max(total, before[1])
    completed = stated if stated is not None else total if final else 0
    opportunities = payload["opportunities"]
    assert isinstance(opportunities, list)
    return (
        max(min(completed, total), before[0]),
        total,
        max(len(opportunities), before[2]),
    )
