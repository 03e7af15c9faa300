"""The demonstration from beginning to end: who is started, told, killed and waited for.

The parent starts the scan and never works on it; one process runs it; others poll it, each with a
registry of its own. All that they share is the store. With ``kill``, the working process is
killed half way, the pollers see the scan stalled, and a second one takes it up.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from attrs import define, field, frozen

from oppscan import Reuse, StorageError, TTLPolicy, sync
from oppscan.demo.crew import Crew, DemoFailed, Member, kill
from oppscan.demo.scene import Ending, Poller, Proof, Scene, Worker, ending
from oppscan.demo.strategies import STRATEGIES
from oppscan.demo.wire import NAMESPACE, OWNER, Go, Job, Ready
from oppscan.demo.wording import count_text

POLLERS: Final = 3
LEASE: Final = 1.0  # seconds; short, so that a killed worker is soon missed
PATIENCE: Final = 30.0  # seconds for one step of the show, besides the rests
_WORKER: Final = "oppscan.demo.worker"
_POLLER: Final = "oppscan.demo.poller"


class View(Protocol):
    """A way of showing it."""

    def show(self, scene: Scene) -> None:
        """Show what is known now; called several times a second."""
        ...

    def stop(self) -> None:
        """Leave the terminal in order; nothing more is shown."""
        ...

    def end(self, scene: Scene, end: Ending) -> None:
        """Show how it went."""
        ...


@frozen
class Options:
    """What was asked for. ``store``: a URL, or None for a SQLite file that is removed again."""

    store: str | None = None
    kill: bool = False
    pause: float = 0.6


@define
class Stage:
    """The scene, those who play in it, and who watches."""

    crew: Crew
    scene: Scene
    view: View
    patience: float
    _began: float = field(factory=time.monotonic)
    _ready: set[str] = field(factory=set)

    def until(self, there: Callable[[], bool], what: str) -> None:
        """Listen and show until it is there; `DemoFailed` when that takes too long."""
        deadline = time.monotonic() + self.patience
        while not there():
            if time.monotonic() > deadline:
                raise DemoFailed(f"waited {self.patience:.0f} s in vain: {what}")
            for member, said in self.crew.hear():
                if not isinstance(said, Ready):
                    self.scene.sighted(member.name, said)
                    continue
                self._ready.add(member.name)
                self.scene.market = self.scene.market or said.about
            self.scene.clock = time.monotonic() - self._began
            self.view.show(self.scene)

    def ready(self, *members: Member) -> bool:
        """Tell whether these wait for their scan."""
        return self._ready.issuperset(member.name for member in members)

    def enter_worker(self, job: Job) -> Member:
        """Bring in a worker."""
        member = self.crew.spawn(f"worker {len(self.scene.workers) + 1}", _WORKER, job)
        self.scene.workers.append(Worker(member.name, member.pid))
        return member

    def enter_poller(self, job: Job) -> Member:
        """Bring in a poller."""
        member = self.crew.spawn(f"poller {len(self.scene.pollers) + 1}", _POLLER, job)
        self.scene.pollers.append(Poller(member.name, member.pid))
        return member

    def news(self, member: Member, doing: str, *, trouble: bool = False) -> None:
        """Note what a worker does now."""
        worker = self.scene.worker(member.name)
        worker.doing, worker.trouble = doing, trouble
        self.scene.note(f"{member.name} (pid {member.pid}) {doing}")


def run(options: Options, view: View) -> Ending:
    """Play the demonstration; processes and temporary files are gone when this is left.

    Raises `DemoFailed`, and what the store raises.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oppscan-demo-")))
        own = f"sqlite:///{quote(str(folder / 'scans.db'))}"
        store = own if options.store is None else options.store
        policy = TTLPolicy(lease=LEASE)
        registry = stack.enter_context(sync.connect(store, ttl=policy, namespace=NAMESPACE))
        crew = stack.enter_context(Crew(folder))
        stack.callback(view.stop)
        registry.ping()
        scene = Scene(without_secrets(store), options.pause, tuple(STRATEGIES))
        stage = Stage(crew, scene, view, PATIENCE + len(STRATEGIES) * options.pause)
        end = _play(options, store, registry, stage, folder)
        view.end(scene, end)
        return end


def _play(
    options: Options, store: str, registry: sync.ScanRegistry, stage: Stage, folder: Path
) -> Ending:
    scene = stage.scene
    half = len(STRATEGIES) // 2 if options.kill else None
    first = Job(store, options.pause, str(folder / "first.log"), half)
    worker = stage.enter_worker(first)
    pollers = [stage.enter_poller(Job(store)) for _ in range(POLLERS)]
    stage.until(lambda: stage.ready(worker, *pollers), "the processes to start")

    with _scan(registry, scene.market, remove=options.store is not None) as scan_id:
        for member in (*pollers, worker):
            member.say(Go(scan_id))
        stage.news(worker, "runs the scan")
        those = ", ".join(f"{member.name} (pid {member.pid})" for member in pollers)
        scene.note(f"{those} poll it")
        proof = None
        if half is None:
            stage.until(lambda: scene.read_out, "the results")
            stage.news(worker, "ran the scan")
        else:
            stage.until(lambda: scene.scan.completed >= half, "half of the outcomes")
            second = Job(store, options.pause, str(folder / "second.log"))
            settled = _replace(stage, worker, second, scan_id)
            proof = Proof(settled, _names(first), _names(second))
        end = ending(scene, proof)
        stage.until(lambda: all(member.over for member in stage.crew.members), "a last word")
        return end


def _replace(stage: Stage, worker: Member, job: Job, scan_id: str) -> tuple[str, ...]:
    """Kill a worker, have another resume its scan, and give the names that had their outcome."""
    scene = stage.scene
    kill(worker)
    killed = scene.clock
    fate = f"killed (SIGKILL) at {count_text(scene.scan)}"
    stage.news(worker, fate, trouble=True)
    other = stage.enter_worker(job)
    stage.news(other, "starts, and waits for the scan to stall")
    stage.until(lambda: scene.all_stalled and stage.ready(other), "the scan to stall")

    stalled = scene.clock
    settled = tuple(strategy.name for strategy in scene.scan.strategies if strategy.done)
    scene.note(f"all pollers see the scan stalled, {stalled - killed:.1f} s after the kill")
    scene.worker(worker.name).doing = f"{fate}, seen stalled {stalled - killed:.1f} s later"
    stage.until(lambda: scene.clock >= stalled + job.pause, "a moment to watch")

    other.say(Go(scan_id))
    stage.news(other, "resumes the scan")
    stage.until(lambda: scene.read_out, "the results")
    stage.news(other, "resumed the scan and finished it")
    return settled


@contextmanager
def _scan(registry: sync.ScanRegistry, market: str, *, remove: bool) -> Iterator[str]:
    """Start a scan; in a store that is not ours, take it out again in the end."""
    params = {"market": market}
    ticket = registry.start(OWNER, list(STRATEGIES), params=params, reuse=Reuse.NEVER)
    try:
        yield ticket.scan_id
    finally:
        if remove:
            with suppress(StorageError):  # else it expires by itself
                registry.forget(ticket.scan_id, owner=OWNER)


def _names(job: Job) -> tuple[str, ...]:
    return tuple(Path(job.log).read_text(encoding="utf-8").split())


def without_secrets(store: str) -> str:
    """Give the URL without user and password."""
    scheme, slashes, rest = store.partition("//")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"
