"""What the doctor says of real servers: each fault that is planted is found, and no other."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

import oppscan.sync
from oppscan import StorageMisconfigured, StorageUnavailable
from oppscan.backends.health import Finding
from oppscan.backends.redis import RedisBackend, examine
from oppscan.backends.redis.health import Facts, ServerFacts, judge
from oppscan.checkup import check_up
from tests.redis.proxy import canned
from tests.redis.servers import Server, cluster, running, sentinel, wait_until

SOUND = {
    "redis_version": "7.2.0", "role": "master", "redis_mode": "standalone", "connected_slaves": 1,
    "aof_enabled": 1, "maxmemory_policy": "noeviction", "maxmemory": 1 << 30,
    "used_memory": 1 << 20,
}  # fmt: skip


def facts(**changes: object) -> Facts:
    """Give the facts of one sound server, but for some entries of INFO."""
    return of_server(ServerFacts("", {**SOUND, **changes}, "", 0, 0.0001, 3, ()))


def of_server(server: ServerFacts) -> Facts:
    return Facts((server,), 10, (), whole=True, slots=None, sentinels=None)


def unsound(found: tuple[Finding, ...]) -> dict[str, str]:
    return {item.check: item.severity for item in found if item.severity != "fine"}


def test_a_sound_server_has_nothing_to_mend() -> None:
    assert unsound(judge(facts())) == {}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"redis_version": "6.0.9"}, {"version": "mend"}),
        ({"redis_version": "6.2.0"}, {}),
        ({"valkey_version": "9.1.2"}, {}),
        ({"role": "slave"}, {"topology": "mend"}),
        ({"connected_slaves": 0}, {"topology": "note"}),
        ({"aof_last_write_status": "err"}, {"persistence": "mend"}),
        ({"rdb_last_bgsave_status": "err"}, {"persistence": "mend"}),
        ({"aof_enabled": 0}, {"persistence": "mend"}),
        ({"maxmemory_policy": "allkeys-lru"}, {"eviction": "mend"}),
        (
            {"maxmemory_policy": "allkeys-lru", "maxmemory": 0},
            {"eviction": "note", "memory": "note"},
        ),
        ({"used_memory": 950 << 20}, {"memory": "mend"}),
        ({"used_memory": 950 << 20, "mem_not_counted_for_evict": 900 << 20}, {}),
        ({"used_memory": 800 << 20}, {"memory": "note"}),
    ],
    ids=str,
)
def test_each_entry_of_info_counts(change: dict[str, object], found: dict[str, str]) -> None:
    assert unsound(judge(facts(**change))) == found


@pytest.mark.parametrize(
    ("server", "found"),
    [
        (ServerFacts("", SOUND, "", 1999, 0.0199, 0, ()), {}),
        (ServerFacts("", SOUND, "", -2000, 0.02, 3, ()), {"clock": "note", "round trip": "note"}),
        (ServerFacts("", SOUND, "", 60_000, 0.25, 3, ()), {"clock": "mend", "round trip": "mend"}),
        (ServerFacts("", SOUND, None, 0, 0.0, 3, ("GET: no",)), {"commands": "mend"}),
        (
            ServerFacts("", {**SOUND, "aof_enabled": 0}, None, 0, 0.0, 3, ()),
            {"persistence": "note"},
        ),
        (
            ServerFacts("", {**SOUND, "aof_enabled": 0}, "60 1000", 0, 0.0, 3, ()),
            {"persistence": "note"},
        ),
        (
            ServerFacts("", None, None, None, None, None, ()),
            dict.fromkeys(
                (
                    "version", "topology", "persistence", "eviction", "memory", "clock",
                    "round trip", "scripts",
                ),
                "note",
            ),
        ),
    ],
    ids=str,
)  # fmt: skip
def test_each_fact_counts(server: ServerFacts, found: dict[str, str]) -> None:
    assert unsound(judge(of_server(server))) == found


@pytest.mark.parametrize(
    ("slots", "sentinels", "found"),
    [
        ({"cluster_state": "ok", "cluster_slots_ok": "16384"}, None, {}),
        ({"cluster_state": "fail"}, None, {"cluster": "mend"}),
        (None, 2, {"sentinels": "note"}),
        (None, 3, {}),
    ],
)
def test_what_concerns_all_servers_counts(
    slots: dict[str, object] | None, sentinels: int | None, found: dict[str, str]
) -> None:
    assert unsound(judge(Facts((), 0, (), whole=False, slots=slots, sentinels=sentinels))) == found


# --- Real servers -------------------------------------------------------------------------------


def test_every_server_that_is_sound_but_for_its_persistence_is_told_so(url: str) -> None:
    with oppscan.sync.connect(url) as registry:
        for number in range(20):
            registry.start(f"owner-{number}", ["alpha"])
    found = check_up(url)
    assert {item.check for item in found if item.severity == "mend"} == {"persistence"}
    assert {item.told for item in found if item.check == "commands"} == {"all that the store needs"}
    (keys,) = (item.told for item in found if item.check == "keys")
    assert int(keys.split(" ", 1)[0]) >= 60


@pytest.fixture
def sound() -> Iterator[Server]:
    """A server that has nothing to mend, and that a test may ruin."""
    server = Server("valkey-9.1")
    with running(server):
        with server.client() as client:
            client.config_set("appendonly", "yes")
            client.config_set("maxmemory", 1 << 30)
        assert "mend" not in unsound(check_up(server.url)).values()
        yield server
        with server.client() as client:
            client.replicaof("NO", "ONE")
        server.empty()


def _endless(server: Server) -> None:
    with server.client() as client:
        client.set("{oppscan:00}r:stray", "x")


def _full(server: Server) -> None:
    with server.client() as client:
        client.config_set("maxmemory", 1 << 20)


def _evicting(server: Server) -> None:
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")


def _follower(server: Server) -> None:
    with server.client() as client:
        client.replicaof("127.0.0.1", 1)


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (_endless, {"keys"}),
        (_evicting, {"eviction"}),
        (_full, {"memory", "commands"}),
        (_follower, {"topology", "commands"}),
    ],
)
def test_what_is_planted_is_found(
    sound: Server, plant: Callable[[Server], None], found: set[str]
) -> None:
    plant(sound)
    told = unsound(check_up(sound.url))
    assert {check for check, severity in told.items() if severity == "mend"} == found


def test_a_store_too_large_to_be_looked_through_says_so(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examine, "PAGE", 1)
    monkeypatch.setattr(examine, "MOST_PAGES", 2)
    with oppscan.sync.connect(valkey.url) as registry:
        for number in range(20):
            registry.start(f"owner-{number}", ["alpha"])
    (keys,) = (item.told for item in check_up(valkey.url) if item.check == "keys")
    assert "of more" in keys


def test_sentinels_are_counted() -> None:
    with sentinel("valkey-9.1") as (url, _, _):
        told = {item.check: item.told for item in check_up(url)}
    assert told["sentinels"] == "1 in all"
    assert told["topology"] == "standalone, replicas: 1"


def test_a_cluster_that_lost_a_primary_is_found() -> None:
    with cluster("valkey-9.1") as (url, nodes):
        store = RedisBackend(url)
        assert unsound(store.examine("oppscan", 5.0)).get("cluster") is None
        nodes[0].kill()
        with pytest.raises(StorageUnavailable):
            wait_until(lambda: not store.examine("oppscan", 2.0), "outage")
        store.close()


def test_a_server_that_hangs_is_an_outage_in_time(sound: Server) -> None:
    sound.send(signal.SIGSTOP)
    with pytest.raises(StorageUnavailable):
        check_up(sound.url, timeout=0.3)
    sound.send(signal.SIGCONT)


def test_a_wrong_password_is_a_wrong_setting(valkey: Server) -> None:
    with pytest.raises(StorageMisconfigured):
        check_up(valkey.url.replace("//", "//nobody:secret@"))
    with valkey.client() as client:
        client.config_set("requirepass", "secret")
        try:
            with pytest.raises(StorageMisconfigured):
                check_up(valkey.url)
        finally:
            client.config_set("requirepass", "")  # a connection that was in already stays in
    with pytest.raises(StorageMisconfigured, match="speaks no TLS"):
        check_up(valkey.url.replace("redis:", "rediss:"))


def test_a_server_that_cannot_answer_now_is_an_outage() -> None:
    with canned("-MASTERDOWN Link with MASTER is down") as url, pytest.raises(StorageUnavailable):
        check_up(url)
