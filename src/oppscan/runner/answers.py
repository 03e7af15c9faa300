"""From what a strategy gave to what is recorded of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from enum import Enum, auto
from typing import Final, Protocol

from msgspec import Struct

from oppscan import codec, reports
from oppscan.drafting import Report, Reported
from oppscan.errors import InvalidInput, StorageUnavailable
from oppscan.holding import Holding
from oppscan.inputs import Limits, describe_error
from oppscan.model import OutcomeState
from oppscan.runner.collected import Collected
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


NO_WORDS: Final = "how it ended cannot be told"


class End(Enum):
    """Why an attempt is over."""

    ANSWERED = auto()
    RAISED = auto()
    TIMED_OUT = auto()
    STOPPED = auto()


class Ended(Struct, frozen=True):
    """How an attempt ended: with an answer, an error, or neither."""

    why: End
    answer: object = None
    error: BaseException | None = None


STOPPED: Final = Ended(End.STOPPED)
TIMED_OUT: Final = Ended(End.TIMED_OUT)


def ended_with(answer: object, error: BaseException | None) -> Ended:
    """Tell how an attempt elsewhere ended."""
    return Ended(End.ANSWERED, answer) if error is None else Ended(End.RAISED, None, error)


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
        if type(answer) is Collected:  # to ask an answer for its class would be to run its code
            return ranked(_kept(holding, name, answer), holding, rank)
        try:
            found = opportunities_of(answer)
            return ranked(reports.finished(holding, name, found, limits), holding, rank)
        except FOREIGN as refused:  # an answer's own code may raise anything
            return reports.failed(holding, name, refused, (), limits, timed_out=False)

    return finish


def _kept(
    holding: Holding,
    name: str,
    collected: Collected,
    error: str | None = None,
    *,
    timed_out: bool = False,
) -> Reported:
    """Report what a generator yielded, which was checked as it came."""
    found, body = collected.packed()
    if error is not None:
        state = OutcomeState.TIMED_OUT if timed_out else OutcomeState.FAILED
    else:
        state = OutcomeState.FOUND if found else OutcomeState.EMPTY
    return Reported(holding.place(name), state, found, body, error)


def outcome_of(  # noqa: PLR0917 - all that there is to know of an end
    claim: Holder, name: str, rank: Rank | None, ended: Ended, collected: Collected, seconds: float
) -> Reported:
    """Give the outcome of a strategy that ended, after ``seconds`` at most; never raises."""
    if type(ended.answer) is Reported:
        return ended.answer
    try:
        if ended.why is End.ANSWERED:
            return finisher(claim, name, rank)(ended.answer)
        timed_out = ended.error is None or isinstance(ended.error, StrategyLate)
        text = f"timed out after {seconds:.3g} s" if timed_out else _text_of(ended.error)
        report = _kept(claim.holding, name, collected, text, timed_out=timed_out)
        return ranked(report, claim.holding, rank)
    except Exception:  # noqa: BLE001 - a strategy without an outcome would hold up its scan
        return reports.failed(claim.holding, name, NO_WORDS, (), claim.limits, timed_out=False)


def _text_of(error: BaseException | None) -> str:
    return str(error) if isinstance(error, StrategyRaised) else describe_error(error, "error")


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
