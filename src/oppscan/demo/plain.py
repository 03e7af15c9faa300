"""The show as plain lines: for pipes, logs, small terminals, and where rich is not installed.

A line is written when something happened, and never changed again; no escape codes.
"""

from __future__ import annotations

from textwrap import wrap
from typing import TextIO

from attrs import define, field

from oppscan.demo import wording
from oppscan.demo.scene import Ending, Scene
from oppscan.demo.wire import Strategy


@define
class PlainView:
    """Writes to ``out``; lines are broken at ``width`` columns where that is known."""

    out: TextIO
    width: int | None = None
    _told: set[str] = field(factory=set)
    _notes: int = 0
    _headed: bool = False

    def show(self, scene: Scene) -> None:
        """Write what is new."""
        if scene.market and not self._headed:
            self._headed = True
            self._write("oppscan demo", *wording.heading(scene), "")
        for note in scene.notes[self._notes :]:
            self._write(f"{note.at:5.1f}s  {wording.count_text(scene.scan):>5}  {note.text}")
        self._notes = len(scene.notes)
        new = [s for s in scene.scan.strategies if s.done and s.name not in self._told]
        before = scene.scan.completed - len(new)
        for place, strategy in enumerate(new, before + 1):
            self._told.add(strategy.name)
            count = f"{place}/{scene.scan.total}"
            self._write(f"{scene.clock:5.1f}s  {count:>5}  {_outcome(strategy)}")

    def stop(self) -> None:
        """Nothing is on the screen that could be left half drawn."""

    def end(self, scene: Scene, end: Ending) -> None:
        """Write how it went."""
        self._write("", *(wording.poller_text(poller) for poller in scene.pollers))
        self._write("", f"{wording.title(end)}:", "")
        self._lines(wording.table(end.opportunities, self.width or 1000))
        self._write("", wording.ADVICE, *wording.failures(end.scan))
        if end.proof is not None:
            lines = wording.proof_lines(end.proof)
            self._write("", *(f"{label}: {text}" for label, text in lines))
        self._write("", wording.verdict(end), wording.summary(end))

    def _write(self, *texts: str) -> None:
        for text in texts:
            whole = self.width is None or len(text) <= self.width
            self._lines([text] if whole else wrap(text, self.width or 0, subsequent_indent="  "))

    def _lines(self, lines: list[str]) -> None:
        self.out.writelines(f"{line}\n" for line in lines)
        self.out.flush()


def _outcome(strategy: Strategy) -> str:
    took = wording.seconds_text(strategy.duration)
    return f"{strategy.name:<20} {wording.outcome_text(strategy):<8} {took}".rstrip()
