"""The show on a terminal that can be redrawn; needs rich (the extra ``cli``).

Everything is laid out for 80 columns and 22 rows at least; smaller ones get `oppscan.demo.plain`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import define, field
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from oppscan.demo import wording
from oppscan.demo.scene import Ending, Poller, Proof, Scene
from oppscan.demo.wire import Scan, Strategy

LEAST_WIDTH: Final = 80
LEAST_HEIGHT: Final = 22
WIDEST: Final = 120
FRAMES: Final = 12  # a second, at most

_STYLES: Final = {
    "pending": "bright_black",
    "starting": "bright_black",
    "running": "cyan",
    "stalled": "bold yellow",
    "complete": "bold green",
    "found": "green",
    "empty": "bright_black",
    "failed": "bold red",
    "timed_out": "red",
    "cancelled": "yellow",
    "skipped": "yellow",
    "buy": "green",
    "sell": "red",
}
_GLYPHS: Final = {
    "pending": "·",
    "found": "✓",
    "empty": "○",
    "failed": "✗",
    "timed_out": "✗",
    "cancelled": "-",
    "skipped": "-",
}
_BLANK: Final = " "
_PLAIN_GLYPHS: Final = str.maketrans("·✓○✗", ".+o!")


@define
class LiveView:
    """Draws on ``console``, which must be a terminal."""

    console: Console
    _live: Live = field(init=False)
    _spinner: Spinner = field(init=False)
    _drawn: float = -1.0

    def __attrs_post_init__(self) -> None:
        """Nothing is drawn yet; frames are drawn here, not by a thread of rich's own."""
        self._live = Live(console=self.console, auto_refresh=False, vertical_overflow="crop")
        self._spinner = Spinner("line" if self._ascii else "dots", style="cyan")

    @property
    def _ascii(self) -> bool:
        return not self.console.encoding.startswith("utf")

    @property
    def _width(self) -> int:
        return min(self.console.width, WIDEST)

    def show(self, scene: Scene) -> None:
        """Draw what is known now, unless the last frame was drawn a moment ago."""
        if not self._live.is_started:
            self._live.start()
        if scene.clock - self._drawn >= 1 / FRAMES:
            self._drawn = scene.clock
            self._live.update(self._frame(scene), refresh=True)

    def stop(self) -> None:
        """Leave the last frame where it is, and give the cursor back."""
        self._live.stop()

    def end(self, scene: Scene, end: Ending) -> None:
        """Draw the last frame, and under it how it went."""
        self._live.update(self._frame(scene), refresh=True)
        self.stop()
        self._say(wording.title(end), "bold")
        table = Padding(_table(end, self._width - 2), (0, 0, 0, 1))
        self.console.print(table, width=self._width)
        self._say(wording.ADVICE, "bright_black")
        if failures := wording.failures(end.scan):
            self._say("\n".join(failures), "red")
        if end.proof is not None:
            self.console.print(Padding(_proof(end.proof), (1, 0, 0, 1)), width=self._width)
        style = "bold red" if end.flaws else "bold green"
        self._say(f"{wording.verdict(end)}\n{wording.summary(end)}", style)

    def _say(self, text: str, style: str) -> None:
        self.console.print(Padding(Text(text, style=style), (1, 0, 0, 1)), width=self._width)

    # --- One frame ------------------------------------------------------------------------------

    def _frame(self, scene: Scene) -> RenderableType:
        parts = (
            Text("oppscan demo", style="bold"),
            *(Text(line, no_wrap=True, overflow="ellipsis") for line in wording.heading(scene)),
            _BLANK,
            self._progress(scene),
            _BLANK,
            self._strategies(scene),
            _BLANK,
            _workers(scene),
            _BLANK,
            _pollers(scene),
        )
        # Each on its own: a last line as wide as the screen would be broken by the ^C of Ctrl-C.
        return Group(*(Padding(part, (0, 0, 0, 1), expand=False) for part in parts))

    def _progress(self, scene: Scene) -> RenderableType:
        scan, state = scene.scan, wording.state_text(scene.scan)
        grid = Table.grid(padding=(0, 2))
        grid.width = self._width - 2
        grid.add_column(ratio=1)
        for width in (5, 9, 9, 6):
            grid.add_column(justify="right", min_width=width, no_wrap=True)
        grid.add_row(
            ProgressBar(
                total=max(1, scan.total),
                completed=scan.completed,
                complete_style="yellow" if scan.stalled else "cyan",
                finished_style="green",
            ),
            Text(wording.count_text(scan), style="bold"),
            Text(state, style=_STYLES[state]),
            f"{scan.found} found",
            f"{scene.clock:.1f} s",
        )
        return grid

    def _strategies(self, scene: Scene) -> RenderableType:
        """Two columns, filled downwards: fourteen rows would leave no room on a small terminal."""
        grid = Table.grid(padding=(0, 1))
        spare = (self._width - LEAST_WIDTH) // 2
        for _ in range(2):
            grid.add_column(width=1)
            grid.add_column(width=20, no_wrap=True, overflow="ellipsis")
            grid.add_column(width=8 + min(spare, 6), no_wrap=True, overflow="ellipsis")
            grid.add_column(width=5, justify="right")
            grid.add_column(width=1)
        half = (len(scene.scan.strategies) + 1) // 2
        left, right = scene.scan.strategies[:half], scene.scan.strategies[half:]
        for place, strategy in enumerate(left):
            other = self._cells(right[place], scene.scan) if place < len(right) else ()
            grid.add_row(*self._cells(strategy, scene.scan), *other)
        return grid

    def _cells(self, strategy: Strategy, scan: Scan) -> Iterator[RenderableType]:
        style, outcome = _STYLES[strategy.state], wording.outcome_text(strategy)
        if strategy.state == "running":
            yield Text("!", style="yellow") if scan.stalled else self._spinner
            if scan.stalled:
                style, outcome = "yellow", "stalled"
        else:
            yield Text(self._glyph(strategy), style=style)
        yield Text(strategy.name, style="bright_black" if strategy.state == "pending" else "")
        yield Text(outcome, style=style)
        yield Text(wording.seconds_text(strategy.duration), style="bright_black")
        yield ""

    def _glyph(self, strategy: Strategy) -> str:
        glyph = _GLYPHS[strategy.state]
        return glyph.translate(_PLAIN_GLYPHS) if self._ascii else glyph


def _workers(scene: Scene) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    for worker in scene.workers:
        style = "yellow" if worker.trouble else ""
        pid = Text(f"pid {worker.pid}", style="bright_black")
        grid.add_row(worker.name, pid, Text(worker.doing, style=style))
    return grid


def _pollers(scene: Scene) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bright_black")
    for name in ("", "", "sees"):
        table.add_column(name, no_wrap=True)
    for name in ("done", "revision", "polls", "went back", "not found"):
        table.add_column(name, justify="right", no_wrap=True)
    for poller in scene.pollers:
        table.add_row(*_poller_cells(poller))
    return table


def _poller_cells(poller: Poller) -> Iterator[RenderableType]:
    seen, scan, state = poller.sighting, poller.scan, wording.state_text(poller.scan)
    yield poller.name
    yield Text(f"pid {poller.pid}", style="bright_black")
    yield Text(f"{state:<8}", style=_STYLES[state])
    if seen is not None:
        yield wording.count_text(scan)
        yield str(scan.revision)
        yield str(seen.polls)
        for count in (seen.steps_back, seen.missing):
            yield Text("never" if count == 0 else str(count), style="red" if count else "green")


# --- The end --------------------------------------------------------------------------------------


def _table(end: Ending, width: int) -> RenderableType:
    chosen = wording.columns(width)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bright_black")
    table.width = width
    for column in chosen:
        last = column is chosen[-1]
        table.add_column(
            column.key,
            justify="right" if column.right else "left",
            no_wrap=not last,
            ratio=1 if last else None,
        )
    for row in wording.rows(end.opportunities):
        table.add_row(*(Text(row[c.key], style=_STYLES.get(row[c.key], "")) for c in chosen))
    return table


def _proof(proof: Proof) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    for label, text in wording.proof_lines(proof):
        grid.add_row(Text(f"{label}:", style="bright_black"), Text(text))
    return grid
