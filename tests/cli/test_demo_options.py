"""``oppscan demo``: what it takes, and which way of showing suits which terminal."""

import io
import sys

import pytest
from attrs import evolve

from oppscan.cli import demo, main
from oppscan.demo import show
from oppscan.demo.crew import DemoFailed
from oppscan.demo.live import LiveView
from oppscan.demo.plain import PlainView
from oppscan.demo.scene import Ending
from oppscan.demo.show import Options, View
from oppscan.demo.wire import Scan

ENDING = Ending(
    scan=Scan("complete", 30, 14, 14, done=True),
    seconds=4.0,
    opportunities=[],
    alike=True,
    pollers=3,
    polls=90,
    steps_back=0,
    missing=0,
)


class Terminal(io.StringIO):
    """A standard output that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """The options of shows that were asked for; none of them is played."""
    seen: list[Options] = []

    def run(options: Options, view: View) -> Ending:
        seen.append(options)
        return ENDING

    monkeypatch.setattr(show, "run", run)
    return seen


def on(monkeypatch: pytest.MonkeyPatch, columns: int, lines: int, term: str = "xterm") -> View:
    """Give the view that is chosen on such a terminal."""
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(lines))
    monkeypatch.setenv("TERM", term)
    return demo.choose_view()


def test_by_default_it_is_paced_and_nothing_is_killed(asked: list[Options]) -> None:
    assert main(["demo"]) == 0
    assert asked == [Options(store=None, kill=False, pause=demo.PACE)]


def test_options_are_passed_on(asked: list[Options]) -> None:
    assert main(["demo", "--kill", "--pace", "0", "--store", "sqlite:///here.db"]) == 0
    assert asked == [Options(store="sqlite:///here.db", kill=True, pause=0.0)]


@pytest.mark.parametrize("store", ["memory:", "memory://"])
def test_a_store_that_cannot_be_shared_is_refused(
    store: str, asked: list[Options], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "--store", store])
    assert "lives inside one process" in capsys.readouterr().err
    assert asked == []


@pytest.mark.parametrize("pace", ["fast", "nan", "inf", "-1", "11"])
def test_a_pace_that_is_none_is_refused(
    pace: str, asked: list[Options], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["demo", f"--pace={pace}"])
    assert f"{pace!r} is not a number of seconds" in capsys.readouterr().err
    assert asked == []


def test_a_show_that_cannot_go_on_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(options: Options, view: View) -> Ending:
        raise DemoFailed("poller 2 stopped: out of luck")

    monkeypatch.setattr(show, "run", run)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == "oppscan demo: poller 2 stopped: out of luck\n"


def test_a_broken_promise_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flawed = evolve(ENDING, steps_back=2, alike=False)

    def run(options: Options, view: View) -> Ending:
        return flawed

    monkeypatch.setattr(show, "run", run)
    assert main(["demo"]) == 1
    told = capsys.readouterr().err
    assert told == "oppscan demo: 2 polls went back; the pollers read different results\n"


def test_a_pipe_gets_plain_lines_of_any_length(capsys: pytest.CaptureFixture[str]) -> None:
    view = demo.choose_view()
    assert isinstance(view, PlainView)
    assert view.width is None


def test_a_roomy_terminal_is_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(on(monkeypatch, 80, 24), LiveView)


@pytest.mark.parametrize(
    ("columns", "lines", "term"),
    [(60, 40, "xterm"), (120, 15, "xterm"), (120, 40, "dumb")],
    ids=["narrow", "low", "dumb"],
)
def test_another_terminal_gets_plain_lines_that_fit(
    columns: int, lines: int, term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = on(monkeypatch, columns, lines, term)
    assert isinstance(view, PlainView)
    assert view.width == columns


def test_without_rich_there_are_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert isinstance(on(monkeypatch, 120, 40), PlainView)
