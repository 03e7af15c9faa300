"""A pool of processes like one that the host made and that broke: as many, set up alike."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Final

_SETTINGS: Final = {
    "concurrent.futures.process": {
        "max_workers": "_max_workers",
        "mp_context": "_mp_context",
        "initializer": "_initializer",
        "initargs": "_initargs",
    },
    "loky.process_executor": {
        "max_workers": "_max_workers",
        "context": "_context",
        "initializer": "_initializer",
        "initargs": "_initargs",
    },
}
"""The arguments of a pool's class, and where each is kept; neither has a public name for them."""


def twin_of(pool: Executor) -> Callable[[], Executor] | None:
    """Give what makes an equal pool; None for an executor of another kind."""
    for kind in type(pool).__mro__:
        settings = _SETTINGS.get(kind.__module__)
        if settings is not None:
            return partial(kind, **{name: getattr(pool, kept) for name, kept in settings.items()})
    return None
