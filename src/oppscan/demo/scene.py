"""What the demonstration knows at a moment; both ways of showing it draw from here.

Everything about the scan comes from what pollers saw, through the store. Pure: it is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import define, field, frozen

from oppscan.demo.wire import Scan, Sighting, Strategy

_NOTHING: Final = Scan("starting", 0, 0, 0)


@define
class Worker:
    """A process that runs strategies; ``doing`` says what it is at, ``trouble`` that it is bad."""

    name: str
    pid: int
    doing: str = "starts"
    trouble: bool = False


@define
class Poller:
    """A process that polls, and the latest that it said."""

    name: str
    pid: int
    sighting: Sighting | None = None

    @property
    def scan(self) -> Scan:
        """What its latest answered poll showed."""
        return (self.sighting and self.sighting.scan) or _NOTHING


@frozen
class Note:
    """Something that happened, ``at`` seconds after the start."""

    at: float
    text: str


@define
class Scene:
    """The state of the show. ``clock``: seconds since it began."""

    store: str
    pause: float
    strategies: tuple[str, ...]
    market: str = ""
    clock: float = 0.0
    workers: list[Worker] = field(factory=list)
    pollers: list[Poller] = field(factory=list)
    notes: list[Note] = field(factory=list)
    scan: Scan = _NOTHING

    def __attrs_post_init__(self) -> None:
        """Nothing was polled yet."""
        unseen = tuple(Strategy(name) for name in self.strategies)
        self.scan = Scan("starting", 0, 0, len(unseen), strategies=unseen)

    def note(self, text: str) -> None:
        """Put down what happened now."""
        self.notes.append(Note(self.clock, text))

    def worker(self, name: str) -> Worker:
        """Give the worker of that name."""
        return next(worker for worker in self.workers if worker.name == name)

    def sighted(self, name: str, sighting: Sighting) -> None:
        """Take in what a poller saw; the scan shown is the newest that any of them saw."""
        for poller in self.pollers:
            if poller.name == name:
                poller.sighting = sighting
        if sighting.scan is not None and sighting.scan.revision >= self.scan.revision:
            self.scan = sighting.scan

    @property
    def all_stalled(self) -> bool:
        """Whether all pollers see the scan stalled."""
        return all(poller.scan.stalled for poller in self.pollers)

    @property
    def read_out(self) -> bool:
        """Whether all pollers have read the results of the finished scan."""
        return all(p.sighting and p.sighting.opportunities is not None for p in self.pollers)


@frozen
class Proof:
    """Which strategies ran before and after the kill, and which had their outcome at the kill."""

    settled: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def interrupted(self) -> tuple[str, ...]:
        """Those that were running when their worker was killed: they had no outcome yet."""
        return tuple(name for name in self.before if name not in self.settled)

    @property
    def twice(self) -> tuple[str, ...]:
        """Those that ran again although they had their outcome, or twice in one process."""
        again = [name for name in self.settled if name in self.after]
        for names in (self.before, self.after):
            again += [name for place, name in enumerate(names) if name in names[:place]]
        return tuple(again)


@frozen
class Ending:
    """How it went: the scan in its final state, what was found, best first, and all counts."""

    scan: Scan
    seconds: float
    opportunities: Sequence[Mapping[str, object]]
    alike: bool
    pollers: int
    polls: int
    steps_back: int
    missing: int
    proof: Proof | None = None

    @property
    def flaws(self) -> tuple[str, ...]:
        """What went against the promises; nothing, as a rule."""
        found = {
            f"the scan is {self.scan.state}: {self.scan.error}": self.scan.state != "complete",
            f"{self.steps_back} polls went back": self.steps_back > 0,
            f"{self.missing} polls found no scan": self.missing > 0,
            "the pollers read different results": not self.alike,
        }
        if self.proof is not None:
            found[f"ran twice: {', '.join(self.proof.twice)}"] = bool(self.proof.twice)
        return tuple(text for text, true in found.items() if true)


def ending(scene: Scene, proof: Proof | None = None) -> Ending:
    """Sum up a scene whose pollers have read the results."""
    sightings = [poller.sighting for poller in scene.pollers if poller.sighting is not None]
    results = [sighting.opportunities or [] for sighting in sightings]
    return Ending(
        scan=scene.scan,
        seconds=scene.clock,
        opportunities=results[0],
        alike=all(result == results[0] for result in results),
        pollers=len(sightings),
        polls=sum(sighting.polls for sighting in sightings),
        steps_back=sum(sighting.steps_back for sighting in sightings),
        missing=sum(sighting.missing for sighting in sightings),
        proof=proof,
    )
