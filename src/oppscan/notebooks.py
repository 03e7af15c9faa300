"""Statuses and results, as their ``to_dict()`` gives them, as HTML for notebooks. Pure.

Laws
- Everything that was ever given to oppscan is escaped: names, errors, opportunities, owners.
- What is long is cut, and says so: a cell shows at most `ROWS` rows, `COLUMNS` columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

Data = Mapping[str, Any]

ROWS: Final = 50
COLUMNS: Final = 12
TEXT: Final = 200
"""Characters of one value."""

_OUTCOMES: Final = ("strategy", "outcome", "found", "seconds", "error")


def status_html(status: Data) -> str:
    """Give a status as a headline with a progress bar, and a table of its outcomes."""
    outcomes = status["outcomes"]
    return _headline(status) + _table(_OUTCOMES, map(_outcome, outcomes[:ROWS]), len(outcomes))


def results_html(results: Data) -> str:
    """Give results as a headline, and a table of the opportunities: a column for each key."""
    rows = results["opportunities"][:ROWS]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    more = f"<p>… and {len(keys) - COLUMNS} more keys</p>" if len(keys) > COLUMNS else ""
    shown = keys[:COLUMNS]
    cells = ([_cell(row, key) for key in shown] for row in rows)
    return _headline(results["status"]) + _table(shown, cells, len(results["opportunities"])) + more


def _headline(status: Data) -> str:
    progress = status["progress"]
    asked = status["cancel_requested"] and not status["done"]
    words = [status["state"]]
    words += ["stalled"] if status["stalled"] else []
    words += ["cancellation asked for"] if asked else []
    error = f"<p><code>{_text(status['error'])}</code></p>" if status["error"] else ""
    return (
        f"<div><b>{', '.join(words)}</b> "
        f'<progress max="100" value="{progress["percentage"]:.1f}"></progress> '
        f"{progress['strategies_completed']}/{progress['total_strategies']} strategies, "
        f"{progress['opportunities_found']} found "
        f"<small><code>{_text(status['scan_id'])}</code></small></div>{error}"
    )


def _outcome(outcome: Data) -> list[str]:
    seconds = "" if outcome["duration"] is None else f"{outcome['duration']:.3f}"
    shown = (outcome["name"], outcome["state"], outcome["found"], seconds, outcome["error"] or "")
    return [str(value) for value in shown]


def _cell(row: Mapping[str, object], key: str) -> str:
    return str(row[key]) if key in row else ""


def _table(names: Sequence[str], rows: Iterable[Sequence[str]], total: int) -> str:
    if not total:
        return ""
    head = "".join(f"<th>{_text(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    more = f"<p>… and {total - ROWS} more</p>" if total > ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _text(value: str) -> str:
    return escape(value if len(value) <= TEXT else value[: TEXT - 1] + "…")
