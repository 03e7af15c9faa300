"""The ``oppscan`` command: help, version, and how a subcommand's end becomes an exit status."""

import signal
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

import pytest

import oppscan
from oppscan import StorageUnavailable
from oppscan.cli import app, main
from oppscan.cli.command import Command, CommandFailed


def no_arguments(parser: ArgumentParser) -> None:
    """Declare nothing."""


def ends(run: Callable[[Namespace], int], monkeypatch: pytest.MonkeyPatch) -> int:
    """Give the exit status of a subcommand that does ``run``."""
    stub = Command("stub", "does one thing", "Does one thing.", no_arguments, run)
    monkeypatch.setattr(app, "COMMANDS", (stub,))
    return main(["stub"])


def raises(error: BaseException) -> Callable[[Namespace], int]:
    def run(_: Namespace) -> int:
        raise error

    return run


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"oppscan {oppscan.__version__}\n"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = capsys.readouterr().out
    assert all(f"  {command.name} " in told for command in app.COMMANDS)
    assert len(told.splitlines()) < 20


def test_without_a_command_help_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.startswith("usage: oppscan")) == ("", True)


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["dance"])
    assert "invalid choice: 'dance'" in capsys.readouterr().err


def test_a_commands_status_is_the_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ends(lambda _: 0, monkeypatch) == 0
    assert ends(lambda _: 7, monkeypatch) == 7


@pytest.mark.parametrize(
    "error",
    [CommandFailed("no luck"), StorageUnavailable("no luck"), OSError("no luck")],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_is_one_line_and_status_1(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends(raises(error), monkeypatch) == 1
    assert capsys.readouterr().err == "oppscan stub: no luck\n"


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        ends(raises(ZeroDivisionError()), monkeypatch)


def test_ctrl_c_is_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends(raises(KeyboardInterrupt()), monkeypatch) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_ends_a_command_after_its_clean_up(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned = []

    def run(_: Namespace) -> int:
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append(number)
        return 0

    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as end:
        ends(run, monkeypatch)
    assert (end.value.code, cleaned) == (128 + number, [number])
    assert signal.getsignal(number) == before


def test_a_reader_that_went_away_is_status_141() -> None:
    stub = (
        "import sys\n"
        "from oppscan.cli import app, command\n"
        "def run(_):\n"
        "    sys.stdin.read()\n"
        "    sys.stdout.write('x' * 100_000)\n"
        "    return 0\n"
        "app.COMMANDS = (command.Command('stub', '', '', lambda _: None, run),)\n"
        "sys.exit(app.main(['stub']))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", stub],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.close()
    child.stdout = None
    _, complaints = child.communicate(timeout=30)
    assert (child.returncode, complaints) == (141, b"")


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "oppscan.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.startswith("oppscan ")


def test_importing_the_library_loads_no_command_and_no_extra() -> None:
    script = (
        "import sys, oppscan, oppscan.sync\n"
        "print([m for m in sys.modules if m.startswith(('oppscan.cli', 'oppscan.demo', 'rich'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "[]\n"
