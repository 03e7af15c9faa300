"""How things are said, on any terminal. Pure: values in, text out, nothing coloured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Final

from attrs import frozen

from oppscan.demo.scene import Ending, Poller, Proof, Scene
from oppscan.demo.wire import Scan, Strategy

SHOWN: Final = 12
ROOMY: Final = 104  # columns, from which on the table names the strategies too
TIGHT: Final = 60  # columns, below which it gives up the reasons
_GAP: Final = "  "
_UNREAD: Final = "a market that is being read"

_OUTCOMES: Final = {
    "pending": "",
    "running": "running",
    "found": "found",
    "empty": "nothing",
    "failed": "failed",
    "timed_out": "timeout",
    "cancelled": "cancelled",
    "skipped": "skipped",
}
ADVICE: Final = (
    "score: the chance of a gain a month later, from the share's history; in this ranking it "
    "counts half after two months. A demonstration, no advice."
)


def outcome_text(strategy: Strategy) -> str:
    """``20 found``, ``nothing``, ``failed: …``."""
    text = _OUTCOMES[strategy.state]
    if strategy.state == "found":
        return f"{strategy.found:2} {text}"
    return f"{text}: {strategy.error}" if strategy.error else text


def seconds_text(seconds: float | None) -> str:
    """``0.52s``, or nothing."""
    return "" if seconds is None else f"{seconds:.2f}s"


def count_text(scan: Scan) -> str:
    """``7/14``."""
    return f"{scan.completed}/{scan.total}"


def state_text(scan: Scan) -> str:
    """The state as a user sees it: a running scan that nobody works on is stalled."""
    return "stalled" if scan.stalled else scan.state


def heading(scene: Scene) -> list[str]:
    """What is about to be seen."""
    rests = f"each strategy rests about {scene.pause:g} s, so that one can watch (--pace)"
    processes = 1 + len(scene.workers) + len(scene.pollers)
    return [
        f"{len(scene.strategies)} strategies on {scene.market or _UNREAD}",
        f"{processes} processes share {scene.store}",
        rests if scene.pause else "at full speed: no strategy rests",
    ]


def poller_text(poller: Poller) -> str:
    """One line on what a poller saw."""
    seen, scan = poller.sighting, poller.scan
    if seen is None:
        return f"{poller.name} (pid {poller.pid}): no poll yet"
    return (
        f"{poller.name} (pid {poller.pid}): {state_text(scan)} {count_text(scan)},"
        f" revision {scan.revision}, {seen.polls} polls,"
        f" {_never(seen.steps_back)} went back, {_never(seen.missing)} not found"
    )


def _never(count: int) -> str:
    return "never" if count == 0 else f"{count} times"


def proof_lines(proof: Proof) -> list[tuple[str, str]]:
    """What ran before and after the kill, and that nothing ran twice that had its outcome."""
    again = proof.interrupted
    return [
        ("ran before the kill", f"{_names(proof.settled)} ({len(proof.settled)} outcomes)"),
        ("cut off by the kill", f"{_names(again)} ({len(again)} without an outcome)"),
        ("ran after the kill", f"{_names(proof.after)} ({len(proof.after)})"),
        ("ran TWICE", _names(proof.twice))
        if proof.twice
        else ("none twice", "no strategy that had its outcome ran again"),
    ]


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def failures(scan: Scan) -> list[str]:
    """One line for each strategy that did not succeed, with its error."""
    return [
        f"{strategy.name}: {outcome_text(strategy)}"
        for strategy in scan.strategies
        if strategy.state not in {"found", "empty"}
    ]


def verdict(end: Ending) -> str:
    """What all polls together showed."""
    same = "the same" if end.alike else "DIFFERENT"
    return (
        f"{end.pollers} pollers, {end.polls} polls: {_never(end.steps_back)} back,"
        f" {_never(end.missing)} not found, {same} {len(end.opportunities)} opportunities"
    )


def summary(end: Ending) -> str:
    """The last line."""
    return f"{end.scan.state} in {end.seconds:.1f} s: {count_text(end.scan)}"


# --- The table ------------------------------------------------------------------------------------


@frozen
class Column:
    """A column of the table; numbers are set to the right."""

    key: str
    right: bool = False


_COLUMNS: Final = (
    Column("#", right=True),
    Column("symbol"),
    Column("date"),
    Column("signal"),
    Column("score", right=True),
    Column("strategy"),
    Column("reason"),
)


def columns(width: int) -> tuple[Column, ...]:
    """Give the columns for which a terminal has room."""
    dropped = {"strategy"} if width < ROOMY else set[str]()
    if width < TIGHT:
        dropped.add("reason")
    return tuple(column for column in _COLUMNS if column.key not in dropped)


def rows(opportunities: Sequence[Mapping[str, object]]) -> list[dict[str, str]]:
    """Give the best opportunities as text, best first."""
    return [
        {
            "#": str(place),
            "symbol": str(found["symbol"]),
            "date": str(found["date"]),
            "signal": str(found["signal"]),
            "score": f"{found['score']:.2f}",
            "strategy": str(found["strategy"]),
            "reason": str(found["reason"]),
        }
        for place, found in enumerate(opportunities[:SHOWN], 1)
    ]


def title(end: Ending) -> str:
    """What the table shows."""
    shown = min(SHOWN, len(end.opportunities))
    return f"The best {shown} of {len(end.opportunities)} opportunities"


def table(opportunities: Sequence[Mapping[str, object]], width: int) -> list[str]:
    """Set the table in plain text; reasons that are too long go on in the next line."""
    chosen, cells = columns(width), rows(opportunities)
    widths = {
        column.key: max(len(column.key), *(len(row[column.key]) for row in cells), 0)
        for column in chosen
    }
    left = sum(widths[column.key] + len(_GAP) for column in chosen[:-1])
    room = max(10, width - left)
    lines = [_line(chosen, widths, {column.key: column.key for column in chosen})]
    for row in cells:
        last = chosen[-1].key
        first, *more = wrap(row[last], room) or [""]
        lines.append(_line(chosen, widths, {**row, last: first}))
        lines.extend(" " * left + rest for rest in more)
    return lines


def _line(chosen: Sequence[Column], widths: Mapping[str, int], row: Mapping[str, str]) -> str:
    cells = (
        row[column.key].rjust(widths[column.key])
        if column.right
        else row[column.key].ljust(widths[column.key])
        for column in chosen
    )
    return _GAP.join(cells).rstrip()
