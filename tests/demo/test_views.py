"""The two ways of showing say the same; neither breaks the screen that it is on."""

import io
import re
from collections.abc import Callable

import pytest
from attrs import evolve
from msgspec.structs import replace
from rich.console import Console

from oppscan.demo import wording
from oppscan.demo.live import LiveView
from oppscan.demo.plain import PlainView
from oppscan.demo.scene import Ending, Poller, Proof, Scene, Worker, ending
from oppscan.demo.show import View, without_secrets
from oppscan.demo.strategies import STRATEGIES
from oppscan.demo.wire import Scan, Sighting, Strategy

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
STATES = ("found", "running", "empty", "failed", "timed_out", "cancelled", "skipped", "pending")
LONG = "closed 0.4% above the high of 55 days and said so in many, many more words than it needed"
FINDS: list[dict[str, object]] = [
    {
        "strategy": "moving_average_cross",
        "symbol": "AAPL/GOOG",
        "date": "2013-02-26",
        "signal": "sell",
        "score": 0.5 + place / 100,
        "reason": LONG,
    }
    for place in range(40)
]
PROOF = Proof(settled=("momentum", "gap"), before=("momentum", "gap", "rsi"), after=("rsi",))


def strategies() -> tuple[Strategy, ...]:
    """Give the fourteen in every state there is."""
    return tuple(
        Strategy(
            name,
            state := STATES[place % len(STATES)],
            found=7 if state == "found" else 0,
            duration=None if state in {"pending", "skipped"} else 0.25,
            error="ValueError: the feed is down" if state == "failed" else None,
            done=state not in {"pending", "running"},
        )
        for place, name in enumerate(STRATEGIES)
    )


def scene(*, stalled: bool = False) -> Scene:
    made = Scene("sqlite:////tmp/oppscan-demo-12345678/scans.db", 0.7, tuple(STRATEGIES))
    made.market = "12,154 daily prices of AAPL, FB, GOOG, IBM, MSFT, 2000-2013"
    made.workers.append(Worker("worker 1", 101, "killed (SIGKILL) at 11/14", trouble=True))
    made.pollers.append(Poller("poller 1", 102))
    made.pollers.append(Poller("poller 2", 103))
    scan = Scan("running", 12, 11, 14, 7, stalled=stalled, strategies=strategies())
    made.sighted("poller 1", Sighting(scan, polls=9, steps_back=1, opportunities=FINDS))
    made.note("worker 1 (pid 101) runs the scan")
    made.clock = 1.5
    return made


def end(*, proof: Proof | None = None) -> Ending:
    return evolve(ending(scene(), proof), scan=replace(scene().scan, state="complete"))


def plain(width: int | None) -> tuple[View, io.StringIO]:
    out = io.StringIO()
    return PlainView(out, width), out


def live(width: int) -> tuple[View, io.StringIO]:
    out = io.StringIO()
    return LiveView(Console(file=out, width=width, height=40, force_terminal=True)), out


def seen(out: io.StringIO) -> str:
    """Give what was written, without codes for colour and cursor."""
    return CODES.sub("", out.getvalue())


def shown(view: View, out: io.StringIO, end: Ending) -> str:
    view.show(scene())
    view.end(scene(), end)
    view.stop()
    return seen(out)


@pytest.mark.parametrize("width", [40, 60, 80, 104, 120])
def test_plain_lines_fit_the_terminal(width: int) -> None:
    text = shown(*plain(width), end(proof=PROOF))
    assert max(map(len, text.splitlines())) <= max(width, 53)


@pytest.mark.parametrize("width", [80, 104, 120, 200])
def test_frames_and_table_fit_the_terminal(width: int) -> None:
    text = shown(*live(width), end(proof=PROOF))
    assert max(map(len, text.splitlines())) <= min(width, 120)


@pytest.mark.parametrize("make", [plain, live], ids=["plain", "live"])
def test_both_views_tell_the_whole_end(make: Callable[[int], tuple[View, io.StringIO]]) -> None:
    text = shown(*make(120), end(proof=PROOF))
    for words in (
        "The best 12 of 40 opportunities",
        "AAPL/GOOG  2013-02-26  sell",
        "ValueError: the feed is down",
        "ran before the kill:",
        "cut off by the kill:",
        "none twice:",
    ):
        assert words in text
    assert text.rstrip().endswith("complete in 1.5 s: 11/14")


def test_plain_lines_announce_each_outcome_and_note_once() -> None:
    view, out = plain(None)
    for _ in range(3):
        view.show(scene())
    text = out.getvalue()
    assert text.count("momentum ") == 1
    assert text.count("runs the scan") == 1
    assert text.count("oppscan demo") == 1
    assert "running" not in text
    assert " 1/14  momentum" in text
    assert "11/14" in text


def test_a_stall_is_shown() -> None:
    view, out = live(80)
    view.show(scene(stalled=True))
    view.stop()
    assert "stalled" in seen(out)
    assert wording.state_text(scene(stalled=True).scan) == "stalled"


def test_frames_are_not_drawn_more_often_than_one_can_see() -> None:
    view, out = live(80)
    first = scene()
    view.show(first)
    view.show(first)
    view.stop()
    assert seen(out).count("oppscan demo") == 2  # the second is drawn when it stops


@pytest.mark.parametrize("width", [30, 60, 80, 103, 104, 500])
def test_the_table_keeps_its_columns_apart(width: int) -> None:
    lines = wording.table(FINDS, width)
    assert lines[0].startswith(" #  symbol     date        signal  score")
    assert ("strategy" in lines[0]) == (width >= wording.ROOMY)
    assert ("reason" in lines[0]) == (width >= wording.TIGHT)
    assert sum(line.lstrip()[:1].isdigit() and "AAPL" in line for line in lines) == wording.SHOWN


def test_an_empty_table_is_its_head() -> None:
    assert len(wording.table([], 80)) == 1
    assert wording.title(evolve(end(), opportunities=[])) == "The best 0 of 0 opportunities"


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        (Strategy("gap"), ""),
        (Strategy("gap", "found", 3), " 3 found"),
        (Strategy("gap", "empty"), "nothing"),
        (Strategy("gap", "failed", error="ValueError: x"), "failed: ValueError: x"),
        (Strategy("gap", "timed_out", error="after 60 s"), "timeout: after 60 s"),
    ],
    ids=lambda value: value.state if isinstance(value, Strategy) else "",
)
def test_outcomes_in_words(strategy: Strategy, text: str) -> None:
    assert wording.outcome_text(strategy) == text


def test_a_pollers_line_before_and_after_its_first_poll() -> None:
    polled, unseen = scene().pollers
    assert wording.poller_text(unseen) == "poller 2 (pid 103): no poll yet"
    assert wording.poller_text(polled) == (
        "poller 1 (pid 102): running 11/14, revision 12, 9 polls, 1 times went back,"
        " never not found"
    )


@pytest.mark.parametrize(
    ("store", "shown_as"),
    [
        ("redis://user:secret@host:6379/0", "redis://host:6379/0"),
        ("sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
    ],
)
def test_no_password_is_shown(store: str, shown_as: str) -> None:
    assert without_secrets(store) == shown_as
