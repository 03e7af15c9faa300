"""Strategies for other processes: importable, and counted in a file that all processes share."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from oppscan import ScanContext


def _note(context: ScanContext) -> None:
    with Path(str(context.params["ledger"])).open("a") as ledger:
        ledger.write(f"{context.name} {os.getpid()}\n")


def quick(context: ScanContext) -> object:
    _note(context)
    return [{"pid": os.getpid()}]


def steady(context: ScanContext) -> object:
    _note(context)
    time.sleep(0.3)
    return [{"name": context.name, "owner": context.owner}]


def dies(context: ScanContext) -> NoReturn:
    _note(context)
    time.sleep(0.1)
    os._exit(3)


def dies_once(context: ScanContext) -> object:
    first = _first_time(context)
    _note(context)
    if first:
        os._exit(3)
    return [{"again": True}]


def _first_time(context: ScanContext) -> bool:
    path = Path(str(context.params["ledger"]))
    return not path.exists() or f"{context.name} " not in path.read_text()


def obeys(context: ScanContext) -> object:
    _note(context)
    while not context.cancelled:
        time.sleep(0.01)
    return [{"obeyed": True}]


def hangs(context: ScanContext) -> None:
    _note(context)
    time.sleep(60)


def yields(context: ScanContext) -> Iterator[object]:
    _note(context)
    yield {"n": 1}
    while not context.cancelled:
        time.sleep(0.01)
    yield {"n": 2}


def of_nothing() -> object:
    return ()


class Unpicklable(Exception):
    """An error that cannot be made anew from its text."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def raises(context: ScanContext) -> NoReturn:
    _note(context)
    raise Unpicklable(1, 2)


async def on_the_loop(context: ScanContext) -> object:
    _note(context)
    return [{"pid": os.getpid()}]


def yields_and_hangs(context: ScanContext) -> Iterator[object]:
    yield {"n": 1}
    yield {"n": 2}
    while not Path(f"{context.params['ledger']}.go").exists():
        time.sleep(0.01)


def yields_and_dies(context: ScanContext) -> Iterator[object]:
    _note(context)
    yield {"n": 1}
    os._exit(3)


class Unsendable:
    """A value that cannot be pickled, and says so by a RuntimeError."""

    def __reduce__(self) -> NoReturn:
        msg = "cannot be sent"
        raise RuntimeError(msg)


def unsendable(context: ScanContext) -> object:
    _note(context)
    time.sleep(0.3)
    return [Unsendable()]
