"""What notebooks show: escaped, cut where it is long, and bars that pass on what they show."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Iterator
from html.parser import HTMLParser

import pytest
from rich.console import Console

import oppscan.sync as blocking
from oppscan import ScanStatus
from oppscan.bars import caption, rich_bar, tqdm_bar
from oppscan.notebooks import COLUMNS, ROWS, TEXT

EVIL = "<script>alert('x')</script>&\"'"


class Page(HTMLParser):
    """Reads HTML, and checks that every element that is opened is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        del attrs
        self.tags.append(tag)
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


@pytest.fixture
def registry() -> Iterator[blocking.ScanRegistry]:
    with blocking.connect("memory:") as registry:
        yield registry


def test_whatever_was_given_is_escaped(registry: blocking.ScanRegistry) -> None:
    scan_id = registry.start("ann", [EVIL, "b"], params={EVIL: EVIL}).scan_id
    with registry.claim(scan_id) as scan:
        scan.strategy_finished(EVIL, [{EVIL: EVIL, "nested": {EVIL: [EVIL]}}])
        scan.strategy_failed("b", EVIL)
        scan.fail(EVIL)
    results = registry.results(scan_id, partial=True)
    for shown in (registry.status(scan_id), results):
        page = Page(shown._repr_html_())
        assert "script" not in page.tags
        assert "<script>alert" in page.text


def test_a_status_shows_its_state_progress_and_outcomes(registry: blocking.ScanRegistry) -> None:
    scan_id = registry.start("ann", ["a", "b"]).scan_id
    with registry.claim(scan_id) as scan:
        scan.strategy_started("a")
        scan.strategy_finished("a", [{"n": 1}])
        scan.release()
    assert "stalled" in registry.status(scan_id)._repr_html_()
    with registry.claim(scan_id):
        registry.cancel(scan_id)
        page = Page(registry.status(scan_id)._repr_html_())
    for words in ("running, cancellation asked for", "1/2 strategies, 1 found", "pending", scan_id):
        assert words in page.text
    assert page.tags.count("tr") == 3
    assert "<table>" not in registry.status(scan_id, outcomes=False)._repr_html_()


def test_what_is_long_is_cut_and_says_so(registry: blocking.ScanRegistry) -> None:
    names = [f"s{number}" for number in range(ROWS + 3)]
    scan_id = registry.start("ann", names).scan_id
    wide = {f"k{number}": "x" * (TEXT + 50) for number in range(COLUMNS + 2)}
    with registry.claim(scan_id) as scan:
        scan.strategy_finished("s0", [wide, {"k0": None}] + [{"k0": 1}] * ROWS)
    page = Page(registry.results(scan_id)._repr_html_())
    assert (page.tags.count("tr"), page.tags.count("th")) == (ROWS + 1, COLUMNS)
    assert "… and 2 more" in page.texts
    assert "… and 2 more keys" in page.texts
    assert max(map(len, page.texts)) == TEXT
    assert "… and 3 more" in Page(registry.status(scan_id)._repr_html_()).texts


def test_results_without_opportunities_show_the_headline(registry: blocking.ScanRegistry) -> None:
    scan_id = registry.start("ann", ["a"]).scan_id
    with registry.claim(scan_id) as scan:
        scan.strategy_finished("a", [])
    assert "<table>" not in registry.results(scan_id)._repr_html_()


# --- Bars ----------------------------------------------------------------------------------------


def _life(registry: blocking.ScanRegistry) -> list[ScanStatus]:
    seen = []
    scan_id = registry.start("ann", ["a", "b"]).scan_id
    seen.append(registry.status(scan_id))
    with registry.claim(scan_id) as scan:
        scan.strategy_finished("a", [{"n": 1}])
        seen.append(registry.status(scan_id))
        scan.strategy_finished("b", [])
    return [*seen, registry.status(scan_id)]


async def _later(statuses: list[ScanStatus]) -> AsyncIterator[ScanStatus]:
    for status in statuses:
        yield status


def _rich(output: io.StringIO, statuses: object) -> object:
    return rich_bar(statuses, console=Console(file=output, width=100))  # type: ignore[call-overload]


def _tqdm(_: io.StringIO, statuses: object) -> object:
    return tqdm_bar(statuses)  # type: ignore[call-overload]


BARS = {"rich": _rich, "tqdm": _tqdm}
Bar = Callable[[io.StringIO, object], object]


@pytest.mark.parametrize("bar", BARS)
@pytest.mark.parametrize("face", ["async", "blocking"])
@pytest.mark.asyncio
async def test_a_bar_passes_on_what_it_shows(
    registry: blocking.ScanRegistry, bar: str, face: str, capsys: pytest.CaptureFixture[str]
) -> None:
    life, output = _life(registry), io.StringIO()
    shown: object = BARS[bar](output, _later(life) if face == "async" else life)
    if isinstance(shown, AsyncIterator):
        assert [status async for status in shown] == life
    else:
        assert isinstance(shown, Iterator)
        assert list(shown) == life
    text = output.getvalue() + capsys.readouterr().err
    assert "complete, 1 found" in text
    assert "100%" in text


def test_a_caption_says_that_a_scan_is_stalled(registry: blocking.ScanRegistry) -> None:
    scan_id = registry.start("ann", ["a"]).scan_id
    with registry.claim(scan_id) as scan:
        scan.release()
    assert caption(registry.status(scan_id)) == "running (stalled), 0 found"
