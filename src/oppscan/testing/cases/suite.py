"""`StoreContract`: all cases in one class."""

from __future__ import annotations

from oppscan.testing.cases.claims import (
    ClaimCases,
    LeaseBoundaryCases,
    LeaseCases,
    LeavingCases,
)
from oppscan.testing.cases.finishing import (
    CancelCases,
    FinishingCases,
    ResumeCases,
)
from oppscan.testing.cases.flight import (
    FlightCases,
    LimitCases,
)
from oppscan.testing.cases.found import (
    FoundCases,
    MonotonicCases,
    TerminalCases,
)
from oppscan.testing.cases.inputs import (
    InputCases,
    SizeCases,
)
from oppscan.testing.cases.losses import (
    LossCases,
    NothingCases,
)
from oppscan.testing.cases.once import (
    OnceCases,
    OutageCases,
)
from oppscan.testing.cases.payloads import (
    PayloadCases,
)
from oppscan.testing.cases.reading import (
    FollowingCases,
    ListingCases,
    OwnerCases,
    ResultCases,
)
from oppscan.testing.cases.upkeep import (
    CorruptCases,
    CostCases,
    ExtendCases,
    FallbackCases,
)


class StoreContract(
    ClaimCases,
    LeaseBoundaryCases,
    LeaseCases,
    LeavingCases,
    CancelCases,
    FinishingCases,
    ResumeCases,
    FlightCases,
    LimitCases,
    FoundCases,
    MonotonicCases,
    TerminalCases,
    InputCases,
    SizeCases,
    LossCases,
    NothingCases,
    OnceCases,
    OutageCases,
    PayloadCases,
    FollowingCases,
    ListingCases,
    OwnerCases,
    ResultCases,
    CorruptCases,
    CostCases,
    ExtendCases,
    FallbackCases,
):
    """Everything that a store must do; see `oppscan.testing.contract` for how to use it."""
