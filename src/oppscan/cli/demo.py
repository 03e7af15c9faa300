"""``oppscan demo``: its options, and which way of showing it suits the terminal."""

from __future__ import annotations

import math
import shutil
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, Final

from oppscan.cli.command import Command, CommandFailed

if TYPE_CHECKING:
    from oppscan.demo.show import View

PACE: Final = 0.6
SLOWEST: Final = 10.0

_DESCRIPTION: Final = """\
Scans thirteen years of real daily prices of five shares with fourteen strategies.
One process runs the scan, three others poll it; all that they share is a store.
The strategies need well under a second; so that one can watch, each rests a moment.
"""


def _store(url: str) -> str:
    if url.partition(":")[0] == "memory":
        raise ArgumentTypeError(
            "a memory: store lives inside one process, and several must share this one; "
            "use sqlite:////absolute/path.db or redis://host"
        )
    return url


def _pace(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= SLOWEST:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {SLOWEST:g}")
    return seconds


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--kill",
        action="store_true",
        help="kill the working process (SIGKILL) when half is done, and have another resume; "
        "the first one is held back from its eighth strategy on, so that it is always half",
    )
    parser.add_argument(
        "--store",
        metavar="URL",
        type=_store,
        help="the store to share: sqlite:////path.db, redis://host, ... "
        "(default: a SQLite file that is removed again)",
    )
    parser.add_argument(
        "--pace",
        metavar="SECONDS",
        type=_pace,
        default=PACE,
        help="how long each strategy rests, about (default: %(default)s; 0: not at all)",
    )


def choose_view() -> View:
    """Give the way of showing that suits standard output.

    What is redrawn needs a terminal of some size, and rich.
    """
    from oppscan.demo.plain import PlainView

    if not sys.stdout.isatty():
        return PlainView(sys.stdout)
    width, height = shutil.get_terminal_size()
    plain = PlainView(sys.stdout, width)
    try:
        from rich.console import Console

        from oppscan.demo.live import LEAST_HEIGHT, LEAST_WIDTH, LiveView
    except ModuleNotFoundError:
        return plain
    console = Console()
    roomy = width >= LEAST_WIDTH and height >= LEAST_HEIGHT
    return LiveView(console) if roomy and not console.is_dumb_terminal else plain


def _run(options: Namespace) -> int:
    from oppscan.demo.crew import DemoFailed
    from oppscan.demo.show import Options, run

    view = choose_view()
    try:
        ending = run(Options(options.store, options.kill, options.pace), view)
    except DemoFailed as error:
        raise CommandFailed(str(error)) from error
    if ending.flaws:
        raise CommandFailed("; ".join(ending.flaws))
    return 0


COMMAND: Final = Command(
    name="demo",
    summary="watch a scan of real prices, run and polled by several processes",
    description=_DESCRIPTION,
    arguments=_arguments,
    run=_run,
)
