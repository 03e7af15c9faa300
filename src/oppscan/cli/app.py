"""The ``oppscan`` command: which subcommands there are, and how each of them ends.

Exit status: 0 done; 1 failed, with one line on standard error; 2 called wrongly; 130 by Ctrl-C,
143 and 129 by SIGTERM and SIGHUP, all of them after cleaning up; 141 when nobody reads any more.
"""

from __future__ import annotations

import os
import signal
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final

from oppscan import OppscanError, __version__
from oppscan.cli import demo, doctor
from oppscan.cli.command import Command, CommandFailed

COMMANDS: Final[tuple[Command, ...]] = (demo.COMMAND, doctor.COMMAND)

FAILED: Final = 1
MISUSED: Final = 2
INTERRUPTED: Final = 128 + signal.SIGINT
UNREAD: Final = 128 + 13  # what a shell reports of a program that SIGPIPE ended
_ENDINGS: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)

_ABOUT: Final = "Progress, results and recovery of long scans, the same from every worker."
_MORE: Final = "oppscan COMMAND --help tells more about it."
_USAGE: Final = "oppscan [--version] [--help] COMMAND ..."


def parser() -> ArgumentParser:
    """Give the parser, built from `COMMANDS`."""
    top = ArgumentParser(
        prog="oppscan",
        description=_ABOUT,
        epilog=_overview(),
        usage=_USAGE,
        formatter_class=RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"oppscan {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", help=SUPPRESS)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name,
            prog=f"oppscan {command.name}",
            description=command.description,
            formatter_class=RawDescriptionHelpFormatter,
        )
        command.arguments(sub)
        sub.set_defaults(command=command)
    top.set_defaults(command=None)
    return top


def _overview() -> str:
    lines = (f"  {command.name:<10} {command.summary}" for command in COMMANDS)
    return "\n".join(("commands:", *lines, "", _MORE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``oppscan`` with these arguments, or the process's own; gives the exit status.

    Wrong usage, ``--help`` and ``--version`` raise `SystemExit`, as argparse has it.
    """
    top = parser()
    options = top.parse_args(arguments)
    command: Command | None = options.command
    if command is None:
        top.print_help(sys.stderr)
        return MISUSED
    return _status(command, options)


def _status(command: Command, options: Namespace) -> int:
    try:
        with _orderly_end():
            status = command.run(options)
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes once more when it ends; that must not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except (CommandFailed, OppscanError, OSError) as error:
        sys.stderr.write(f"oppscan {command.name}: {error}\n")
        return FAILED


@contextmanager
def _orderly_end() -> Iterator[None]:
    """Let the signals that end a process run its clean-up first, as Ctrl-C does."""
    before = {number: signal.signal(number, _end) for number in _ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
