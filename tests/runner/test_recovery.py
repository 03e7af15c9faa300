"""`recover` finds what it can finish, also behind what it cannot."""

from __future__ import annotations

import pytest

from oppscan import InvalidInput, ScanState
from tests.runner.rig import Rig


def _stalled(rig: Rig, owner: str, name: str) -> str:
    scan_id = rig.registry.start(owner, [name]).scan_id
    with rig.registry.claim(scan_id) as claim:
        claim.release()
    return scan_id


def test_scans_of_other_runners_do_not_stand_in_the_way_of_ones_own(rig: Rig) -> None:
    theirs = [_stalled(rig, f"owner {n}", "theirs") for n in range(9)]
    ours = [_stalled(rig, f"us {n}", "ours") for n in range(3)]
    runner = rig.runner({"ours": lambda: None})
    first, second = runner.recover(2), runner.recover(2)
    assert (len(first), len(second)) == (2, 1)
    assert {status.scan_id for status in [*first, *second]} == set(ours)
    assert runner.recover(2) == []
    assert {rig.registry.status(scan_id).state for scan_id in theirs} == {ScanState.RUNNING}


@pytest.mark.parametrize("limit", [0, -1, True, "1", 1.5], ids=str)
def test_a_limit_that_is_no_count_is_refused(rig: Rig, limit: object) -> None:
    with pytest.raises(InvalidInput, match="limit"):
        rig.runner({"it": lambda: None}).recover(limit)  # type: ignore[arg-type]


def test_a_runner_that_is_closed_meanwhile_recovers_no_more(rig: Rig) -> None:
    scans = [_stalled(rig, owner, "it") for owner in ("ann", "bob", "cy")]
    ran: list[int] = []

    def it() -> None:
        ran.append(1)
        runner.inner._closed = True  # noqa: SLF001 - as closing does first of all

    runner = rig.runner({"it": it})
    assert len(runner.recover()) == 1
    assert ran == [1]
    assert sum(rig.registry.status(scan_id).done for scan_id in scans) == 1
