"""The two faces have the same names, parameters, return types, and all of it is documented."""

# ruff: noqa: ANN401 - whatever a module exports

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import oppscan
import oppscan.sync

PAIRS = ["ScanRegistry", "ScanClaim", "OwnerScans"]
_RENAMED = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
}


def _public(kind: type) -> dict[str, Any]:
    wanted = {"__init__", *_RENAMED, *_RENAMED.values()}
    return {
        name: member
        for name, member in inspect.getmembers(kind)
        if (not name.startswith("_") or (name in wanted and name in vars(kind)))
        and (callable(member) or isinstance(member, property))
    }


def _plain(annotation: object) -> str:
    """Give an annotation as the blocking face would write it."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"\b(Awaitable|Coroutine\[Any, Any), (.*)\]", r"\2", text)
    return text.replace("AsyncGenerator", "Generator").replace("AsyncIterator", "Iterator")


def _signature(function: Any) -> list[tuple[object, ...]]:
    signature = inspect.signature(function)
    parameters: list[tuple[object, ...]] = [
        (p.name, p.kind, p.default, _plain(p.annotation)) for p in signature.parameters.values()
    ]
    return [*parameters, ("return", _plain(signature.return_annotation))]


@pytest.mark.parametrize("name", PAIRS)
def test_both_faces_have_the_same_methods(name: str) -> None:
    ours = {_RENAMED.get(n, n) for n in _public(getattr(oppscan, name))}
    theirs = set(_public(getattr(oppscan.sync, name)))
    assert theirs - ours <= {"aclose"}, "the blocking face has it under both names"
    assert ours <= theirs


@pytest.mark.parametrize("name", PAIRS)
def test_both_faces_take_and_give_the_same(name: str) -> None:
    theirs = _public(getattr(oppscan.sync, name))
    for method, member in _public(getattr(oppscan, name)).items():
        other = theirs[_RENAMED.get(method, method)]
        if isinstance(member, property):
            assert isinstance(other, property), method
            assert _signature(member.fget) == _signature(other.fget), method
        else:
            assert _signature(member) == _signature(other), method


def test_connect_is_the_same_in_both_faces() -> None:
    assert _signature(oppscan.connect) == _signature(oppscan.sync.connect)


def test_both_faces_export_the_same_names() -> None:
    assert set(oppscan.sync.__all__) == set(oppscan.__all__)


@pytest.mark.parametrize("module", [oppscan, oppscan.sync], ids=lambda module: module.__name__)
def test_every_public_name_is_documented(module: Any) -> None:
    for name in module.__all__:
        member = getattr(module, name)
        assert inspect.getdoc(member), name
        if inspect.isclass(member) and member.__module__.startswith("oppscan"):
            for method, function in vars(member).items():
                if not method.startswith("_") and callable(function):
                    assert inspect.getdoc(function), f"{name}.{method}"


@pytest.mark.parametrize("name", PAIRS)
def test_the_two_faces_are_described_in_the_same_words(name: str) -> None:
    theirs = _public(getattr(oppscan.sync, name))
    for method, member in _public(getattr(oppscan, name)).items():
        if method.startswith("_") or method == "aclose":
            continue
        described = (inspect.getdoc(member) or "").replace("an async ", "a ")
        assert described == inspect.getdoc(theirs[method]), method


def test_the_async_face_s_calls_that_wait_are_coroutines() -> None:
    for name in PAIRS:
        for method, function in _public(getattr(oppscan.sync, name)).items():
            assert not inspect.iscoroutinefunction(function), method
            assert not inspect.isasyncgenfunction(function), method
