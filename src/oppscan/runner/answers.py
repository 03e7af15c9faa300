"""From what a strategy gave to what is recorded of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Final, Protocol

from oppscan import codec, reports
from oppscan.drafting import Report, Reported
from oppscan.errors import InvalidInput, StorageUnavailable
from oppscan.holding import Holding
from oppscan.inputs import Limits
from oppscan.runner.strategies import (
    FOREIGN,
    Rank,
    StrategyLate,
    StrategyRaised,
    opportunities_of,
    score,
)

RETRY_PAUSE: Final = 0.2
"""Seconds before a store that was down is asked again."""


class Holder(Protocol):
    """A claim of either face, as far as outcomes need it."""

    limits: Limits

    @property
    def holding(self) -> Holding:
        """What is held."""
        ...


def finisher(claim: Holder, name: str, rank: Rank | None) -> Callable[[object], Reported]:
    """Give the function that turns a strategy's answer into its outcome.

    An answer that cannot be recorded, or not even be looked at, is a failure that says why. Only
    the host's own interrupt gets out.
    """
    holding, limits = claim.holding, claim.limits

    def finish(answer: object) -> Reported:
        try:
            found = opportunities_of(answer)
            return ranked(reports.finished(holding, name, found, limits), holding, rank)
        except FOREIGN as refused:  # an answer's own code may raise anything
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
    except FOREIGN:  # junk's own code may raise anything
        return reports.failed(holding, name, error, (), limits, timed_out=timed_out)
    return ranked(report, holding, rank)


def ranked(report: Reported, holding: Holding, rank: Rank | None) -> Reported:
    """Add the score of each opportunity, where the runner ranks."""
    if rank is None or not report.body:
        return report
    objects = codec.decode_objects(report.body, holding.scan.scan_id)
    scores = tuple(score(rank, item) for item in objects)
    return Reported(report.index, report.state, report.found, report.body, report.error, scores)


def unwritten(
    claim: Holder,
    batch: Sequence[Report],
    verdicts: Sequence[Exception | None],
    replaced: set[int],
    *,
    goes_on: bool,
) -> list[Report]:
    """Give what of a batch is to be written again; raises a verdict that nothing helps against.

    While the run ``goes_on``, what a store that was down did not take; and, once for each
    strategy (``replaced``), the refusal of its finds as its failure.
    """
    again: list[Report] = []
    for report, verdict in zip(batch, verdicts, strict=True):
        if isinstance(verdict, StorageUnavailable) and goes_on:
            again.append(report)
        elif (
            isinstance(report, Reported)
            and isinstance(verdict, InvalidInput)
            and report.index not in replaced
        ):
            replaced.add(report.index)
            name = claim.holding.spec.strategies[report.index]
            refused = reports.failed(
                claim.holding, name, verdict, (), claim.limits, timed_out=False
            )
            again.append(refused)
        elif verdict is not None:
            raise verdict
    return again


def unreached(claim: Holder, names: Container[str]) -> list[Reported]:
    """Give the outcomes of what was never started: out of budget, or not among ``names``."""
    return [
        reports.skipped(
            claim.holding, name, "the budget was out" if name in names else "not in this runner"
        )
        for name in claim.holding.remaining
    ]
