"""``oppscan demo``, as a user runs it: what it prints, how it ends, and what it leaves behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import pytest

from oppscan import sync
from oppscan.demo.strategies import STRATEGIES, rank
from oppscan.demo.wire import NAMESPACE, OWNER

COMMAND = (sys.executable, "-m", "oppscan.cli", "demo")
SYMBOL = r"(?:AAPL|FB|GOOG|IBM|MSFT)"
ROW = re.compile(
    rf" ?\d+  {SYMBOL}(?:/{SYMBOL})? +20\d\d-\d\d-\d\d  (?:buy   |sell  )   0\.\d\d"
    r"  [a-z_]+ +(?=.*\d)\S.*"
)
PATIENCE = 60.0


class Demo:
    """The command, started with a temporary directory of its own; killed when the test ends."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "tmp"
        self.folder.mkdir()
        self.seen = ""

    @contextmanager
    def __call__(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [*COMMAND, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(self.folder)},
        ) as child:
            try:
                yield child
            finally:
                child.kill()

    def play(self, *options: str) -> list[str]:
        """Run it to its good end, and give the lines that it printed."""
        with self(*options) as child:
            self.seen, err = child.communicate(timeout=PATIENCE)
        assert (child.returncode, err) == (0, "")
        assert "\x1b" not in self.seen
        assert self.left_nothing()
        return self.seen.splitlines()

    def underway(self, child: subprocess.Popen[str]) -> None:
        """Read what it prints until all its processes are at work."""
        assert child.stdout is not None
        for line in child.stdout:
            self.seen += line
            if line.endswith("poll it\n"):
                break
        assert len(self.pids) == 4
        assert all(map(alive, self.pids))

    @property
    def pids(self) -> set[int]:
        """Its processes, as it named them."""
        return {int(pid) for pid in re.findall(r"\(pid (\d+)\)", self.seen)}

    def left_nothing(self) -> bool:
        """Tell whether its files and processes are gone."""
        return not list(self.folder.iterdir()) and soon(lambda: not any(map(alive, self.pids)))


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return Demo(tmp_path)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What one good run printed."""
    return Demo(tmp_path_factory.mktemp("demo")).play("--pace", "0.05")


def alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def soon(there: Callable[[], bool]) -> bool:
    """Wait for what other processes do; the positive control is that it was not there before."""
    deadline = monotonic() + PATIENCE
    while not there() and monotonic() < deadline:
        sleep(0.02)
    return there()


def outcomes(lines: list[str]) -> list[str]:
    """Give the names of the strategies whose outcome was announced, in that order."""
    announced = (re.search(r" \d+/14  ([a-z_]+) +\d+ found ", line) for line in lines)
    return [match[1] for match in announced if match]


def listed(lines: list[str], label: str) -> list[str]:
    """Give the strategies named on the line of that label."""
    line = next(line for line in lines if line.startswith(f"{label}: "))
    return re.findall(r"[a-z]+(?:_[a-z]+)*(?=, | \()", line.removeprefix(label))


def test_it_shows_a_whole_scan_and_a_table_of_finds(printed: list[str]) -> None:
    assert sorted(outcomes(printed)) == sorted(STRATEGIES)
    assert len([line for line in printed if ROW.fullmatch(line)]) == 12
    assert printed[-1].endswith("14/14")


def test_the_table_is_ranked(printed: list[str]) -> None:
    rows = [line.split() for line in printed if ROW.fullmatch(line)]
    shown = [rank({"date": day, "score": float(score)}) for _, _, day, _, score, *_ in rows]
    assert shown == pytest.approx(sorted(shown, reverse=True), abs=0.02)  # scores are rounded


def test_g2_no_poller_sees_it_go_back_or_missing(printed: list[str]) -> None:
    pollers = [line for line in printed if re.match(r"poller \d ", line)]
    assert len(pollers) == 3
    assert all(line.endswith("never went back, never not found") for line in pollers)
    assert all("complete 14/14" in line for line in pollers)


def test_g13_a_killed_workers_scan_stalls_and_is_resumed_without_repeats(demo: Demo) -> None:
    lines = demo.play("--pace", "0", "--kill")
    story = "\n".join(lines)
    told = ("runs the scan", "killed (SIGKILL) at 7/14", "see the scan stalled", "resumes the scan")
    places = [story.index(words) for words in told]
    assert places == sorted(places)

    before, after = listed(lines, "ran before the kill"), listed(lines, "ran after the kill")
    assert len(before) == 7
    assert sorted(before + after) == sorted(STRATEGIES)
    assert set(listed(lines, "cut off by the kill")) <= set(after)
    assert any(line.startswith("none twice: ") for line in lines)
    assert sorted(outcomes(lines)) == sorted(STRATEGIES)
    assert lines[-1].endswith("14/14")


def test_a_store_of_the_users_is_left_without_the_scan(demo: Demo, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'mine.db'}"
    lines = demo.play("--pace", "0", "--store", store)
    assert store in lines[2]
    with sync.connect(store, namespace=NAMESPACE) as registry:
        assert list(registry.history(OWNER)) == []


def test_without_rich_it_plays_the_same() -> None:
    script = (
        "import sys\n"
        "sys.modules['rich'] = None\n"
        "from oppscan.cli import main\n"
        "sys.exit(main(['demo', '--pace', '0']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stdout.rstrip().endswith("14/14")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl_c", "sigterm"]
)
def test_interrupted_it_cleans_up(number: signal.Signals, status: int, demo: Demo) -> None:
    with demo("--pace", "10") as child:
        demo.underway(child)
        child.send_signal(number)
        _, err = child.communicate(timeout=PATIENCE)
    assert (child.returncode, err) == (status, "")
    assert demo.left_nothing()


def test_no_process_outlives_a_parent_that_was_killed(demo: Demo) -> None:
    with demo("--pace", "10") as child:
        demo.underway(child)
    assert soon(lambda: not any(map(alive, demo.pids)))


def test_a_process_that_dies_ends_the_show_in_one_line(demo: Demo) -> None:
    with demo("--pace", "10") as child:
        demo.underway(child)
        os.kill(min(demo.pids), signal.SIGKILL)
        _, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == 1
    assert re.fullmatch(r"oppscan demo: \w+ \d stopped: .+\n", err)
    assert demo.left_nothing()


def test_a_store_that_cannot_be_opened_ends_it_in_one_line(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with demo("--store", f"sqlite:///{tmp_path / 'file' / 'scans.db'}") as child:
        out, err = child.communicate(timeout=PATIENCE)
    assert (child.returncode, out) == (1, "")
    assert re.fullmatch(r"oppscan demo: .+\n", err)
    assert demo.left_nothing()
