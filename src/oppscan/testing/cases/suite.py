"""`StoreContract`: all cases in one class."""

from __future__ import annotations

from oppscan.testing.cases.claims import (
    ClaimCases,
    LeaseBoundaryCases,
    LeaseCases,
    LeavingCases,
)
from oppscan.testing.cases.finishing import CancelCases, FinishingCases, ResumeCases
from oppscan.testing.cases.found import FoundCases, MonotonicCases, TerminalCases


class StoreContract(
    FoundCases,
    MonotonicCases,
    TerminalCases,
    ClaimCases,
    LeaseCases,
    LeavingCases,
    LeaseBoundaryCases,
    FinishingCases,
    CancelCases,
    ResumeCases,
):
    """Everything that a store must do; see `oppscan.testing.contract` for how to use it."""
