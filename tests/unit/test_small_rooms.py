"""What is near, when a watcher tells, how a block was left, where a file lies, ids and clocks."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from attrs import evolve

from oppscan import InvalidInput, StorageFull, StorageUnavailable, near, views
from oppscan.backends.mounts import network_file_system
from oppscan.clock import RandomIds, SteadyClock, SystemClock, delay, delay_blocking, elapsed
from oppscan.leaving import farewell
from oppscan.near import Near
from oppscan.record import Frames, Stamped
from oppscan.watching import FIRST_PAUSE, LONGEST_PAUSE, Watch
from tests.unit.made import SCAN_ID, a_head

STATUS = views.status_of(SCAN_ID, a_head(), 1000)


def _log(size: int) -> Frames:
    return Frames(1, 0, (Stamped(0, b"x" * size),))


# --- Near -----------------------------------------------------------------------------------------


def test_i4_results_are_kept_by_revision() -> None:
    memory = Near()
    memory.keep_results("a", 3, _log(1))
    assert memory.knows("a")
    assert memory.results("a", 3) == _log(1)
    assert memory.results("a", 4) is None
    memory.forget("a")
    assert not memory.knows("a")
    assert memory.results("a", 3) is None


def test_g12_the_least_recently_used_results_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "ENTRIES", 2)
    memory = Near()
    for name in "ab":
        memory.keep_results(name, 1, _log(1))
    memory.results("a", 1)
    memory.keep_results("c", 1, _log(1))
    assert [memory.knows(name) for name in "abc"] == [True, False, True]


def test_g12_results_kept_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "BYTES", 100)
    memory = Near()
    memory.keep_results("large", 1, _log(26))
    assert not memory.knows("large")
    for name in "abcde":
        memory.keep_results(name, 1, _log(25))
    assert [memory.knows(name) for name in "abcde"] == [False, True, True, True, True]
    memory.keep_results("b", 2, _log(20))
    assert memory.results("b", 2) == _log(20)


def test_a_status_is_kept_until_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "ENTRIES", 1)
    memory = Near()
    memory.keep_status(STATUS, 10.0)
    assert memory.status(SCAN_ID, 9.9) == STATUS
    assert memory.status(SCAN_ID, 10.0) is None
    memory.keep_status(evolve(STATUS, scan_id="other"), 10.0)
    assert memory.status(SCAN_ID, 0.0) is None
    assert memory.status("other", 0.0) is not None
    memory.forget("other")
    assert memory.status("other", 0.0) is None


# --- Watching -------------------------------------------------------------------------------------


def test_g2_a_watcher_tells_what_is_news_and_never_goes_back() -> None:
    watch = Watch()
    newer = evolve(STATUS, revision=2)
    assert watch.tells(STATUS)
    assert not watch.tells(STATUS)
    assert watch.tells(newer)
    assert not watch.tells(STATUS)
    assert not watch.tells(evolve(STATUS, stalled=True))
    assert watch.tells(evolve(newer, stalled=True))
    assert watch.tells(newer)


def test_a_watcher_pauses_longer_while_there_is_no_news() -> None:
    watch = Watch()
    watch.tells(STATUS)
    pauses = []
    for _ in range(20):
        watch.tells(STATUS)
        pauses.append(watch.pause)
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE
    watch.tells(evolve(STATUS, revision=2))
    assert watch.pause == FIRST_PAUSE


def test_a_wait_is_over_at_its_deadline() -> None:
    watch = Watch()
    assert watch.deadline(None, 5.0) is None
    assert watch.deadline(2, 5.0) == 7.0
    assert watch.until(None, 99.0, STATUS, listening=False) == FIRST_PAUSE
    assert watch.until(None, 99.0, STATUS, listening=True) == LONGEST_PAUSE
    assert watch.until(7.0, 6.99, STATUS, listening=True) == pytest.approx(0.01)
    with pytest.raises(TimeoutError, match=r"is still pending \(0/3\)"):
        watch.until(7.0, 7.0, STATUS, listening=False)
    with pytest.raises(InvalidInput, match="timeout"):
        watch.deadline(-1, 5.0)


# --- Leaving --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "report"),
    [
        (None, "Ending(error=None, summary=None)"),
        (ValueError("x"), "Ending(error='ValueError: x', summary=None)"),
        (KeyboardInterrupt(), "Letting()"),
        (SystemExit(), "Letting()"),
        (StorageUnavailable("x"), "Letting()"),
        (StorageFull("x"), "Letting()"),
        (ExceptionGroup("", [StorageFull("x"), StorageUnavailable("x")]), "Letting()"),
        (
            ExceptionGroup("both", [StorageFull("x"), ValueError("x")]),
            "Ending(error='ExceptionGroup: both (2 sub-exceptions)', summary=None)",
        ),
    ],
)
def test_how_a_block_was_left_decides(error: BaseException | None, report: str) -> None:
    assert repr(farewell(error)) == report


# --- Mounts ---------------------------------------------------------------------------------------

_TABLE = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /net/share rw shared:1 - nfs4 server:/x rw
31 22 0:41 / /net/with\\040space rw - fuse.sshfs me@there rw
32 30 0:42 / /net/share/local rw - tmpfs tmpfs rw
33 22 0:43 / /cifs rw - cifs //server/x rw
34 22 0:44 / /later rw - ext4 /dev/sdb rw
35 22 0:45 / /later rw - nfs server:/y rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/a.db", None),
        ("/net/share/a.db", "nfs4"),
        ("/net/share", "nfs4"),
        ("/net/shared/a.db", None),
        ("/net/with space/deep/a.db", "fuse.sshfs"),
        ("/net/share/local/a.db", None),
        ("/cifs/a.db", "cifs"),
        ("/later/a.db", "nfs"),
    ],
)
def test_a_network_file_system_is_recognised(path: str, kind: str | None, tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(_TABLE)
    assert network_file_system(Path(path), table) == kind


def test_without_a_mount_table_all_is_local_but_unc_paths(tmp_path: Path) -> None:
    assert network_file_system(tmp_path / "a.db", tmp_path / "missing") is None

    class Unc:
        drive = "\\\\server\\share"

    assert network_file_system(Unc(), tmp_path) == "UNC path"  # type: ignore[arg-type]


# --- Clocks and ids -------------------------------------------------------------------------------


def test_store_time_is_whole_milliseconds_since_the_epoch() -> None:
    wall, steady = SystemClock(), SteadyClock()
    assert isinstance(wall.now(), int)
    assert abs(wall.now() - steady.now()) < 5_000
    assert wall.now() > 1_700_000_000_000
    assert steady.elapsed() <= steady.elapsed()


@pytest.mark.asyncio
async def test_pauses_end() -> None:
    began = elapsed()
    await SystemClock().sleep(0.001)
    await delay(0.001)
    delay_blocking(0.001)
    event = threading.Event()
    assert not SystemClock().wait(event, 0.001)
    event.set()
    assert SystemClock().wait(event, 60)
    assert 0.003 < elapsed() - began < 5


def test_ids_are_never_given_twice() -> None:
    ids = RandomIds()
    suffixes = {ids.scan_suffix() for _ in range(100)} | {ids.operation() for _ in range(100)}
    assert len(suffixes) == 200
    assert {len(name) for name in suffixes} == {32, 16}
