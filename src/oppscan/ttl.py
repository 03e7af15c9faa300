"""Time rules: how long each state lives, when a scan is stalled, what outlives what.

Laws
- An instant belongs to what begins there: a lease that ends at t is over at t, a scan that
  expires at t is expired at t.
- A scan whose claim is kept alive never expires: its life is counted from the lease's end.
- What leads to a scan outlives it by ``lookup_margin``; during the margin its head is a
  tombstone, which tells expired from never existed.
- Extending never shortens.
"""

from __future__ import annotations

from datetime import timedelta
from math import inf
from typing import Final

from attrs import field, fields, frozen

from oppscan.errors import InvalidInput
from oppscan.model import Model, ScanState
from oppscan.record import Durations, Head, settle_head

LONGEST: Final = 10 * 365 * 86400.0
"""Ten years in seconds: far from where milliseconds would leave 53 bits, or Redis its range."""

SHORTEST_LEASE: Final = 0.1
"""Seconds; below it the heartbeats of one claim would be most of a store's work."""

READ_STEPS: Final = 20
"""An extension by reading must gain a 20th of the result's life, so that not every poll writes."""

_LEAST: Final = {"lease": SHORTEST_LEASE, "near_ttl": 0.0}
_ANY: Final = 1e-6


def duration(value: object, name: str, *, least: float = _ANY) -> float:
    """Read seconds or a timedelta; `InvalidInput` unless within ``least`` and ten years."""
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not abs(number) < inf:
        msg = f"{name} must be a finite number of seconds or a timedelta, not {value!r}"
        raise InvalidInput(msg)
    if not least <= number <= LONGEST:
        msg = f"{name} must be between {least:g} and {LONGEST:.0f} seconds, not {number!r}"
        raise InvalidInput(msg)
    return float(number)


def to_ms(number: float) -> int:
    """Give whole milliseconds, rounded to the nearest; something is never rounded to nothing."""
    return max(round(number * 1000), number > 0)


def _seconds(value: float | timedelta) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LONGEST
    return float(value) if whole else value


def _optional_seconds(value: float | timedelta | None) -> float | None:
    return None if value is None else _seconds(value)


@frozen(kw_only=True, repr=False)
class TTLPolicy(Model):
    """How long things live, in seconds or timedeltas; read back as float seconds.

    ``pending_ttl``: a scan that nobody claims. ``running_ttl``: a running scan, from the end of
    its lease. ``result_ttl``: a finished scan, from its finish. ``lookup_margin``: how much
    longer all that leads to a scan lives. ``lease``: how long a claim lives without a heartbeat
    (sent every quarter of it). ``claim_within``: how long a scan may stay pending before it
    counts as stalled. ``near_ttl``: how long the status of a *finished* scan may be answered
    from this process's memory. ``extend_on_read``: where set, reading a finished scan extends it
    to ``result_ttl`` from the read, until at most this long after its finish.

    Raises `InvalidInput` when inconsistent: lease < 0.1, anything else not > 0 (near_ttl: < 0),
    lease > running_ttl, anything over ten years.
    """

    pending_ttl: float = field(default=3600.0, converter=_seconds)
    running_ttl: float = field(default=3600.0, converter=_seconds)
    result_ttl: float = field(default=3600.0, converter=_seconds)
    lookup_margin: float = field(default=300.0, converter=_seconds)
    lease: float = field(default=15.0, converter=_seconds)
    claim_within: float = field(default=60.0, converter=_seconds)
    near_ttl: float = field(default=0.0, converter=_seconds)
    extend_on_read: float | None = field(default=None, converter=_optional_seconds)

    def __attrs_post_init__(self) -> None:
        """Refuse what is inconsistent."""
        for attribute in fields(TTLPolicy):
            value: object = getattr(self, attribute.name)
            if value is not None or attribute.name != "extend_on_read":
                least = _LEAST.get(attribute.name, _ANY)
                duration(value, f"TTLPolicy.{attribute.name}", least=least)
        if self.lease > self.running_ttl:
            msg = (
                f"TTLPolicy.lease ({self.lease:g} s) must not exceed running_ttl "
                f"({self.running_ttl:g} s), or a record would go while its lease still holds"
            )
            raise InvalidInput(msg)

    @property
    def lookup_ttl(self) -> float:
        """Seconds that a lookup lives: longer than all that it can lead to."""
        return max(self.pending_ttl, self.running_ttl, self.result_ttl) + self.lookup_margin

    def durations(self) -> Durations:
        """Give the rules in the form that is written into a record."""
        cap = self.extend_on_read
        return Durations(
            pending=to_ms(self.pending_ttl),
            running=to_ms(self.running_ttl),
            result=to_ms(self.result_ttl),
            margin=to_ms(self.lookup_margin),
            lease=to_ms(self.lease),
            claim_within=to_ms(self.claim_within),
            read_cap=None if cap is None else to_ms(cap),
        )


def expires_at(head: Head) -> int:
    """Give the instant at which a settled head's scan is gone, in store milliseconds."""
    return max(expiry_of(head))


def forgotten_at(head: Head) -> int:
    """Give the instant from which nothing is known of the scan any more."""
    return expires_at(head) + head.durations.margin


def stalled(head: Head, now: int) -> bool:
    """Tell whether a live scan has nobody who works on it."""
    return head.live and now >= head.due_at


def held(head: Head, now: int) -> bool:
    """Tell whether a claim's lease holds."""
    return head.state == ScanState.RUNNING and bool(head.chain) and now < head.due_at


def life_left(head: Head, now: int) -> int:
    """Give how long after the coming write the scan must live, in milliseconds, at least 1.

    ``head`` is the head to be written, its relative times not settled yet; ``now`` is the latest
    instant that is known of the store's clock. The answer errs on the long side only: what is
    stored a little too long is still read by `expires_at`, exactly.
    """
    return max(1, expires_at(settle_head(head, now)) - now)


def expiry_of(head: Head) -> tuple[int, ...]:
    """Give the instants, absolute or relative, of which the latest is when a scan expires.

    For a head that is about to be written, when nobody knows yet what its relative times mean.
    """
    rules = head.durations
    if head.state == ScanState.PENDING:
        natural, more = head.created_at, rules.pending
    elif head.finished_at is None:
        natural, more = head.due_at, rules.running
    else:
        natural, more = head.finished_at, rules.result
    later = natural + more if natural >= 0 else natural - more
    return (later,) if head.extended_to is None else (later, head.extended_to)


def read_extension(head: Head, now: int) -> int | None:
    """Give the instant to extend a finished scan to because it is read, or None."""
    rules = head.durations
    if rules.read_cap is None or head.finished_at is None:
        return None
    wanted = min(now + rules.result, head.finished_at + rules.read_cap)
    return wanted if wanted >= expires_at(head) + max(1, rules.result // READ_STEPS) else None
