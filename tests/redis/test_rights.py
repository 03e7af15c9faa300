"""The least rights that a user of the store needs: what the documentation lists, and no more."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

import pytest

import oppscan.sync
from oppscan import DurabilityNotConfirmed, StorageMisconfigured
from oppscan.backends.base import StorageBackend
from oppscan.backends.redis import RedisBackend, examine
from oppscan.backends.redis.scripts import APPLY, READ, SWEEP
from oppscan.checkup import check_up
from oppscan.testing.clock import ManualClock
from oppscan.testing.contract import StoreContract
from oppscan.testing.loss import Kind
from oppscan.testing.world import LoseKey, OpenStore
from tests.redis.losing import lose
from tests.redis.servers import Server, cluster
from tests.redis.stepped import step_server

DOCS: Final = Path(__file__).parents[2] / "docs" / "redis.md"
USER: Final = "least"
WORD: Final = "word"


def _documented() -> list[str]:
    """Give the rules of the user that the documentation shows, for the namespaces of tests."""
    found = re.search(r"```\nACL SETUSER oppscan (.*?)```", DOCS.read_text(), re.DOTALL)
    assert found is not None
    assert "~{oppscan:*" in found[1]
    return found[1].replace("{oppscan:", "{test-").split()


CLUSTER: Final = ("+cluster|slots", "+command", "+spublish", "+ssubscribe", "+sunsubscribe")
NEWS: Final = frozenset({"publish", "subscribe", "unsubscribe"})
ALLOWED: Final = {rule[1:] for rule in _documented() if re.fullmatch(r"\+[a-z]+", rule)}
COMMANDS: Final = sorted(ALLOWED - NEWS)


@contextmanager
def user_of(server: Server, *more: str) -> Iterator[str]:
    """Make the user on a server; give the URL with which it logs in."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", USER, "reset", *_documented(), *more)
        try:
            yield server.url.replace("//", f"//{USER}:{WORD}@")
        finally:
            client.execute_command("ACL", "DELUSER", USER)


@pytest.fixture
def limited(valkey: Server) -> Iterator[str]:
    with user_of(valkey) as url:
        yield url


class TestLeastRights(StoreContract):
    @pytest.fixture
    def lose_key(self, valkey: Server) -> LoseKey:
        def by_admin(_: StorageBackend, namespace: str, kind: Kind, scan_id: str) -> None:
            admin = RedisBackend(valkey.url)
            lose(admin, namespace, kind, scan_id)
            admin.close()

        return by_admin

    @pytest.fixture
    def open_store(
        self, monkeypatch: pytest.MonkeyPatch, limited: str, redis_8: Server
    ) -> OpenStore:
        def opened(manual: ManualClock, name: str) -> StorageBackend:
            step_server(monkeypatch, manual)
            made = RedisBackend({"first": limited, "second": redis_8.url}[name])
            made.clock = manual
            return made

        return opened


def test_the_documented_commands_are_those_that_are_sent() -> None:
    called = {
        name.lower()
        for script in (APPLY, READ, SWEEP)
        for name in re.findall(r"call\('(\w+)'", script.text)
    }
    tried = {line.split(" ")[0].lower() for line in examine.IN_SCRIPTS}
    bare = {line.split(" ")[0].lower() for line in examine.BARE}
    assert called - {"publish", "spublish"} == tried
    assert tried | bare | {"eval", "evalsha", "scan"} == set(COMMANDS)
    assert NEWS < ALLOWED


@pytest.mark.parametrize("command", COMMANDS)
def test_the_doctor_names_a_right_that_is_missing(valkey: Server, command: str) -> None:
    with user_of(valkey, f"-{command}") as url:
        found = {item.check: item for item in check_up(url, namespace="test-a")}
    assert found["commands"].severity == "mend"
    assert command.upper() in found["commands"].told


@pytest.mark.parametrize("less", ["-publish", "-subscribe", "resetchannels"])
def test_without_news_all_is_well_but_for_a_note(valkey: Server, less: str) -> None:
    with user_of(valkey, less) as url:
        found = {item.check: item for item in check_up(url, namespace="test-a")}
        assert found["news"].severity == "note"
        assert "mend" not in {
            item.severity for check, item in found.items() if check != "persistence"
        }
        with oppscan.sync.connect(url, namespace="test-a") as registry:
            ticket = registry.start("ann", ["alpha"])
            registry.cancel(ticket.scan_id)
            assert registry.wait(ticket.scan_id, timeout=5).done


def test_keys_whose_end_may_not_be_asked_for_are_not_counted(valkey: Server) -> None:
    with oppscan.sync.connect(valkey.url, namespace="test-a") as registry:
        registry.start("ann", ["alpha"])
    with user_of(valkey, "-pttl") as url:
        found = {item.check: item for item in check_up(url, namespace="test-a")}
    assert found["keys"].told.startswith("0 keys, of more")


def test_the_doctor_names_keys_that_are_out_of_reach(limited: str) -> None:
    found = {item.check: item for item in check_up(limited, namespace="elsewhere")}
    assert found["commands"].severity == "mend"


def test_least_rights_are_enough_for_the_doctor(server: Server) -> None:
    with user_of(server) as url:
        found = check_up(url, namespace="test-a")
    assert {item.check for item in found if item.severity == "mend"} == set()


def test_a_command_that_is_missing_is_a_wrong_setting(valkey: Server) -> None:
    """Positive control: the rights of this user do count."""
    with (
        user_of(valkey, "-hset") as url,
        oppscan.sync.connect(url, namespace="test-a") as registry,
        pytest.raises(StorageMisconfigured),
    ):
        registry.start("ann", ["alpha"])


@pytest.mark.parametrize("more", [(), ("+wait",)], ids=["least", "wait"])
def test_confirming_needs_a_right_more(valkey: Server, more: tuple[str, ...]) -> None:
    with (
        user_of(valkey, *more) as url,
        oppscan.sync.connect(
            url, namespace="test-a", durability="replicated", op_timeout=2.0
        ) as registry,
        pytest.raises(DurabilityNotConfirmed if more else StorageMisconfigured),
    ):
        registry.start("ann", ["alpha"])  # there is no replica


@pytest.mark.parametrize("more", [(), ("+select",)], ids=["least", "select"])
def test_another_database_needs_a_right_more(valkey: Server, more: tuple[str, ...]) -> None:
    with (
        user_of(valkey, *more) as url,
        oppscan.sync.connect(url.replace("/0", "/3"), namespace="test-a") as registry,
        nullcontext() if more else pytest.raises(StorageMisconfigured),
    ):
        assert registry.start("ann", ["alpha"]).must_run


async def _started(url: str) -> bool:
    async with oppscan.connect(url, namespace="test-b") as registry:
        return (await registry.start("ann", ["alpha"])).must_run


def test_a_cluster_needs_some_rights_more() -> None:
    with cluster("valkey-9.1") as (url, nodes):
        for node in nodes:
            with node.client() as client:
                client.execute_command("ACL", "SETUSER", USER, "reset", *_documented(), *CLUSTER)
        limited = url.replace("//", f"//{USER}:{WORD}@")
        with oppscan.sync.connect(limited, namespace="test-a") as registry:
            for number in range(30):
                registry.start(f"owner-{number}", ["alpha"])
            assert registry.stalled() == []
        assert asyncio.run(_started(limited))
        found = check_up(limited, namespace="test-a")
        assert {item.check for item in found if item.severity == "mend"} == set()
