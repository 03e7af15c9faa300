"""What is sent to another process, or to another host, and what comes back. Pure but for files.

Laws
- What a strategy raises crosses the processes as text, so that no exception can fail to unpickle.
- What a generator yields on this host can be read while it runs. From another host it comes home
  with the answer only, so there it is told early that its time is over.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from socket import gethostname
from typing import Final

from msgspec import Struct

from oppscan.clock import elapsed
from oppscan.inputs import describe_error
from oppscan.model import JSON
from oppscan.runner.collected import Collected
from oppscan.runner.strategies import ContextToken, Kind, ScanContext, Token, call_blocking

HOMEWARD: Final = 0.5
"""Seconds that a generator on another host stops early, so that what it yielded gets home."""


class Answer(Struct, frozen=True):
    """What comes back from another process."""

    value: object = None
    found: tuple[bytes, ...] = ()
    error: str | None = None
    late: bool = False


class Parcel(Struct, frozen=True):
    """What is sent to another process."""

    call: Callable[..., object]
    kind: Kind
    takes_context: bool
    owner: str
    scan_id: str
    name: str
    params: JSON
    metadata: JSON
    seconds: float
    ends_at: float
    host: str
    token: Token
    collected: Collected

    def run(self) -> Answer:
        """Run the strategy; whatever it raises comes back as text."""
        near = self.host == gethostname()  # the monotonic clock is one for a whole host
        early = elapsed() + self.seconds - min(HOMEWARD, self.seconds / 4)
        context = ScanContext(
            self.owner, self.scan_id, self.name, self.params, self.metadata,
            self.ends_at if near else early, self.token,
        )  # fmt: skip
        bound = partial(self.call, context) if self.takes_context else self.call
        told, collected = ContextToken(context), self.collected
        try:
            value = call_blocking(bound, self.kind, collected, told, told if near else None)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer
            return Answer(None, tuple(collected.items), describe_error(error, "error"))
        finally:
            collected.close()
        if self.kind is not Kind.GENERATOR:
            return Answer(value)
        return Answer(None, tuple(collected.items), late=context.cancelled)
