"""Finding a scan: named steps, asked in order; the first that knows answers.

``record`` → ``result`` → ``owner_index`` are read off one reply of the store; then come the
further stores, and the host's own steps wherever the host put them.

Laws
- Absence is never concluded from silence: a step that could not be reached is remembered, and
  if nothing later answers, the outcome is `StorageUnavailable` (incident I6).
- What is torn is looked for further on, and is lost only if nothing can rebuild it.
- Only finished records are copied forward, and only where nothing stands; live ones are read
  through. A healing write that fails never fails the read.
- The owner is checked in the record, on every read (incident I11).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, cast

from msgspec import Struct
from msgspec.structs import replace

from oppscan import codec, ttl, writes
from oppscan.errors import CorruptRecord, InvalidInput, StorageError, StorageUnavailable
from oppscan.flow import AskHost, Flow, HostLookup, ask, timed
from oppscan.inputs import key_name, owner_tag
from oppscan.lifecycle import Scan
from oppscan.model import LookupStepTrace, LookupTrace, ScanStatus
from oppscan.ops import LATEST, Apply, Erase, Resolve, Resolved, Sighting
from oppscan.record import PARTS, Frames, Head, OutcomeEvent, Part, Spec, Stamped
from oppscan.views import fold, status_of

STEPS: Final = ("near", "record", "result", "owner_index", "fallbacks")


class LookupStep(Struct, frozen=True):
    """A step of the host's own: ``find(scan_id, owner)`` gives a `ScanStatus`, or None.

    It is asked by ``status`` and ``explain`` when no step before it knew the scan. In the async
    face it may be a coroutine function. What it raises counts as "unreachable".
    """

    name: str
    find: HostLookup


class Found(Struct, frozen=True):
    """A scan that was read whole, as far as it was asked for; ``store`` is where it lives."""

    scan: Scan
    spec: Spec
    events: tuple[OutcomeEvent | None, ...] | None
    data: Frames | None
    store: int = 0

    @property
    def status(self) -> ScanStatus:
        """The scan as users see it."""
        return status_of(self.scan.scan_id, self.scan.head, self.scan.now, self.spec, self.events)


class Gone(Struct, frozen=True):
    """Why there is no scan to give: ``expired``, ``lost``, ``unknown`` or ``unreachable``."""

    saw: str
    status: ScanStatus | None = None
    error: StorageError | None = None
    detail: str = ""


class Hosted(Struct, frozen=True):
    """A status that one of the host's own steps gave."""

    status: ScanStatus


class Answer(Struct, frozen=True):
    """How a lookup ended, with the trace of how it got there."""

    result: Found | Gone | Hosted
    trace: LookupTrace


class Query(Struct, frozen=True):
    """What is looked for: a scan by id, or an owner's newest under a pointer's name."""

    scan_id: str | None
    owner: str | None
    parts: frozenset[Part] = frozenset({"spec", "events"})
    name: str = LATEST
    data_from: int = 0

    def request(self) -> Resolve:
        """Ask a store for it."""
        tag = (
            owner_tag(self.owner or "") if self.scan_id is None else self.scan_id.partition("-")[0]
        )
        return Resolve(self.scan_id, tag, self.name, self.parts, self.data_from)


class Sources(Struct, frozen=True):
    """Where to look: how many stores, which steps, how long an index is, which store is first."""

    stores: int = 1
    steps: tuple[str | LookupStep, ...] = STEPS
    remembered: int = 1000
    first: int = 0


def check_steps(steps: Sequence[str | LookupStep] | None) -> tuple[str | LookupStep, ...]:
    """Check the ``lookups`` of a registry: names of built-in steps, and steps of the host's."""
    if steps is None:
        return STEPS
    for step in steps:
        if not isinstance(step, LookupStep) and step not in STEPS:
            msg = f"lookups: {step!r} is neither one of {', '.join(STEPS)} nor a LookupStep"
            raise InvalidInput(msg)
    if "record" not in steps:
        msg = "lookups: the step 'record' must be there, or nothing would be found"
        raise InvalidInput(msg)
    return tuple(steps)


# --- Reading one store's reply: pure ------------------------------------------------------------


def _read(seen: Sighting, head: Head, version: str, now: int, query: Query) -> Found | Gone:
    """Read a scan whose head is known; lost, when a part of it is not there."""
    scan = Scan(seen.scan_id, version, head, now)
    if not _owned(head, query) or now >= ttl.forgotten_at(head):
        return Gone("unknown")
    if now >= ttl.expires_at(head):
        return Gone("expired", status_of(seen.scan_id, head, now))
    spec = codec.decode_spec(seen.spec, seen.scan_id)
    if spec is None and "spec" in query.parts:
        return Gone("lost", status_of(seen.scan_id, head, now), detail="its description is gone")
    if spec is not None and len(spec.strategies) != head.total:
        msg = f"scan {seen.scan_id} has {head.total} strategies, and names {len(spec.strategies)}"
        raise CorruptRecord(msg, scan_id=seen.scan_id)
    events = None
    if "events" in query.parts:
        if _reach(seen.events) < head.events:
            return Gone("lost", status_of(seen.scan_id, head, now), detail="its outcomes are gone")
        folded = fold(codec.decode_events(seen.events, seen.scan_id), head.total)
        events = tuple(folded)
    return Found(scan, spec or Spec({}, {}, ()), events, seen.data)


def _reach(frames: Frames | None) -> int:
    return 0 if frames is None else frames.reach


def _owned(head: Head, query: Query) -> bool:
    return query.owner is None or head.owner == query.owner


def _from_record(seen: Sighting, now: int, query: Query) -> Found | Gone:
    head = codec.decode_head(seen.head, seen.scan_id)
    if head is None or seen.head is None:
        return Gone("unknown")
    return _read(seen, head, seen.head.version, now, query)


def _from_result(seen: Sighting, now: int, query: Query) -> Found | Gone:
    """Rebuild a finished record from the envelope at the end of its results."""
    envelope = codec.decode_envelope(seen.data, seen.scan_id)
    if envelope is None or seen.data is None:
        return Gone("unknown")
    stamp = seen.data.items[-1].stamp
    head = codec.read_head(envelope.head, stamp, seen.scan_id)
    for newer in (codec.decode_head(seen.head, seen.scan_id), _entry_head(seen)):
        if newer is not None and newer.revision == head.revision:
            head = newer  # it saw an extension that the envelope did not
            break
    frames = tuple(Stamped(stamp, body) for body in envelope.events)
    rebuilt = replace(
        seen,
        spec=Frames(1, 0, (Stamped(stamp, envelope.spec),)),
        events=Frames(len(frames), 0, frames),
    )
    head = replace(head, events=len(frames))  # folded: the last event of each strategy
    return _read(rebuilt, head, "", now, query)


def _entry_head(seen: Sighting) -> Head | None:
    entry = seen.entry
    return None if entry is None else codec.read_head(entry.body, entry.stamp, seen.scan_id)


def _from_index(seen: Sighting, now: int, query: Query) -> Found | Gone:
    """Tell lost and expired from unknown, by the owner's index or by what is left of the scan."""
    head = _entry_head(seen)
    if head is None:
        torn = seen.head is None and (seen.spec or seen.events or seen.data)
        return Gone("lost", detail="only parts of it are left") if torn else Gone("unknown")
    if not _owned(head, query) or now >= ttl.forgotten_at(head):
        return Gone("unknown")
    status = status_of(seen.scan_id, head, now)
    if now >= ttl.expires_at(head):
        return Gone("expired", status)
    return Gone("lost", status, detail="the index still lists it, its record is gone")


_READERS: Final[dict[str, Callable[[Sighting, int, Query], Found | Gone]]] = {
    "record": _from_record,
    "result": _from_result,
    "owner_index": _from_index,
}


# --- Asking in order ----------------------------------------------------------------------------


class _Search:
    """One lookup under way: what each step saw, and the best that is known so far."""

    def __init__(self, query: Query, sources: Sources) -> None:
        self.query = query
        self.sources = sources
        self.trace: list[LookupStepTrace] = []
        self.best = Gone("unknown")
        self.scan_id = query.scan_id
        self.first: tuple[Resolved | None, float] | None = None

    def note(self, name: str, result: Found | Gone | Hosted, took: float) -> None:
        """Add a step to the trace, and remember the weightiest miss."""
        left = None
        if isinstance(result, Found):
            left = (ttl.expires_at(result.scan.head) - result.scan.now) / 1000
        saw = result.saw if isinstance(result, Gone) else "found"
        detail = result.detail if isinstance(result, Gone) else ""
        self.trace.append(LookupStepTrace(name, saw, detail, took, left))
        silent = self.best.error is not None  # then nothing but a find is worth more
        if isinstance(result, Gone) and not silent and _WEIGHT[result.saw] > _WEIGHT[self.best.saw]:
            self.best = result

    def run(self) -> Flow[Answer]:
        """Ask every step until one knows."""
        for step in self.sources.steps:
            result: Found | Gone | Hosted | None = None
            if isinstance(step, LookupStep):
                result = yield from self.ask_host(step)
            elif step == "fallbacks":
                result = yield from self.ask_fallbacks()
            elif step in _READERS:
                result = yield from self.ask_first(step)
            if result is not None:
                return self.answer(result)
        return self.answer(self.best)

    def answer(self, result: Found | Gone | Hosted) -> Answer:
        """Close the trace."""
        saw = result.saw if isinstance(result, Gone) else "found"
        query = self.query
        trace = LookupTrace(self.scan_id, query.owner, tuple(self.trace), saw, result.status)
        return Answer(result, trace)

    def ask_first(self, step: str) -> Flow[Found | Gone | None]:
        """Read one step off the first store's reply, which is asked for once."""
        store = self.sources.first
        if self.first is None:
            self.first = yield from self.ask_store(store)
        reply, took = self.first
        result = self.read(step, step, reply, took)
        if isinstance(result, Found):
            result = replace(result, store=store)
            yield from self.heal(result, step, cast("Resolved", reply))
        return result

    def ask_store(self, store: int) -> Flow[tuple[Resolved | None, float]]:
        """Read one store; its silence is remembered, not raised."""
        try:
            reply, took = yield from timed(store, self.query.request())
        except StorageUnavailable as error:
            self.best = Gone("unreachable", error=error, detail=str(error))
            return None, 0.0
        return reply, took

    def read(
        self, name: str, step: str, reply: Resolved | None, took: float
    ) -> Found | Gone | None:
        """Read one step off a store's reply; None where it does not know."""
        if reply is None:
            self.note(name, Gone("unreachable"), took)
            return None
        seen = reply.sighting
        if seen is None:
            self.note(name, Gone("unknown"), took)
            return None
        self.scan_id = seen.scan_id
        result = _READERS[step](seen, reply.now, self.query)
        self.note(reply.via if name == "record" else name, result, took)
        return result if isinstance(result, Found) or result.saw == "expired" else None

    def ask_fallbacks(self) -> Flow[Found | Gone | None]:
        """Ask the further stores. Where the first one is down or torn, only for finished scans."""
        settled_only = self.best.saw in {"lost", "unreachable"}
        for store in range(1, self.sources.stores):
            before = self.best
            reply, took = yield from self.ask_store(store)
            if reply is None and before.saw in {"lost", "unreachable"}:
                self.best = before
            for step in self.sources.steps:
                if not isinstance(step, str) or step not in _READERS:
                    continue
                result = self.read(f"{step}@{store}", step, reply, took)
                if isinstance(result, Found) and settled_only and result.scan.head.live:
                    break
                if isinstance(result, Found):
                    found = replace(result, store=store)
                    return (yield from self.copy_forward(found))
                if result is not None and not settled_only:
                    return result
        return None

    def copy_forward(self, found: Found) -> Flow[Found]:
        """Copy a finished scan into the first store, where nothing stands; best effort."""
        scan = found.scan
        if scan.head.live or self.best.saw == "unreachable":
            return found
        everything = replace(self.query, scan_id=scan.scan_id, parts=frozenset(PARTS), data_from=0)
        try:
            reply = yield from ask(found.store, everything.request())
            seen = reply.sighting
            if seen is not None and seen.head is not None:
                yield from ask(0, writes.copy(scan, seen, self.sources.remembered))
                yield from self.take_back(scan, found.store)
                return replace(found, store=0)
        except StorageError as error:
            self.trace.append(LookupStepTrace("copy", "unreachable", str(error)))
        return found

    def take_back(self, scan: Scan, store: int) -> Flow[None]:
        """Undo a copy of what was forgotten meanwhile."""
        reply = yield from ask(store, Resolve(scan.scan_id, scan.tag))
        if reply.sighting is None or reply.sighting.head is None:
            names = (LATEST, key_name(scan.head.key))
            yield from ask(0, Apply((), (Erase(scan.scan_id, scan.tag, names),)))

    def heal(self, found: Found, step: str, reply: Resolved) -> Flow[None]:
        """Write back what a lookup found missing; best effort."""
        seen = cast("Sighting", reply.sighting)
        scan, most = found.scan, self.sources.remembered
        if step == "result":
            version = None if seen.head is None else seen.head.version
            heal = writes.rebuild(scan, version, found.spec, found.events or (), most)
        elif seen.entry is None and not reply.index:
            heal = writes.reenter(scan, most)
        else:
            return
        try:
            yield from ask(self.sources.first, heal)
        except StorageError as error:
            self.trace.append(LookupStepTrace("heal", "unreachable", str(error)))

    def ask_host(self, step: LookupStep) -> Flow[Hosted | None]:
        """Ask a step of the host's own, which needs a scan's id."""
        if self.scan_id is None:
            return None
        try:
            status, took = yield AskHost(step.find, self.scan_id, self.query.owner)
        except Exception as error:  # noqa: BLE001 - foreign code; its failure is not an absence
            unreachable = StorageUnavailable(f"lookup step {step.name!r} failed: {error!r}")
            self.note(step.name, Gone("unreachable", error=unreachable, detail=repr(error)), 0.0)
            return None
        mine = isinstance(status, ScanStatus) and self.query.owner in {None, status.owner}
        result = Hosted(status) if mine else Gone("unknown")
        self.note(step.name, result, took)
        return result if isinstance(result, Hosted) else None


_WEIGHT: Final = {"unknown": 0, "unreachable": 1, "lost": 2, "expired": 3}


def look(query: Query, sources: Sources) -> Flow[Answer]:
    """Look for a scan, step by step. One round trip where the first store knows or is alone."""
    return (yield from _Search(query, sources).run())
