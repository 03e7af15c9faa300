"""Finding a scan: named steps, asked in order; the first that knows answers.

``record`` → ``result`` → ``owner_index`` are read off one reply of the store; then come the
further stores, and the host's own steps wherever the host put them.

Laws
- Absence is never concluded from silence: a step that could not be reached is remembered, and
  if nothing later answers, the outcome is `StorageUnavailable` (incident I6).
- What is torn is looked for further on, and is lost only if nothing can rebuild it.
- Only finished records are copied forward, and only where nothing stands; live ones are read
  through. A healing write that fails never fails the read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

from msgspec import Struct, field
from msgspec.structs import replace

from oppscan import ttl, writes
from oppscan.errors import CorruptRecord, InvalidInput, StorageError, StorageUnavailable
from oppscan.flow import AskHost, Call, Flow, HostLookup, ask
from oppscan.inputs import key_name
from oppscan.lifecycle import Scan
from oppscan.model import LookupStepTrace, LookupTrace, ScanStatus
from oppscan.ops import LATEST, Apply, Erase, Resolve, Resolved, Sighting
from oppscan.recent import Recent
from oppscan.record import PARTS
from oppscan.sightings import READERS, Found, Gone, Query

STEPS: Final = ("near", "record", "result", "owner_index", "fallbacks")


class LookupStep(Struct, frozen=True):
    """A step of the host's own: ``find(scan_id, owner)`` gives a `ScanStatus`, or None.

    It is asked by ``status`` and ``explain`` when no step before it knew the scan. In the async
    face it may be a coroutine function. What it raises counts as "unreachable".
    """

    name: str
    find: HostLookup


class Hosted(Struct, frozen=True):
    """A status that one of the host's own steps gave."""

    status: ScanStatus


Asked = tuple[str, Found | Gone | Hosted, float]
"""A step that was asked: its name, what it gave, and the seconds that it took."""


def _traced(name: str, result: Found | Gone | Hosted, took: float) -> LookupStepTrace:
    if isinstance(result, Gone):
        return LookupStepTrace(name, result.saw, result.detail, took)
    left = None
    if isinstance(result, Found):
        left = (ttl.expires_at(result.scan.head) - result.scan.now) / 1000
    return LookupStepTrace(name, "found", "", took, left)


class Answer(Struct, frozen=True):
    """How a lookup ended, with the trace of how it got there."""

    result: Found | Gone | Hosted
    scan_id: str | None
    owner: str | None
    steps: tuple[Asked, ...]

    @property
    def trace(self) -> LookupTrace:
        """How it got there; made when asked for, as most lookups never are."""
        saw = self.result.saw if isinstance(self.result, Gone) else "found"
        steps = tuple(_traced(*asked) for asked in self.steps)
        return LookupTrace(self.scan_id, self.owner, steps, saw, self.result.status)


class Sources(Struct, frozen=True):
    """Where to look: how many stores, which steps, how long an index is, which store is first.

    ``recent``: what was decoded lately, so that equal bytes are decoded once.
    """

    stores: int = 1
    steps: tuple[str | LookupStep, ...] = STEPS
    remembered: int = 1000
    first: int = 0
    recent: Recent = field(default_factory=Recent)


def check_steps(steps: object) -> tuple[str | LookupStep, ...]:
    """Check the ``lookups`` of a registry: names of built-in steps, and steps of the host's."""
    if steps is None:
        return STEPS
    if isinstance(steps, str) or not isinstance(steps, Iterable):
        msg = f"lookups must be a sequence of steps, not {steps!r}"
        raise InvalidInput(msg)
    for step in steps:
        if not _is_step(step):
            known = ", ".join(STEPS)
            msg = f"lookups: {step!r} is neither one of {known} nor a LookupStep(name, function)"
            raise InvalidInput(msg)
    if "record" not in steps:
        msg = "lookups: the step 'record' must be there, or nothing would be found"
        raise InvalidInput(msg)
    return tuple(steps)


def _is_step(step: object) -> bool:
    if not isinstance(step, LookupStep):
        return step in STEPS
    name: object = step.name
    return isinstance(name, str) and callable(step.find)


class _Search:
    """One lookup under way: what each step saw, and the best that is known so far."""

    def __init__(self, query: Query, sources: Sources) -> None:
        self.query = query
        self.sources = sources
        self.asked: list[Asked] = []
        self.best = Gone("unknown")
        self.scan_id = query.scan_id
        self.first: tuple[Resolved | None, float] | None = None

    def note(self, name: str, result: Found | Gone | Hosted, took: float) -> None:
        """Remember a step, and the weightiest miss."""
        self.asked.append((name, result, took))
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
            elif step in READERS:
                result = yield from self.ask_first(step)
            if result is not None:
                return self.answer(result)
        return self.answer(self.best)

    def answer(self, result: Found | Gone | Hosted) -> Answer:
        """Close the lookup."""
        return Answer(result, self.scan_id, self.query.owner, tuple(self.asked))

    def ask_first(self, step: str) -> Flow[Found | Gone | None]:
        """Read one step off the first store's reply, which is asked for once."""
        store = self.sources.first
        if self.first is None:
            self.first = yield from self.ask_store(store)
        reply, took = self.first
        result = self.read(step, step, reply, took)
        if isinstance(result, Found):
            if store != result.store:
                result = replace(result, store=store)
            heal = self.healing(result, step, cast("Resolved", reply))
            if heal is not None:
                yield from self.heal(heal)
        return result

    def ask_store(self, store: int) -> Flow[tuple[Resolved | None, float]]:
        """Read one store; its silence is remembered, not raised.

        A further store's silence does not outweigh that the first one is silent or torn.
        """
        try:
            call = Call(store, self.query.request())
            reply, took = cast("tuple[Resolved, float]", (yield call))
        except StorageUnavailable as error:
            if store == self.sources.first or self.best.saw not in _TROUBLE:
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
        result: Found | Gone
        try:
            result = READERS[step](seen, reply.now, self.query, self.sources.recent)
        except CorruptRecord as error:  # perhaps another version's: nothing may stand in for it
            result = Gone("corrupt", error=error, detail=str(error))
        self.note(reply.via if name == "record" else name, result, took)
        return result if isinstance(result, Found) or result.saw in _CERTAIN else None

    def ask_fallbacks(self) -> Flow[Found | Gone | None]:
        """Ask the further stores. Where the first one is down or torn, only for finished scans."""
        settled_only = self.best.saw in _TROUBLE
        for store in range(1, self.sources.stores):
            reply, took = yield from self.ask_store(store)
            for step in self.sources.steps:
                if not isinstance(step, str) or step not in READERS:
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
            self.asked.append(("copy", Gone("unreachable", detail=str(error)), 0.0))
        return found

    def take_back(self, scan: Scan, store: int) -> Flow[None]:
        """Undo a copy of what was forgotten meanwhile."""
        reply = yield from ask(store, Resolve(scan.scan_id, scan.tag))
        if reply.sighting is None or reply.sighting.head is None:
            names = (LATEST, key_name(scan.head.key))
            yield from ask(0, Apply((), (Erase(scan.scan_id, scan.tag, names),)))

    def healing(self, found: Found, step: str, reply: Resolved) -> Apply | None:
        """Give what writes back what a lookup found missing; mostly nothing is."""
        seen = cast("Sighting", reply.sighting)
        scan, most = found.scan, self.sources.remembered
        if step == "result":
            version = None if seen.head is None else seen.head.version
            return writes.rebuild(scan, version, found.spec, found.events or (), most)
        lost = not reply.listed if scan.head.live else not reply.index  # others may be trimmed
        return writes.relist(scan, most) if lost else None

    def heal(self, heal: Apply) -> Flow[None]:
        """Write back what was missing; best effort."""
        try:
            yield from ask(self.sources.first, heal)
        except StorageError as error:
            self.asked.append(("heal", Gone("unreachable", detail=str(error)), 0.0))

    def ask_host(self, step: LookupStep) -> Flow[Hosted | None]:
        """Ask a step of the host's own, which needs a scan's id."""
        if self.scan_id is None:
            return None
        try:
            status, took = yield AskHost(step.find, self.scan_id, self.query.owner)
            if not isinstance(status, ScanStatus | None):
                raise TypeError(f"it gave {type(status).__name__}, not a ScanStatus or None")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 - foreign code; its failure is not an absence
            unreachable = StorageUnavailable(f"lookup step {step.name!r} failed: {error!r}")
            self.note(step.name, Gone("unreachable", error=unreachable, detail=repr(error)), 0.0)
            return None
        if status is None or self.query.owner not in {None, status.owner}:
            self.note(step.name, Gone("unknown"), took)
            return None
        result = Hosted(status)
        self.note(step.name, result, took)
        return result


_WEIGHT: Final = {"unknown": 0, "unreachable": 1, "lost": 2, "expired": 3, "corrupt": 3}
_CERTAIN: Final = frozenset({"expired", "corrupt"})
_TROUBLE: Final = frozenset({"unreachable", "lost"})


def look(query: Query, sources: Sources) -> Flow[Answer]:
    """Look for a scan, step by step. One round trip where the first store knows or is alone."""
    return (yield from _Search(query, sources).run())
