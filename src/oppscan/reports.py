"""What a holder may say, checked and turned into reports before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from oppscan import codec
from oppscan.drafting import Ending, Letting, Payload, Reported, Started
from oppscan.errors import InvalidInput
from oppscan.holding import Holding
from oppscan.inputs import Limits, describe_error
from oppscan.model import OutcomeState
from oppscan.payload import pack, plain_object, plain_objects

_STRATEGY_RULE: Final = "Limits.max_strategy_bytes"
_SCAN_RULE: Final = "Limits.max_scan_bytes"

LETTING: Final = Letting()


def started(holding: Holding, name: str) -> Started:
    """Check ``strategy_started``."""
    return Started(holding.place(name))


def finished(holding: Holding, name: str, opportunities: object, limits: Limits) -> Reported:
    """Check ``strategy_finished``: ``found`` with opportunities, ``empty`` without."""
    index = holding.place(name)
    count, body = _opportunities(name, opportunities, limits)
    state = OutcomeState.FOUND if count else OutcomeState.EMPTY
    return Reported(index, state, count, body)


def failed(
    holding: Holding,
    name: str,
    error: BaseException | str,
    opportunities: object,
    limits: Limits,
    *,
    timed_out: bool,
) -> Reported:
    """Check ``strategy_failed``; what was found before the failure is kept."""
    index = holding.place(name)
    text = describe_error(error, "error")
    count, body = _opportunities(name, opportunities, limits)
    state = OutcomeState.TIMED_OUT if timed_out else OutcomeState.FAILED
    return Reported(index, state, count, body, text)


def skipped(holding: Holding, name: str, reason: str) -> Reported:
    """Check ``strategy_skipped``."""
    text = describe_error(reason, "reason")
    return Reported(holding.place(name), OutcomeState.SKIPPED, error=text)


def cancelled(holding: Holding, name: str, reason: str) -> Reported:
    """Report a strategy that was stopped because cancellation was asked for."""
    text = describe_error(reason, "reason")
    return Reported(holding.place(name), OutcomeState.CANCELLED, error=text)


def posted(payload: object, limits: Limits, *, partial: bool) -> Payload:
    """Check ``update``: a JSON object of at most ``max_scan_bytes``."""
    if not isinstance(payload, Mapping):
        msg = f"payload must be a JSON object, not {type(payload).__name__}"
        raise InvalidInput(msg)
    plain = plain_object(payload, "payload")
    body = pack(plain, "the payload's contents", limits.max_scan_bytes, _SCAN_RULE)
    return Payload(plain, body, final=not partial)


def completed(summary: object, limits: Limits) -> Ending:
    """Check ``complete``: an optional JSON object as summary."""
    if summary is None:
        return Ending()
    plain = plain_object(summary, "summary")
    return Ending(
        summary=pack(plain, "the summary's contents", limits.max_strategy_bytes, _STRATEGY_RULE)
    )


def gave_up(error: BaseException | str) -> Ending:
    """Check ``fail``."""
    return Ending(error=describe_error(error, "error"))


def _opportunities(name: str, value: object, limits: Limits) -> tuple[int, bytes]:
    plain = plain_objects(value, f"opportunities of {name!r}")
    if not plain:
        return 0, b""
    body = codec.encode(plain)
    if len(body) > limits.max_strategy_bytes:
        msg = (
            f"the {len(plain)} opportunities of {name!r} take {len(body)} bytes, over the limit of "
            f"{limits.max_strategy_bytes} ({_STRATEGY_RULE})"
        )
        raise InvalidInput(msg)
    return len(plain), body
