"""`StoreContract`: all cases in one class."""

from __future__ import annotations

from oppscan.testing.cases.claims import (
    ClaimCases,
    LeaseBoundaryCases,
    LeaseCases,
)
from oppscan.testing.cases.costs import (
    CorruptCases,
    CostCases,
)
from oppscan.testing.cases.finishing import (
    CancelCases,
    FinishingCases,
)
from oppscan.testing.cases.flight import (
    FlightCases,
    LimitCases,
)
from oppscan.testing.cases.following import (
    FollowingCases,
    OwnerCases,
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
from oppscan.testing.cases.leaving import (
    LeavingCases,
)
from oppscan.testing.cases.losses import (
    LossCases,
    NothingCases,
)
from oppscan.testing.cases.once import (
    OnceCases,
    OutageCases,
)
from oppscan.testing.cases.overlooked import (
    OverlookedCases,
)
from oppscan.testing.cases.payloads import (
    PayloadCases,
)
from oppscan.testing.cases.reading import (
    ListingCases,
    ResultCases,
)
from oppscan.testing.cases.resuming import (
    ResumeCases,
)
from oppscan.testing.cases.upkeep import (
    ExtendCases,
    FallbackCases,
)


class StoreContract(
    ClaimCases,
    LeaseBoundaryCases,
    LeaseCases,
    CorruptCases,
    CostCases,
    CancelCases,
    FinishingCases,
    FlightCases,
    LimitCases,
    FollowingCases,
    OwnerCases,
    FoundCases,
    MonotonicCases,
    TerminalCases,
    InputCases,
    SizeCases,
    LeavingCases,
    LossCases,
    NothingCases,
    OnceCases,
    OutageCases,
    OverlookedCases,
    PayloadCases,
    ListingCases,
    ResultCases,
    ResumeCases,
    ExtendCases,
    FallbackCases,
):
    """Everything that a store must do; see `oppscan.testing.contract` for how to use it."""
