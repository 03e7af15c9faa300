"""What pollers saw becomes what is shown: nothing is lost, and no flaw is overlooked."""

import pytest
from attrs import evolve
from msgspec.structs import replace

from oppscan.demo.scene import Ending, Poller, Proof, Scene, ending
from oppscan.demo.wire import Scan, Sighting, Strategy
from oppscan.demo.witness import Witness, went_back

RUNNING = Scan("running", 7, 3, 14, 40)
COMPLETE = Scan("complete", 30, 14, 14, 271, done=True)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (RUNNING, replace(RUNNING, revision=6)),
        (RUNNING, replace(RUNNING, completed=2)),
        (RUNNING, replace(RUNNING, found=39)),
        (RUNNING, replace(RUNNING, total=0)),
        (RUNNING, replace(RUNNING, state="pending")),
        (COMPLETE, replace(COMPLETE, state="running")),
        (COMPLETE, replace(COMPLETE, state="failed")),
    ],
    ids=["revision", "completed", "found", "total", "pending", "running", "another_end"],
)
def test_g2_every_step_back_is_noticed(before: Scan, now: Scan) -> None:
    assert went_back(before, now)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (RUNNING, RUNNING),
        (RUNNING, replace(RUNNING, stalled=True)),
        (replace(RUNNING, stalled=True), RUNNING),
        (RUNNING, COMPLETE),
        (COMPLETE, COMPLETE),
    ],
    ids=["same", "stalls", "resumed", "finished", "stays"],
)
def test_g2_going_on_is_no_step_back(before: Scan, now: Scan) -> None:
    assert not went_back(before, now)


def test_a_witness_counts_polls_misses_and_steps_back() -> None:
    witness = Witness()
    witness.missed()
    assert witness.sighting() == Sighting(None, polls=1, missing=1)
    witness.saw(RUNNING)
    witness.saw(replace(RUNNING, completed=0))
    assert not witness.finished
    witness.saw(COMPLETE)
    assert witness.finished
    assert witness.sighting([]) == Sighting(
        COMPLETE, polls=4, steps_back=1, missing=1, opportunities=[]
    )


def scene() -> Scene:
    made = Scene("sqlite:////x.db", 0.5, ("momentum", "gap"))
    made.pollers += [Poller("poller 1", 11), Poller("poller 2", 12)]
    return made


def test_before_the_first_poll_every_strategy_is_shown_pending() -> None:
    assert [strategy.state for strategy in scene().scan.strategies] == ["pending", "pending"]
    assert not scene().all_stalled
    assert not scene().read_out


def test_the_newest_sighting_of_any_poller_is_shown() -> None:
    shown = scene()
    shown.sighted("poller 1", Sighting(replace(RUNNING, revision=9), polls=3))
    shown.sighted("poller 2", Sighting(RUNNING, polls=2))
    assert shown.scan.revision == 9
    assert [poller.scan.revision for poller in shown.pollers] == [9, 7]


def test_a_stall_counts_when_all_pollers_see_it() -> None:
    shown = scene()
    shown.sighted("poller 1", Sighting(replace(RUNNING, stalled=True), polls=3))
    assert not shown.all_stalled
    shown.sighted("poller 2", Sighting(replace(RUNNING, stalled=True), polls=3))
    assert shown.all_stalled


def finished(*results: list[dict[str, object]]) -> Ending:
    shown = scene()
    for poller, found in zip(shown.pollers, results, strict=True):
        shown.sighted(poller.name, Sighting(COMPLETE, polls=50, opportunities=found))
    assert shown.read_out
    return ending(shown)


def test_a_good_end_has_no_flaws() -> None:
    end = finished([{"symbol": "IBM"}], [{"symbol": "IBM"}])
    assert (end.polls, end.pollers, end.flaws) == (100, 2, ())


def test_every_flaw_of_an_end_is_named() -> None:
    end = evolve(
        finished([{"symbol": "IBM"}], []),
        scan=Scan("failed", 9, 14, 14, error="out of luck"),
        steps_back=1,
        missing=2,
        proof=Proof(settled=("gap",), before=("gap",), after=("gap",)),
    )
    assert end.flaws == (
        "the scan is failed: out of luck",
        "1 polls went back",
        "2 polls found no scan",
        "the pollers read different results",
        "ran twice: gap",
    )


def test_g13_a_strategy_cut_off_without_an_outcome_may_run_again() -> None:
    proof = Proof(settled=("gap",), before=("gap", "rsi"), after=("rsi", "pairs"))
    assert (proof.interrupted, proof.twice) == (("rsi",), ())


@pytest.mark.parametrize(
    "proof",
    [
        Proof(settled=("gap",), before=("gap",), after=("rsi", "gap")),
        Proof(settled=(), before=("gap", "gap"), after=()),
        Proof(settled=(), before=(), after=("gap", "gap")),
    ],
    ids=["had_its_outcome", "twice_before", "twice_after"],
)
def test_g13_a_repeat_is_noticed(proof: Proof) -> None:
    assert proof.twice == ("gap",)


def test_a_strategy_is_shown_with_what_was_seen_of_it() -> None:
    shown = scene()
    seen = Strategy("gap", "found", 29, 0.5, done=True)
    shown.sighted("poller 1", Sighting(replace(RUNNING, strategies=(seen,)), polls=1))
    assert shown.scan.strategies == (seen,)
