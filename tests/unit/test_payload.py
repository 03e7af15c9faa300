"""The validator of payloads: what is accepted comes back equal, all else is refused by path."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, UserDict, namedtuple
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from math import inf, nan
from types import MappingProxyType

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oppscan import InvalidInput
from oppscan.payload import DEPTH, pack, plain_object, plain_objects

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _text
)
_json = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4)
)


@given(st.dictionaries(_text, _json, max_size=5))
def test_what_is_accepted_comes_back_equal(value: dict[str, object]) -> None:
    plain = plain_object(value, "it")
    assert plain == value
    assert list(plain) == list(value)
    back = msgspec.msgpack.decode(pack(plain, "it", 10**9, "a rule"))
    assert back == value
    assert repr(back) == repr(value), "types and signs of zero too"


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Plain(Enum):
    A = "a"


@dataclasses.dataclass
class Point:
    x: int
    y: list[int]


@attrs.frozen
class Signal:
    symbol: str
    score: float


class Name(str):
    __slots__ = ()


class Share(float):
    __slots__ = ()


Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - what old code gives


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"a": (1, 2)}, {"a": [1, 2]}),
        ({"a": Colour.RED, "b": Level.HIGH}, {"a": "red", "b": 3}),
        ({Name("a"): Name("b")}, {"a": "b"}),
        ({"a": Share(0.5)}, {"a": 0.5}),
        ({"a": Point(1, [2])}, {"a": {"x": 1, "y": [2]}}),
        ({"a": Signal("BTC", 0.9)}, {"a": {"symbol": "BTC", "score": 0.9}}),
        ({"a": Pair(1, 2)}, {"a": [1, 2]}),
        ({"a": MappingProxyType({"b": 1})}, {"a": {"b": 1}}),
        (UserDict({"a": 1}), {"a": 1}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (Signal("BTC", 1.0), {"symbol": "BTC", "score": 1.0}),
        ({"a": [2**64 - 1, -(2**63)]}, {"a": [2**64 - 1, -(2**63)]}),
        ({"é": "株"}, {"é": "株"}),
    ],
)
def test_what_equals_plain_data_becomes_plain(value: object, plain: dict[str, object]) -> None:
    given_back = plain_object(value, "it")
    assert given_back == plain
    assert type(given_back) is dict
    assert pack(given_back, "it", 1000, "") == msgspec.msgpack.encode(plain)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": nan}, "it['a']: nan is no JSON number"),
        ({"a": [1, {"b": inf}]}, "it['a'][1]['b']: inf is no JSON number"),
        ({"a": Share(nan)}, "it['a']: nan"),
        ({"a": 2**64}, "it['a']: an integer beyond 64 bits"),
        ({"a": -(2**63) - 1}, "it['a']: an integer beyond 64 bits"),
        ({"a": {1, 2}}, "it['a']: a set is no JSON value"),
        ({"a": b"x"}, "it['a']: a bytes is no JSON value"),
        ({"a": {1: 2}}, "it['a']: key 1 is a int, not a str"),
        ({None: 2}, "it: key None is a NoneType, not a str"),
        ({"a": Decimal(1)}, "it['a']: a Decimal is no JSON value"),
        ({"a": datetime(2026, 1, 1, tzinfo=UTC)}, "it['a']: a datetime is no JSON value"),
        ({"a": Plain.A}, "it['a']: a Plain is no JSON value"),
        ({"a": 1j}, "it['a']: a complex is no JSON value"),
        ({"a": Point}, "it['a']: a type is no JSON value"),
        ({"a": "\ud800"}, "it['a']: '\\ud800' has a lone surrogate"),
        ({"\ud800": 1}, "it['\\ud800']: '\\ud800' has a lone surrogate"),
        ({"a": (x for x in "ab")}, "it['a']: a generator is no JSON value"),
        ([1], "it: must be a JSON object (mapping, attrs or dataclass), not list"),
        ("text", "it: must be a JSON object (mapping, attrs or dataclass), not str"),
        (Point, "it: must be a JSON object"),
        (None, "it: must be a JSON object"),
    ],
)
def test_what_json_cannot_carry_is_refused_by_its_path(value: object, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        plain_object(value, "it")
    assert str(refused.value).startswith(says)
    assert str(refused.value).endswith("only what JSON carries exactly is stored")


def _nested(levels: int, *, arrays: bool) -> dict[str, object]:
    value: object = 1
    for _ in range(levels - 1):
        value = [value] if arrays else {"a": value}
    return {"a": value}


@pytest.mark.parametrize("arrays", [False, True])
def test_nesting_has_a_bound(arrays: bool) -> None:
    assert plain_object(_nested(DEPTH, arrays=arrays), "it")
    with pytest.raises(InvalidInput, match="nested more than 64 levels deep"):
        plain_object(_nested(DEPTH + 1, arrays=arrays), "it")


def test_what_holds_itself_is_refused() -> None:
    value: dict[str, object] = {}
    value["me"] = value
    with pytest.raises(InvalidInput, match="nested more than 64"):
        plain_object(value, "it")


def test_opportunities_are_a_list_or_tuple_of_objects() -> None:
    assert plain_objects(({"a": 1}, Signal("B", 1.0)), "it") == [
        {"a": 1},
        {"symbol": "B", "score": 1.0},
    ]
    with pytest.raises(InvalidInput, match=r"it\[1\]: must be a JSON object"):
        plain_objects([{}, 7], "it")
    with pytest.raises(InvalidInput, match=r"it\[0\]\['a'\]: nan"):
        plain_objects([{"a": nan}], "it")
    wrongs: list[object] = [{"a": 1}, "text", None, iter([])]
    for wrong in wrongs:
        with pytest.raises(InvalidInput, match="it must be a list or tuple of JSON objects, not"):
            plain_objects(wrong, "it")


def test_g12_the_size_is_checked_before_anything_is_stored() -> None:
    assert len(pack({"a": 1}, "it", 4, "a rule")) == 4
    with pytest.raises(InvalidInput, match=r"it take 4 bytes, over the limit of 3 \(a rule\)"):
        pack({"a": 1}, "it", 3, "a rule")
