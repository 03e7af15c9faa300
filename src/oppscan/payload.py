"""The validator of payloads: what JSON can carry exactly, and nothing else.

Laws
- What is accepted comes back equal: same keys, values and order (tuples as lists, attrs
  instances and dataclasses as objects, members of a StrEnum or IntEnum and NumPy's float64 as the
  plain values they equal). An encoder alone would quietly turn NaN into null, sets
  into lists and integer keys into strings; here they are refused, with their path.
- Refusal comes before anything is stored. A walk is O(values), at most 64 levels deep.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Final

import attrs
import msgspec

from oppscan.errors import InvalidInput
from oppscan.model import JSON

DEPTH: Final = 64
_PATH_SHOWN: Final = 200
"""Characters: enough to find a value; what is nested in itself has no end of them."""

_LEAST_INT: Final = -(2**63)
_MOST_INT: Final = 2**64 - 1


class _Refused(Exception):
    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.path: list[str] = []


def plain_object(value: object, path: str) -> JSON:
    """Give ``value`` as a plain JSON object; `InvalidInput` names the path of what is refused."""
    try:
        return _object(value, DEPTH)
    except _Refused as refused:
        raise _invalid(refused, path) from None


def plain_objects(value: object, path: str) -> list[JSON]:
    """Give a list or tuple of JSON objects as plain data, as `plain_object` does."""
    if not isinstance(value, (list, tuple)):
        msg = f"{path} must be a list or tuple of JSON objects, not {type(value).__name__}"
        raise InvalidInput(msg)
    plain: list[JSON] = []
    for index, item in enumerate(value):
        try:
            plain.append(_object(item, DEPTH))
        except _Refused as refused:
            raise _invalid(refused, f"{path}[{index}]") from None
    return plain


def pack(value: object, path: str, limit: int, rule: str) -> bytes:
    """Encode plain data; `InvalidInput` when it takes more than ``limit`` bytes (``rule``)."""
    body = msgspec.msgpack.encode(value)
    if len(body) > limit:
        msg = f"{path} take {len(body)} bytes, over the limit of {limit} ({rule})"
        raise InvalidInput(msg)
    return body


def _invalid(refused: _Refused, path: str) -> InvalidInput:
    inside = "".join(reversed(refused.path))
    place = path + (inside if len(inside) <= _PATH_SHOWN else f"{inside[:_PATH_SHOWN]}…")
    return InvalidInput(f"{place}: {refused.reason}; only what JSON carries exactly is stored")


def _object(value: object, depth: int) -> JSON:
    if type(value) is dict or isinstance(value, Mapping):
        return _mapping(value, depth)
    members = _members(value)
    if members is None:
        msg = f"must be a JSON object (mapping, attrs or dataclass), not {type(value).__name__}"
        raise _Refused(msg)
    return _mapping(members, depth)


def _members(value: object) -> JSON | None:
    """Give the fields of an attrs or dataclass instance, or None for all else."""
    if isinstance(value, type):
        return None
    kind: type = type(value)
    if attrs.has(kind):
        return {a.name: getattr(value, a.name) for a in attrs.fields(kind)}
    if hasattr(kind, "__dataclass_fields__"):
        from dataclasses import fields

        return {f.name: getattr(value, f.name) for f in fields(kind)}
    return None


def _mapping(value: Mapping[object, object] | JSON, depth: int) -> JSON:
    if depth <= 0:
        msg = f"nested more than {DEPTH} levels deep"
        raise _Refused(msg)
    plain: JSON = {}
    for key, item in value.items():
        if not isinstance(key, str):
            msg = f"key {key!r} is a {type(key).__name__}, not a str"
            raise _Refused(msg)
        try:
            plain[_text(key)] = _value(item, depth - 1)
        except _Refused as refused:
            refused.path.append(f"[{key!r}]")
            raise
    return plain


def _array(value: list[object] | tuple[object, ...], depth: int) -> list[object]:
    if depth <= 0:
        msg = f"nested more than {DEPTH} levels deep"
        raise _Refused(msg)
    plain: list[object] = []
    for index, item in enumerate(value):
        try:
            plain.append(_value(item, depth - 1))
        except _Refused as refused:
            refused.path.append(f"[{index}]")
            raise
    return plain


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            msg = f"{value!r} has a lone surrogate"
            raise _Refused(msg) from None
    return value if type(value) is str else str.__str__(value)


def _integer(value: int) -> int:
    if not _LEAST_INT <= value <= _MOST_INT:
        msg = "an integer beyond 64 bits"
        raise _Refused(msg)
    return value if type(value) is int else int(value)


def _number(value: float) -> float:
    if not isfinite(value):
        msg = f"{value!r} is no JSON number"
        raise _Refused(msg)
    return value if type(value) is float else float(value)


def _value(value: object, depth: int) -> object:  # noqa: PLR0911 - one line a type
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dict):
        return _mapping(value, depth)
    if isinstance(value, (list, tuple)):
        return _array(value, depth)
    return _foreign(value, depth)


def _foreign(value: object, depth: int) -> object:
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    members = _members(value)
    if members is None:
        msg = f"a {type(value).__name__} is no JSON value"
        raise _Refused(msg)
    return _mapping(members, depth)
