"""How far a scan is: from its outcomes, or from the payloads that its host posts.

Laws
- 0 <= completed <= total; 100.0 % exactly when completed equals total and there is a total, or
  when a scan without strategies is finished.
- Junk in a payload counts as missing; nothing goes below what is stored already.
- A scan that has strategies is never 0/0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from oppscan.model import Progress
from oppscan.record import Head, Posted

SOURCES: Final = (
    "outcomes",
    "total_strategies",
    "strategies_completed",
    "strategy_performance",
    "declared",
)


def progress_of(head: Head) -> Progress:
    """Give the progress that a head tells."""
    if head.posted is not None:
        return _posted_progress(head.posted, done=not head.live)
    counts = head.counts
    return Progress(
        strategies_completed=counts.completed,
        total_strategies=head.total,
        opportunities_found=head.opportunities,
        succeeded=counts.found + counts.empty,
        failed=counts.failed,
        timed_out=counts.timed_out,
        skipped=counts.skipped + counts.cancelled,
        percentage=percentage(counts.completed, head.total, done=not head.live),
    )


def _posted_progress(posted: Posted, *, done: bool) -> Progress:
    return Progress(
        strategies_completed=posted.completed,
        total_strategies=posted.total,
        opportunities_found=posted.found,
        percentage=percentage(posted.completed, posted.total, done=done),
        source=posted.source,
    )


def eta_of(head: Head) -> int | None:
    """Give the instant at which a running scan may be through; None where nothing tells.

    The runner's own estimate where there is one, else by the pace so far.
    """
    if not head.live or head.eta_at is not None:
        return head.eta_at if head.live else None
    posted = head.posted
    done = head.counts.completed if posted is None else posted.completed
    total = head.total if posted is None else posted.total
    if head.started_at is None or head.progressed_at is None or not 0 < done < total:
        return None
    pace = (head.progressed_at - head.started_at) / done
    return head.progressed_at + round(pace * (total - done))


def percentage(completed: int, total: int, *, done: bool) -> float:
    """Give completed of total in percent; 100.0 only when nothing is missing."""
    if total == 0:
        return 100.0 if done else 0.0
    return 100.0 if completed >= total else 100.0 * completed / total


def read_payload(payload: Mapping[str, object], head: Head, *, final: bool) -> Posted:
    """Read a whole result dictionary's progress, with the documented fallbacks (incident I7).

    total: ``metadata.total_strategies``; where missing, 0 or junk, the larger of
    ``metadata.strategies_completed`` and the number of entries of ``strategy_performance``; else
    the number of declared strategies. completed: clamped to [0, total]; where missing, the total
    of a final payload, and 0 of a partial one. found: the number of ``opportunities``.
    """
    metadata = payload.get("metadata")
    told: Mapping[str, object] = metadata if isinstance(metadata, Mapping) else {}
    completed = _whole(told.get("strategies_completed"))
    total, source = _total(told.get("total_strategies"), completed, payload, head.total)
    before = head.posted or Posted(0, 0, 0, source)
    if before.total > total:
        total, source = before.total, before.source
    known = completed is not None
    if completed is None:
        completed = total if final else 0
    completed = max(min(completed, total), before.completed)  # which is never below 0
    opportunities = payload.get("opportunities")
    found = len(opportunities) if isinstance(opportunities, (list, tuple)) else 0
    return Posted(completed, total, max(found, before.found), source, known or before.told)


def as_completed(posted: Posted) -> Posted:
    """Give the progress of a scan that completed: what was never told counts as completed."""
    return posted if posted.told else replace(posted, completed=posted.total)


def _total(
    stated: object, completed: int | None, payload: Mapping[str, object], declared: int
) -> tuple[int, str]:
    """Give the first total that is not 0, and where it came from."""
    performance = payload.get("strategy_performance")
    entries = len(performance) if isinstance(performance, (Mapping, list, tuple)) else 0
    done = _count(completed)
    largest = (
        (done, "strategies_completed") if done >= entries else (entries, "strategy_performance")
    )
    candidates = ((_count(stated), "total_strategies"), largest, (declared, "declared"))
    return next((found for found in candidates if found[0]), (0, "declared"))


def _whole(value: object) -> int | None:
    """Read a whole number; None for all that is none (a bool, a fraction, NaN, a text)."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if isinstance(value, bool) or not isinstance(value, int) else value


def _count(value: object) -> int:
    """Read a count; 0 for all that is none."""
    number = _whole(value)
    return number if number is not None and 0 <= number < MOST else 0


MOST: Final = 2**53
