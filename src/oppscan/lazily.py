"""Names that a package loads when they are first asked for (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def load_lazily(package: str, places: Mapping[str, str]) -> Callable[[str], object]:
    """Give the ``__getattr__`` of a package: ``places`` says which module has which name."""

    def load(name: str) -> object:
        if name not in places:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        loaded: object = getattr(import_module(places[name]), name)
        setattr(sys.modules[package], name, loaded)
        return loaded

    return load
