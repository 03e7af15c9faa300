"""From what a strategy gave to what is recorded of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Protocol

from oppscan import codec, reports
from oppscan.errors import InvalidInput
from oppscan.holding import Holding, Reported
from oppscan.inputs import Limits
from oppscan.runner.strategies import (
    Rank,
    StrategyLate,
    StrategyRaised,
    opportunities_of,
    score,
)


class Holder(Protocol):
    """A claim of either face, as far as outcomes need it."""

    limits: Limits

    @property
    def holding(self) -> Holding:
        """What is held."""
        ...


def finisher(claim: Holder, name: str, rank: Rank | None) -> Callable[[object], Reported]:
    """Give the function that turns a strategy's answer into its outcome.

    An answer that cannot be recorded is a failure that says why; it never raises.
    """
    holding, limits = claim.holding, claim.limits

    def finish(answer: object) -> Reported:
        try:
            found = opportunities_of(answer)
            return ranked(reports.finished(holding, name, found, limits), holding, rank)
        except InvalidInput as refused:
            return reports.failed(holding, name, refused, (), limits, timed_out=False)

    return finish


def failure(
    claim: Holder, name: str, rank: Rank | None, ended: BaseException | str, found: list[object]
) -> Reported:
    """Give the outcome of a strategy that failed, with what it had found; junk is left out.

    ``ended``: what it raised, or, where its time was over, the text to say so.
    """
    timed_out = isinstance(ended, (str, StrategyLate))
    error: BaseException | str = str(ended) if isinstance(ended, StrategyRaised) else ended
    if isinstance(ended, StrategyLate):
        error = "timed out"
    holding, limits = claim.holding, claim.limits
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


def over_limit(claim: Holder, report: Reported, refused: InvalidInput) -> Reported:
    """Give the outcome of a strategy whose finds would take the scan over its limit."""
    name = claim.holding.spec.strategies[report.index]
    return reports.failed(claim.holding, name, refused, (), claim.limits, timed_out=False)


def unreached(claim: Holder, names: Container[str]) -> list[Reported]:
    """Give the outcomes of what was never started: out of budget, or not among ``names``."""
    return [
        reports.skipped(
            claim.holding, name, "the budget was out" if name in names else "not in this runner"
        )
        for name in claim.holding.remaining
    ]
