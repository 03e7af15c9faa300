"""G12, §4 "Input": what is refused says what, why and the limit, and no store is asked."""

# ruff: noqa: ANN401, D102, PLR2004, S101 - cases, not code

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import attrs
import pytest

from oppscan import InvalidInput, Limits, Reuse, ScanNotFound
from oppscan.testing.cases.base import Cases, calls
from oppscan.testing.world import World

_NAMES: list[tuple[Any, str]] = [
    ("", "1 to 200"),
    ("x" * 201, "200"),
    ("a\nb", "control"),
    ("a\x00", "control"),
    ("\x7f", "control"),
    ("\x85", "control"),
    ("\ud800", "surrogate|control"),
    (b"bytes", "str"),
    (None, "str"),
    (7, "str"),
    (["ann"], "str"),
]
_GOOD_NAMES = ["x", "x" * 200, "ann:b/c*?{}[]", "ü", "日本", "a b", "..", "%00", "'; --", "🂡"]

_BAD_JSON: list[tuple[Any, str]] = [
    (float("nan"), r"nan"),
    (float("inf"), r"inf"),
    (-float("inf"), r"inf"),
    ({1, 2}, "set"),
    (b"x", "bytes"),
    (bytearray(b"x"), "bytearray"),
    ({1: 2}, "not a str"),
    ({None: 2}, "not a str"),
    (2**64, "64"),
    (-(2**63) - 1, "64"),
    (object(), "object"),
    (datetime(2020, 1, 1, tzinfo=UTC), "datetime"),
    ("\ud800", "surrogate"),
    (1j, "complex"),
    (range(3), "range"),
]
_IDS = [f"{type(value).__name__}-{n}" for n, (value, _) in enumerate(_BAD_JSON)]


@attrs.frozen
class _Attrs:
    symbol: str
    score: float


@dataclasses.dataclass
class _Data:
    symbol: str
    inner: _Attrs


class InputCases(Cases):
    """Names, ids, params, opportunities."""

    @pytest.mark.parametrize(("value", "why"), _NAMES, ids=[str(n) for n in range(len(_NAMES))])
    async def test_g12_bad_names_are_refused_by_path_and_rule(
        self, world: World, value: Any, why: str
    ) -> None:
        worker = world.worker()
        registry = worker.registry
        for what, call in (
            ("owner", lambda: registry.start(value, ["a"])),
            ("owner", lambda: registry.history(value)),
            ("owner", lambda: registry.latest(value)),
            ("owner", lambda: registry.has_active_scan(value)),
            (r"strategies\[1\]", lambda: registry.start("ann", ["ok", value])),
        ):
            with pytest.raises(InvalidInput, match=what) as caught:
                await call()
            assert isinstance(caught.value, ValueError)
            with pytest.raises(InvalidInput, match=f"(?s){why}"):
                raise caught.value
        if value is not None:
            for call in (
                lambda: registry.start("ann", ["a"], key=value),
                lambda: registry.latest("ann", key=value),
                lambda: registry.status("0" * 16 + "-" + "0" * 32, owner=value),
            ):
                with pytest.raises(InvalidInput):
                    await call()
        assert worker.store.total == 0

    @pytest.mark.parametrize("name", _GOOD_NAMES, ids=range(len(_GOOD_NAMES)))
    async def test_nothing_else_is_special_in_names(self, world: World, name: str) -> None:
        worker = world.worker()
        ticket = await worker.registry.start(name, [name], key=name)
        async with worker.registry.claim(ticket.scan_id, owner=name) as scan:
            await scan.strategy_finished(name, [{name: name}])
        results = await worker.registry.results(ticket.scan_id, owner=name)
        assert results.by_strategy == {name: ({name: name},)}
        assert (await worker.registry.latest(name, key=name)).scan_id == ticket.scan_id

    @pytest.mark.parametrize(
        "strategies", ["alpha", b"alpha", None, 7, ["a", "a"], [["a"]]], ids=repr
    )
    async def test_strategies_are_distinct_names_never_a_bare_str(
        self, world: World, strategies: Any
    ) -> None:
        worker = world.worker()
        with pytest.raises(InvalidInput, match="strategies"):
            await worker.registry.start("ann", strategies)
        assert worker.store.total == 0

    @pytest.mark.parametrize(
        "scan_id",
        ["", "x", "../../etc", "0" * 49, "G" * 16 + "-" + "0" * 32, f"{'0' * 16}-{'0' * 32}\n",
         "0" * 16 + "-" + "A" * 32, "\ud800", "x" * 100_000],
        ids=range(9),
    )  # fmt: skip
    async def test_g12_a_malformed_id_is_unknown_without_io(
        self, world: World, scan_id: str
    ) -> None:
        worker = world.worker()
        registry = worker.registry
        for call in (
            registry.status(scan_id),
            registry.results(scan_id),
            registry.cancel(scan_id),
            registry.extend(scan_id, 5),
            registry.wait(scan_id, timeout=0),
        ):
            with pytest.raises(ScanNotFound):
                await call
        await registry.forget(scan_id)
        assert (await registry.explain(scan_id)).answer == "unknown"
        assert worker.store.total == 0

    @pytest.mark.parametrize("scan_id", [None, 7, b"x", ["x"]], ids=repr)
    async def test_an_id_that_is_no_string_is_invalid(self, world: World, scan_id: Any) -> None:
        worker = world.worker()
        registry = worker.registry
        reads: list[Any] = [registry.status, registry.results, registry.cancel, registry.forget]
        for call in reads:
            with pytest.raises(InvalidInput, match="scan_id"):
                await call(scan_id)
        with pytest.raises(InvalidInput):
            await registry.extend(scan_id, 5)
        assert worker.store.total == 0

    @pytest.mark.parametrize(("value", "why"), _BAD_JSON, ids=_IDS)
    async def test_g12_what_json_cannot_carry_is_refused_with_its_path(
        self, world: World, value: Any, why: str
    ) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        before = await worker.registry.status(ticket.scan_id)
        worker.store.reset()
        nested = {"a": [0, {"b": value}]}
        path = r"\['?a'?\]\[1\]\['?b'?\]"
        calls: list[tuple[str, Any]] = [
            ("params", lambda: world.start(worker, key="k", params=nested)),
            ("metadata", lambda: world.start(worker, key="k", metadata=nested)),
            (r"\[1\]", lambda: claim.strategy_finished("alpha", [{}, nested])),
            (r"\[0\]", lambda: claim.strategy_failed("alpha", "x", opportunities=[nested])),
            ("payload", lambda: claim.update(nested)),
            ("summary", lambda: claim.complete(nested)),
        ]
        for what, call in calls:
            with pytest.raises(InvalidInput, match=what + path) as caught:
                await call()
            with pytest.raises(InvalidInput, match=why):
                raise caught.value
        assert worker.store.total == 0
        assert await worker.registry.status(ticket.scan_id) == before

    @pytest.mark.parametrize(
        "given",
        ["x", {"a": 1}, 5, None, iter([{}]), [1], [None], [[]], ["x"], [object]],
        ids=lambda given: type(given).__name__ if hasattr(given, "__next__") else str(given),
    )
    async def test_opportunities_are_a_list_or_tuple_of_objects(
        self, world: World, given: Any
    ) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        worker.store.reset()
        with pytest.raises(InvalidInput, match="alpha"):
            await claim.strategy_finished("alpha", given)
        assert worker.store.total == 0

    async def test_objects_are_mappings_attrs_instances_and_dataclasses(self, world: World) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        given = [
            {"a": (1, 2)},
            OrderedDict(b=1),
            MappingProxyType({"c": {"d": MappingProxyType({})}}),
            _Attrs("BTC", 0.5),
            _Data("ETH", _Attrs("X", 1.0)),
        ]
        async with worker.registry.claim(ticket.scan_id) as scan:
            await scan.strategy_finished("alpha", given)
        results = await worker.registry.results(ticket.scan_id)
        assert results.opportunities == (
            {"a": [1, 2]},
            {"b": 1},
            {"c": {"d": {}}},
            {"symbol": "BTC", "score": 0.5},
            {"symbol": "ETH", "inner": {"symbol": "X", "score": 1.0}},
        )

    async def test_a_circle_is_refused(self, world: World) -> None:
        worker = world.worker()
        circle: dict[str, Any] = {}
        circle["self"] = circle
        with pytest.raises(InvalidInput, match="params"):
            await world.start(worker, params=circle)
        assert worker.store.total == 0

    @pytest.mark.parametrize("error", [None, 7, b"x", ["x"]], ids=repr)
    async def test_an_error_is_an_exception_or_a_text(self, world: World, error: Any) -> None:
        worker = world.worker()
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        worker.store.reset()
        for call in calls(
            lambda: claim.fail(error),
            lambda: claim.strategy_failed("alpha", error),
            lambda: claim.strategy_skipped("alpha", error),
        ):
            with pytest.raises(InvalidInput):
                await call()
        assert worker.store.total == 0

    @pytest.mark.parametrize("reuse", [None, "active", 5, True], ids=repr)
    async def test_reuse_is_a_reuse(self, world: World, reuse: Any) -> None:
        worker = world.worker()
        with pytest.raises(InvalidInput, match="reuse"):
            await world.start(worker, reuse=reuse)
        assert worker.store.total == 0

    @pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "5", None, True], ids=repr)
    async def test_fresh_wants_seconds(self, world: World, seconds: Any) -> None:
        worker = world.worker()
        with pytest.raises(InvalidInput):
            await world.start(worker, reuse=Reuse.fresh(seconds))
        assert worker.store.total == 0

    @pytest.mark.parametrize(
        "ttl", [0, -1, float("nan"), float("inf"), "5", None, True, timedelta(0), 1e12], ids=repr
    )
    async def test_extend_wants_a_duration(self, world: World, ttl: Any) -> None:
        worker = world.worker()
        status = await world.finished(worker)
        worker.store.reset()
        with pytest.raises(InvalidInput, match="ttl"):
            await worker.registry.extend(status.scan_id, ttl)
        assert worker.store.total == 0


class SizeCases(Cases):
    """Limits of size and number, met exactly."""

    async def test_g12_too_many_strategies(self, world: World) -> None:
        worker = world.worker(limits=Limits(max_strategies=3))
        with pytest.raises(InvalidInput, match=r"3.*max_strategies"):
            await worker.registry.start("ann", list("abcd"))
        assert worker.store.total == 0
        await worker.registry.start("ann", list("abc"))

    async def test_g12_params_and_metadata_together(self, world: World) -> None:
        worker = world.worker(limits=Limits(max_params_bytes=100))
        with pytest.raises(InvalidInput, match=r"100.*max_params_bytes"):
            await world.start(worker, params={"a": "x" * 50}, metadata={"b": "y" * 50})
        assert worker.store.total == 0
        await world.start(worker, params={"a": "x" * 30}, metadata={"b": "y" * 30})

    async def test_g12_one_strategy_s_opportunities(self, world: World) -> None:
        worker = world.worker(limits=Limits(max_strategy_bytes=1000))
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        worker.store.reset()
        with pytest.raises(InvalidInput, match=r"(?s)alpha.*1000.*max_strategy_bytes"):
            await claim.strategy_finished("alpha", [{"x": "y" * 1000}])
        assert worker.store.total == 0
        await claim.strategy_finished("alpha", [{"x": "y" * 900}])

    async def test_g12_one_scan_s_opportunities(self, world: World) -> None:
        worker = world.worker(limits=Limits(max_scan_bytes=1000))
        ticket = await world.start(worker)
        claim = await world.hold(worker, ticket.scan_id)
        await claim.strategy_finished("alpha", [{"x": "y" * 600}])
        worker.store.reset()
        with pytest.raises(InvalidInput, match=r"(?s)1000.*max_scan_bytes"):
            await claim.strategy_finished("beta", [{"x": "y" * 600}])
        assert worker.store.total == 0
        await claim.strategy_finished("gamma", [{"x": "y" * 300}])
        assert claim.remaining == ("beta",)

    async def test_ten_thousand_strategies(self, world: World) -> None:
        worker = world.worker()
        names = [f"s{n}" for n in range(10_000)]
        ticket = await worker.registry.start("ann", names)
        async with worker.registry.claim(ticket.scan_id) as scan:
            await scan.strategy_finished(names[-1], [{}])
        status = await worker.registry.status(ticket.scan_id)
        assert status.progress.strategies_completed == 10_000
        assert status.progress.percentage == 100.0

    @pytest.mark.parametrize(
        "bad",
        [
            {"ttl": {}}, {"limits": 5}, {"namespace": ""}, {"namespace": "a/b"},
            {"namespace": "x" * 65}, {"op_timeout": 0}, {"op_timeout": "3"},
            {"durability": "total"}, {"lookups": ["nowhere"]}, {"lookups": ["near"]},
            {"fallbacks": ["nowhere:"]},
        ],
        ids=str,
    )  # fmt: skip
    async def test_inconsistent_settings_are_refused(
        self, world: World, bad: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidInput):
            world.worker(**bad)
