"""What may be given: each refusal names what was given, the limit and the rule."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from enum import Enum
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oppscan import InvalidInput, Limits, Reuse, inputs, request_key


def _refusal(call: Callable[[], object]) -> str:
    with pytest.raises(InvalidInput) as refused:
        call()
    return str(refused.value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (7, "owner must be a str, not int: 7"),
        (None, "owner must be a str, not NoneType: None"),
        (b"x", "owner must be a str, not bytes"),
        ("", "owner must have 1 to 200 characters, not 0"),
        ("x" * 201, "owner must have 1 to 200 characters, not 201"),
        ("a\x00b", "owner must hold no control characters; 'a\\x00b' has one at 1"),
        ("tab\t", "has one at 3"),
        ("\x7f", "has one at 0"),
        ("\x85", "has one at 0"),
        ("lone \ud800", "owner must hold no lone surrogates; 'lone \\ud800' has one at 5"),
    ],
)
def test_an_owner_that_is_refused_is_named(value: object, says: str) -> None:
    assert says in _refusal(lambda: inputs.check_text(value, "owner"))


@pytest.mark.parametrize(
    "value", ["x", "x" * 200, "a:b*{c}/../%s", " ", "Zoë ✓ 株", "'; DROP TABLE rows", "\u2028"]
)
def test_nothing_else_is_special_in_a_name(value: str) -> None:
    assert inputs.check_text(value, "owner") == value


class Name(str, Enum):  # noqa: UP042 - many are written like this
    MOMENTUM = "momentum"


def test_a_member_of_an_enum_is_the_text_that_it_equals() -> None:
    assert type(inputs.check_text(Name.MOMENTUM, "owner")) is str
    assert inputs.check_text(Name.MOMENTUM, "owner") == "momentum"
    assert inputs.check_strategies([Name.MOMENTUM], 1) == ("momentum",)


def test_a_long_refused_value_is_shown_cut() -> None:
    assert len(_refusal(lambda: inputs.check_text([0] * 1000, "owner"))) < 200


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("momentum", "strategies must be a sequence of names"),
        ({"a": 1}.keys, "strategies must be a sequence of names"),
        (7, "strategies must be a sequence of names"),
        (["a", 7], "strategies[1] must be a str"),
        (["a", "b", "a"], "strategies[2] repeats strategies[0]: 'a'"),
        (["a", "b", "c", "d"], "more than 3 names (Limits.max_strategies)"),
        ([""], "strategies[0] must have 1 to 200 characters"),
    ],
)
def test_strategies_that_are_refused_are_named_by_place(value: object, says: str) -> None:
    assert says in _refusal(lambda: inputs.check_strategies(value, 3))


def test_strategies_keep_their_order_and_may_come_from_any_iterable() -> None:
    assert inputs.check_strategies((n for n in "cab"), 3) == ("c", "a", "b")
    assert inputs.check_strategies([], 3) == ()


def test_g12_an_endless_iterable_ends_at_the_limit() -> None:
    def endless() -> object:
        number = 0
        while True:
            number += 1
            yield str(number)

    assert "more than 3" in _refusal(lambda: inputs.check_strategies(endless(), 3))


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "3", None])
def test_a_limit_is_a_positive_whole_number(value: object) -> None:
    says = _refusal(lambda: Limits(max_strategies=value))  # type: ignore[arg-type]
    assert "Limits.max_strategies must be a whole number of at least 1" in says


def test_only_the_bound_on_live_scans_may_be_none() -> None:
    assert Limits(max_live_per_owner=None).max_live_per_owner is None
    assert "max_live_per_owner" in _refusal(lambda: Limits(max_live_per_owner=0))


def test_params_and_metadata_share_one_limit() -> None:
    inputs.check_description_size({"a": 1}, {}, 12)
    says = _refusal(lambda: inputs.check_description_size({"a": 1}, {"b": 2}, 12))
    assert "take 17 bytes, over the limit of 12 (Limits.max_params_bytes)" in says


def test_none_stands_for_no_description() -> None:
    assert inputs.check_description(None, "params") == {}
    assert "params" in _refusal(lambda: inputs.check_description([1], "params"))


@pytest.mark.parametrize(
    "value", ["", "x", "0" * 16, "0" * 49, "G" * 16 + "-" + "0" * 32, "\ud800", "0" * 10_000]
)
def test_a_string_that_is_no_id_is_known_to_be_none(value: str) -> None:
    assert not inputs.check_scan_id(value)


def test_what_is_no_string_is_no_id() -> None:
    assert "scan_id must be a str, not int" in _refusal(lambda: inputs.check_scan_id(7))
    assert inputs.check_scan_id("0" * 16 + "-" + "f" * 32)


@pytest.mark.parametrize("value", ["", "a/b", "a b", "x" * 65, 7, "ü"])
def test_a_namespace_is_plain(value: object) -> None:
    assert "namespace must be 1 to 64" in _refusal(lambda: inputs.check_namespace(value))
    assert inputs.check_namespace("team-1.scans_2") == "team-1.scans_2"


@pytest.mark.parametrize("value", [0, True, 1.5, "1", None])
def test_a_count_is_a_whole_number(value: object) -> None:
    assert "limit must be a whole number of at least 1" in _refusal(
        lambda: inputs.check_count(value, "limit")
    )


@pytest.mark.parametrize("value", ["active", None, 5, Reuse])
def test_reuse_is_one_of_three(value: object) -> None:
    assert "reuse must be Reuse.ACTIVE" in _refusal(lambda: inputs.check_reuse(value))


@pytest.mark.parametrize("value", [-1, nan, "5", True])
def test_fresh_takes_seconds(value: float) -> None:
    assert "Reuse.fresh(seconds)" in _refusal(lambda: inputs.check_reuse(Reuse.fresh(value)))
    assert inputs.check_reuse(Reuse.fresh(0)) == Reuse.fresh(0)
    assert Reuse.fresh(timedelta(minutes=1)) == Reuse.fresh(60)


def test_equal_requests_have_equal_keys() -> None:
    key = request_key(["b", "a"], {"x": 1, "y": [2]})
    assert key == request_key(("a", "b"), {"y": [2], "x": 1})
    assert key != request_key(["a", "b"], {"x": 1, "y": [3]})
    assert key != request_key(["a"], {"x": 1, "y": [2]})
    assert request_key(["a"]) == request_key(["a"], None) == request_key(["a"], {})
    assert len(key) == 64


def test_a_key_refuses_what_start_would_refuse() -> None:
    assert "params['x']" in _refusal(lambda: request_key(["a"], {"x": nan}))
    assert "strategies" in _refusal(lambda: request_key("a"))


@given(st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=2, unique=True))
def test_names_of_owners_and_keys_are_hashed_apart(pair: list[str]) -> None:
    tags = [inputs.owner_tag(name.encode("utf-8", "replace").decode()) for name in pair]
    assert all(len(tag) == 16 for tag in tags)
    names = {inputs.key_name(name.encode("utf-8", "replace").decode()) for name in pair}
    assert all(len(name) == 24 for name in names)


class _Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("feed is down"), "ValueError: feed is down"),
        (ValueError(), "ValueError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        ("as it is", "as it is"),
        (_Mute(), "_Mute: <its str() raised RuntimeError>"),
        (ValueError("lone \ud800"), "ValueError: lone ?"),
    ],
)
def test_an_error_is_told_in_one_line(error: object, text: str) -> None:
    assert inputs.describe_error(error, "error") == text


def test_an_error_is_cut_at_2000_characters() -> None:
    assert len(inputs.describe_error("x" * 5000, "error")) == 2000
    assert "error must be an exception or a str, not int" in _refusal(
        lambda: inputs.describe_error(7, "error")
    )
