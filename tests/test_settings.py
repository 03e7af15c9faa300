"""Settings that make no sense are refused when they are made (G12)."""

# ruff: noqa: ANN401 - settings of any kind

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from oppscan import InvalidInput, Limits, StorageMisconfigured, TTLPolicy, connect
from oppscan.sync import connect as connect_blocking


@pytest.mark.parametrize(
    "bad",
    [
        {"lease": 0.09}, {"lease": 0}, {"pending_ttl": 0}, {"result_ttl": -1},
        {"lookup_margin": 0}, {"claim_within": 0}, {"running_ttl": 0}, {"near_ttl": -1},
        {"lease": 20, "running_ttl": 10}, {"extend_on_read": 0}, {"result_ttl": float("nan")},
        {"result_ttl": float("inf")}, {"result_ttl": "60"}, {"result_ttl": True},
        {"result_ttl": None},
    ],
    ids=str,
)  # fmt: skip
def test_inconsistent_policies_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        TTLPolicy(**bad)


@pytest.mark.parametrize("bad", [0, -1, True, 1.5, "3"], ids=repr)
def test_limits_are_whole_numbers(bad: Any) -> None:
    for name in ("max_strategies", "max_scan_bytes", "max_attempts", "max_live_per_owner"):
        with pytest.raises(InvalidInput, match=name):
            Limits(**{name: bad})


def test_a_policy_takes_seconds_and_timedeltas_and_gives_seconds() -> None:
    policy = TTLPolicy(result_ttl=timedelta(minutes=2), lease=timedelta(seconds=1))
    assert policy.result_ttl == 120.0
    assert policy.lease == 1.0
    assert policy.lookup_ttl == 3900.0


def test_the_defaults_are_those_of_the_contract() -> None:
    policy, limits = TTLPolicy(), Limits()
    assert (policy.pending_ttl, policy.running_ttl, policy.result_ttl) == (3600, 3600, 3600)
    assert (policy.lookup_margin, policy.lease, policy.claim_within) == (300, 15, 60)
    assert (policy.near_ttl, policy.extend_on_read) == (0, None)
    assert (limits.max_strategies, limits.max_params_bytes) == (10_000, 64 * 1024)
    assert (limits.max_strategy_bytes, limits.max_scan_bytes) == (8 * 2**20, 64 * 2**20)
    assert (limits.max_remembered, limits.max_attempts) == (1_000, 3)
    assert limits.max_live_per_owner is None


@pytest.mark.parametrize("url", ["", "memory", "nowhere:", "sqlite:", "sqlite:///", "memory:x", 5])
def test_a_url_that_names_no_store_is_refused(url: Any) -> None:
    for make in (connect, connect_blocking):
        with pytest.raises(InvalidInput):
            make(url)


def test_a_url_s_password_is_not_shown() -> None:
    with pytest.raises(InvalidInput) as caught:
        connect("nowhere://user:secret@host/0")
    assert "secret" not in str(caught.value)


def test_each_memory_url_is_a_new_store() -> None:
    first, second = connect_blocking("memory:"), connect_blocking("memory:")
    first.start("ann", ["a"])
    assert not second.has_active_scan("ann")


def test_a_store_without_replicas_cannot_be_asked_for_replication() -> None:
    with pytest.raises(StorageMisconfigured):
        connect("memory:", durability="replicated")
