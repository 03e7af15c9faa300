"""What facts about Redis servers mean for scans, as a table. Pure.

Of the rules of one check, the first that fits a server counts; where none fits, all is well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from attrs import frozen

from oppscan.backends.health import Finding, Severity

Info = Mapping[str, object]

OLDEST: Final = (6, 2)
SCRIPTS: Final = 3
_MB: Final = 1 << 20


@frozen
class ServerFacts:
    """What one server told. None: this user may not ask."""

    name: str
    info: Info | None
    save: str | None
    ahead: int | None
    """Milliseconds that its clock is before ours."""
    round_trip: float | None
    """Seconds."""
    scripts: int | None
    refused: tuple[str, ...]
    """Commands that the store needs and the user may not run, and why."""
    deaf: str = ""
    """Why this user is not told of news."""

    def text(self, name: str) -> str:
        """Give an entry of INFO, ``""`` where there is none."""
        return str((self.info or {}).get(name, ""))

    def number(self, name: str) -> float:
        """Give an entry of INFO, 0 where there is none."""
        found = (self.info or {}).get(name)
        return found if isinstance(found, (int, float)) else 0

    @property
    def version(self) -> str:
        """The server's name and version."""
        valkey = self.text("valkey_version")
        return f"Valkey {valkey}" if valkey else f"Redis {self.text('redis_version')}"

    @property
    def mode(self) -> str:
        """How the server runs: standalone or cluster."""
        return self.text("redis_mode") or self.text("server_mode")

    @property
    def skew(self) -> float:
        """Seconds that the server's clock is before ours."""
        return (self.ahead or 0) / 1000

    @property
    def latency(self) -> float:
        """Milliseconds of a round trip."""
        return (self.round_trip or 0.0) * 1000

    @property
    def used(self) -> float:
        """The part of the memory that is in use, of 1; 0 where there is no limit."""
        limit = self.number("maxmemory")
        counted = self.number("used_memory") - self.number("mem_not_counted_for_evict")
        return counted / limit if limit else 0.0

    @property
    def memory(self) -> str:
        """How much memory is in use, of how much."""
        limit, used = self.number("maxmemory"), self.number("used_memory") / _MB
        return f"{used:,.1f} MB" + (f" of {limit / _MB:,.1f} MB" if limit else ", without a limit")


@frozen
class Facts:
    """What all servers told."""

    servers: tuple[ServerFacts, ...]
    keys: int
    endless: tuple[str, ...]
    whole: bool
    """Whether all keys were looked at."""
    slots: Info | None
    """CLUSTER INFO."""
    sentinels: int | None


@frozen
class Rule:
    """When ``fits``, what is told of a server, how bad it is, and what to do about it."""

    check: str
    fits: Callable[[ServerFacts], bool]
    severity: Severity
    told: Callable[[ServerFacts], str]
    advice: str = ""


def _unknown(check: str, what: str) -> Rule:
    return Rule(
        check,
        lambda s: s.info is None,
        "note",
        lambda _: f"this user may not ask ({what})",
        "run the doctor as a user with +info +config|get too",
    )


RULES: Final = (
    _unknown("version", "INFO"),
    Rule(
        "version",
        lambda s: _release(s.text("redis_version")) < OLDEST,
        "mend",
        lambda s: s.version,
        "upgrade: the store needs Redis 6.2 or Valkey",
    ),
    Rule("version", lambda _: True, "fine", lambda s: s.version),
    _unknown("topology", "INFO"),
    Rule(
        "topology",
        lambda s: s.text("role") != "master",
        "mend",
        lambda s: f"a replica of {s.text('master_host')}:{s.text('master_port')}",
        "connect to the master: a replica takes no writes, and its reads are late",
    ),
    Rule(
        "topology",
        lambda s: s.number("connected_slaves") == 0,
        "note",
        lambda s: f"{s.mode}, without a replica",
        "when this server is lost, all scans in it are, but for what it persisted",
    ),
    Rule(
        "topology",
        lambda _: True,
        "fine",
        lambda s: f"{s.mode}, replicas: {s.number('connected_slaves'):g}",
    ),
    _unknown("persistence", "INFO"),
    Rule(
        "persistence",
        lambda s: "err" in {s.text("aof_last_write_status"), s.text("rdb_last_bgsave_status")},
        "mend",
        lambda _: "the last write to disk failed",
        "see the server's log: is the disk full, is the folder writable?",
    ),
    Rule(
        "persistence", lambda s: s.number("aof_enabled") == 1, "fine", lambda _: "append-only file"
    ),
    Rule(
        "persistence",
        lambda s: s.save is None,
        "note",
        lambda _: "no append-only file; snapshots unknown (CONFIG)",
        "set appendonly yes, or a crash of the server loses what came after the last snapshot",
    ),
    Rule(
        "persistence",
        lambda s: s.save == "",
        "mend",
        lambda _: "none: a restart of the server loses every scan",
        "set appendonly yes",
    ),
    Rule(
        "persistence",
        lambda _: True,
        "note",
        lambda s: f"snapshots only ({s.save})",
        "set appendonly yes, or a crash of the server loses what came after the last one",
    ),
    _unknown("eviction", "INFO"),
    Rule(
        "eviction",
        lambda s: s.text("maxmemory_policy") == "noeviction",
        "fine",
        lambda _: "noeviction",
    ),
    Rule(
        "eviction",
        lambda s: s.number("maxmemory") == 0,
        "note",
        lambda s: f"{s.text('maxmemory_policy')}, but memory has no limit",
        "set maxmemory-policy noeviction before you set maxmemory",
    ),
    Rule(
        "eviction",
        lambda _: True,
        "mend",
        lambda s: s.text("maxmemory_policy"),
        "set maxmemory-policy noeviction: a full server then refuses writes (StorageFull) instead "
        "of dropping scans that run (ScanLost)",
    ),
    _unknown("memory", "INFO"),
    Rule(
        "memory",
        lambda s: s.used >= 0.9,  # noqa: PLR2004
        "mend",
        lambda s: s.memory,
        "raise maxmemory, shorten result_ttl, or move other data away",
    ),
    Rule(
        "memory",
        lambda s: s.used >= 0.75,  # noqa: PLR2004
        "note",
        lambda s: s.memory,
        "a quarter or less is left",
    ),
    Rule(
        "memory",
        lambda s: s.number("maxmemory") == 0,
        "note",
        lambda s: s.memory,
        "set maxmemory, or the kernel ends the server when the host's memory is used up",
    ),
    Rule("memory", lambda _: True, "fine", lambda s: s.memory),
    Rule("clock", lambda s: s.ahead is None, "note", lambda _: "not known: TIME is refused"),
    Rule(
        "clock",
        lambda s: abs(s.skew) >= 60,  # noqa: PLR2004
        "mend",
        lambda s: f"{s.skew:+,.1f} s from this host's",
        "run NTP on both: scans expire by the server's clock, and setting it right at one go "
        "expires them early or late",
    ),
    Rule(
        "clock",
        lambda s: abs(s.skew) >= 2,  # noqa: PLR2004
        "note",
        lambda s: f"{s.skew:+,.1f} s from this host's",
        "run NTP on both; no answer depends on this host's clock",
    ),
    Rule("clock", lambda _: True, "fine", lambda s: f"{s.skew:+.3f} s from this host's"),
    Rule("round trip", lambda s: s.round_trip is None, "note", lambda _: "not measured"),
    Rule(
        "round trip",
        lambda s: s.latency >= 250,  # noqa: PLR2004
        "mend",
        lambda s: f"{s.latency:.1f} ms",
        "move the store closer, or raise op_timeout: a write may need three of them",
    ),
    Rule(
        "round trip",
        lambda s: s.latency >= 20,  # noqa: PLR2004
        "note",
        lambda s: f"{s.latency:.1f} ms",
        "within one data centre it is below one millisecond",
    ),
    Rule("round trip", lambda _: True, "fine", lambda s: f"{s.latency:.1f} ms"),
    Rule(
        "commands",
        lambda s: bool(s.refused),
        "mend",
        lambda s: "; ".join(s.refused),
        "give the user the rights that the documentation lists under Redis, and the server room",
    ),
    Rule("commands", lambda _: True, "fine", lambda _: "all that the store needs"),
    Rule(
        "news",
        lambda s: bool(s.deaf),
        "note",
        lambda s: f"not told: {s.deaf}",
        "give the user the channels and the rights to publish and subscribe; without, those who "
        "watch a scan look twice a second",
    ),
    Rule("news", lambda _: True, "fine", lambda _: "told to those who watch"),
    Rule(
        "scripts",
        lambda s: s.scripts is None,
        "note",
        lambda _: "this user may not ask (SCRIPT EXISTS)",
        "nothing to do: they are loaded when first used",
    ),
    Rule(
        "scripts",
        lambda _: True,
        "fine",
        lambda s: f"{s.scripts} of {SCRIPTS} loaded; the others when first used",
    ),
)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


def judge(facts: Facts) -> tuple[Finding, ...]:
    """Give what was found, server by server, then what concerns them all."""
    found = [finding for server in facts.servers for finding in _of_server(server)]
    return (*found, *_of_cluster(facts), *_of_sentinels(facts), _of_keys(facts))


def _of_server(server: ServerFacts) -> list[Finding]:
    found: dict[str, Finding] = {}
    for rule in RULES:
        if rule.check not in found and rule.fits(server):
            told = rule.told(server)
            found[rule.check] = Finding(rule.check, rule.severity, told, rule.advice, server.name)
    return list(found.values())


def _of_cluster(facts: Facts) -> tuple[Finding, ...]:
    if facts.slots is None:
        return ()
    state = str(facts.slots.get("cluster_state"))
    told = f"{state}, {facts.slots.get('cluster_slots_ok')} slots served"
    if state == "ok":
        return (Finding("cluster", "fine", told),)
    advice = "bring the missing primaries back, or fail over: scans in their slots cannot be read"
    return (Finding("cluster", "mend", told, advice),)


_QUORUM: Final = 3


def _of_sentinels(facts: Facts) -> tuple[Finding, ...]:
    if facts.sentinels is None:
        return ()
    told = f"{facts.sentinels} in all"
    if facts.sentinels >= _QUORUM:
        return (Finding("sentinels", "fine", told),)
    advice = "run three or more on hosts of their own: fewer cannot agree when one is lost"
    return (Finding("sentinels", "note", told, advice),)


def _of_keys(facts: Facts) -> Finding:
    told = f"{facts.keys:,} keys" if facts.whole else f"{facts.keys:,} keys, of more"
    if facts.endless:
        told = f"{len(facts.endless):,} of {told} never end, such as {facts.endless[0]}"
        advice = "oppscan gives every key a TTL: find out who writes in its namespace, delete them"
        return Finding("keys", "mend", told, advice)
    return Finding("keys", "fine", f"{told}; all end by themselves")
