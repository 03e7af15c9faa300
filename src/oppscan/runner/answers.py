"""From what a strategy gave to what is recorded of it. Pure."""

from __future__ import annotations

from collections.abc import Callable

from oppscan import codec, reports
from oppscan.errors import InvalidInput
from oppscan.holding import Holding, Reported
from oppscan.inputs import Limits
from oppscan.runner.strategies import Rank, opportunities_of, score


def finisher(
    holding: Holding, name: str, limits: Limits, rank: Rank | None
) -> Callable[[object], Reported]:
    """Give the function that turns a strategy's answer into its outcome.

    An answer that cannot be recorded is a failure that says why; it never raises.
    """

    def finish(answer: object) -> Reported:
        try:
            found = opportunities_of(answer)
            return ranked(reports.finished(holding, name, found, limits), holding, rank)
        except InvalidInput as refused:
            return reports.failed(holding, name, refused, (), limits, timed_out=False)

    return finish


def failure(
    holding: Holding,
    name: str,
    limits: Limits,
    rank: Rank | None,
    error: BaseException | str,
    found: list[object],
    *,
    timed_out: bool,
) -> Reported:
    """Give the outcome of a strategy that failed, with what it had found; junk is left out."""
    try:
        report = reports.failed(holding, name, error, found, limits, timed_out=timed_out)
    except InvalidInput:
        return reports.failed(holding, name, error, (), limits, timed_out=timed_out)
    return ranked(report, holding, rank)


def ranked(report: Reported, holding: Holding, rank: Rank | None) -> Reported:
    """Add the score of each opportunity, where the runner ranks."""
    if rank is None or not report.body:
        return report
    objects = codec.decode_objects(report.body, holding.scan.scan_id)
    scores = tuple(score(rank, item) for item in objects)
    return Reported(report.index, report.state, report.found, report.body, report.error, scores)
