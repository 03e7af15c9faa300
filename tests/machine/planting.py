"""Planted bugs: a function of the library, rewritten by one phrase, for the length of a test."""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from types import ModuleType
from typing import Any

import pytest
from attrs import frozen


@frozen
class Bug:
    """In ``place`` (``module:function`` or ``module:Class.method``), ``old`` becomes ``new``."""

    name: str
    place: str
    old: str
    new: str


def plant(monkeypatch: pytest.MonkeyPatch, bug: Bug) -> None:
    """Plant a bug wherever its function is used; `AssertionError` where its text is not there."""
    module_name, _, path = bug.place.partition(":")
    module = importlib.import_module(module_name)
    owner: Any = module
    *classes, name = path.split(".")
    for outer in classes:
        owner = getattr(owner, outer)
    sound = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(sound))
    assert source.count(bug.old) == 1, f"{bug.place} says {bug.old!r} {source.count(bug.old)} times"
    planted = _rewritten(source.replace(bug.old, bug.new), module, name)
    if classes:
        monkeypatch.setattr(owner, name, planted)
        return
    for user in [m for key, m in sys.modules.items() if key.startswith("oppscan")]:
        _replace(monkeypatch, user, sound, planted)


def _replace(
    monkeypatch: pytest.MonkeyPatch, user: ModuleType, sound: object, planted: object
) -> None:
    """Replace a function in a module's names and in its tables."""
    for key, value in list(vars(user).items()):
        if value is sound:
            monkeypatch.setattr(user, key, planted)
        elif isinstance(value, dict) and not key.startswith("__"):
            for entry in [k for k, v in value.items() if v is sound]:
                monkeypatch.setitem(value, entry, planted)


def _rewritten(source: str, module: ModuleType, name: str) -> object:
    scope: dict[str, object] = {}
    code = compile(f"from __future__ import annotations\n{source}", f"<planted {name}>", "exec")
    exec(code, vars(module) | {"__name__": module.__name__}, scope)  # noqa: S102 - our own source
    return scope[name]
