"""``oppscan doctor``: looks at a store, and says what to do about what it finds.

Exit status: 0 nothing to mend; 1 something to mend; 2 no look was possible: the store did not
answer, refused the user, or the URL names none.
"""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from oppscan import OppscanError
from oppscan.cli.command import Command

if TYPE_CHECKING:
    from oppscan.backends.health import Finding

MEND: Final = 1
UNREACHABLE: Final = 2
TIMEOUT: Final = 10.0
LONGEST: Final = 600.0

COLOURS: Final = {"fine": "green", "note": "yellow", "mend": "bold red"}

_DESCRIPTION: Final = """\
Looks at a store: does it answer, can it be written, and are scans safe in it?
Changes nothing. In Redis it looks at every server that takes writes.
Exit status: 0 nothing to mend, 1 something to mend, 2 no look was possible.
"""


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds above 0, up to {LONGEST:g}")
    return seconds


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="sqlite:////path.db, redis://host, ...")
    parser.add_argument(
        "--namespace",
        metavar="NAME",
        default="oppscan",
        help="the namespace whose keys are looked at (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=TIMEOUT,
        help="how long to look (default: %(default)s)",
    )


def _run(options: Namespace) -> int:
    from oppscan.checkup import check_up

    try:
        found = check_up(options.url, namespace=options.namespace, timeout=options.timeout)
    except OppscanError as error:
        sys.stderr.write(f"oppscan doctor: {error}\n")
        return UNREACHABLE
    _show(found)
    return MEND if any(finding.severity == "mend" for finding in found) else 0


def _show(found: Sequence[Finding]) -> None:
    """Write a table where a terminal and rich are there, lines where not."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ModuleNotFoundError:
            pass
        else:
            table = Table("", "check", "found", "what to do", expand=False)
            for finding in found:
                severity = Text(finding.severity, COLOURS[finding.severity])
                words = (_name(finding), finding.told, finding.advice)
                table.add_row(severity, *map(Text, words))
            Console().print(table)
            return
    for line in lines(found):
        sys.stdout.write(f"{line}\n")


def lines(found: Sequence[Finding]) -> list[str]:
    """Give the findings as plain lines."""
    width = max(len(_name(finding)) for finding in found)
    shown = []
    for finding in found:
        shown.append(f"{finding.severity}  {_name(finding):{width}}  {finding.told}")
        if finding.advice:
            shown.append(f"{'':6}{'':{width}}  -> {finding.advice}")
    return shown


def _name(finding: Finding) -> str:
    return f"{finding.check} {finding.where}".rstrip()


COMMAND: Final = Command(
    name="doctor",
    summary="look at a store, and say what should be mended",
    description=_DESCRIPTION,
    arguments=_arguments,
    run=_run,
)
