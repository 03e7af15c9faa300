"""How a child of the demonstration begins, listens to its parent, and ends with it.

Law: no child outlives its parent. When its input ends, however the parent came to its end, the
child leaves at once, whatever it is doing.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

import msgspec

from oppscan import OppscanError
from oppscan.demo.wire import Job, Message, packed, unpacked

T = TypeVar("T")


def tell(message: Message) -> None:
    """Say something to the parent."""
    sys.stdout.write(packed(message))
    sys.stdout.flush()


def heard(kind: type[T]) -> T:
    """Wait for the parent's next line; `SystemExit` when there is none any more."""
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return unpacked(line, kind)


def leave_with_parent() -> None:
    """From now on, end this process as soon as the parent is gone."""
    threading.Thread(target=_outlive_not, name="parent", daemon=True).start()


def _outlive_not() -> None:
    while os.read(0, 1):  # not sys.stdin: its lock would be held when the interpreter ends
        pass
    os._exit(0)


def run(task: Callable[[Job], None]) -> None:
    """Do a child's work; what goes wrong is told in one line, and by exit status 1."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    try:
        task(heard(Job))
    except (OppscanError, OSError, ValueError, msgspec.MsgspecError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
