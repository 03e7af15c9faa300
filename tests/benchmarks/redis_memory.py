"""Bytes of a Redis server that one finished scan takes, beside two others' ways to keep as much.

Run by hand: ``python -m tests.benchmarks.redis_memory [valkey-9.1]``.

A scan of 14 strategies, each with its outcome and one opportunity, 2 kB of JSON in all; ten owners,
so that the owner's index is shared by ten scans each. Beside it the same result as arq keeps it
(one pickled string of a job), and in five keys (the result with its metadata as one JSON string,
and four that lead to it). All on one server, each counted by what ``used_memory`` grows by.
"""

from __future__ import annotations

import json
import pickle
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import redis

import oppscan.sync
from oppscan.backends.redis import RedisBackend
from tests.redis.servers import Server, running

NAMES = tuple(f"strategy-{number}" for number in range(14))
SCANS, OWNERS, HOUR = 200, 20, 3600
Result = list[dict[str, object]]


def made_result(random_: random.Random) -> Result:
    """Make one opportunity for each strategy, about 2 kB of JSON in all."""
    return [
        {
            "symbol": "".join(random_.choices("ABCDEFGHIJ", k=5)),
            "score": random_.random(),
            "price": round(random_.random() * 1000, 2),
            "reason": "".join(random_.choices("abcdefgh ", k=70)),
        }
        for _ in NAMES
    ]


def made_id(random_: random.Random) -> str:
    return f"{random_.getrandbits(128):032x}"


def write_scan(registry: oppscan.sync.ScanRegistry, owner: str, result: Result) -> None:
    """Run one scan to its end, each strategy in writes of its own."""
    ticket = registry.start(owner, NAMES, params={"symbols": ["BTC"]})
    with registry.claim(ticket.scan_id) as claim:
        for name, found in zip(NAMES, result, strict=True):
            claim.strategy_started(name)
            claim.strategy_finished(name, [found])


def write_job(client: redis.Redis, owner: str, result: Result, job: str) -> None:
    """Keep a result as arq does: a job that is done, as one pickled string."""
    now = 1_795_000_000_000
    done = {
        "t": 1, "f": "scan", "a": (owner,), "k": {"symbols": ["BTC"]}, "et": now, "s": True,
        "r": result, "st": now, "ft": now, "q": "arq:queue", "id": job,
    }  # fmt: skip
    client.set(f"arq:result:{job}", pickle.dumps(done), ex=HOUR)


def write_five(client: redis.Redis, owner: str, result: Result, scan: str) -> None:
    """Keep a result in five keys, its metadata and outcomes with it."""
    when = "2026-01-01T00:00:00.123456+00:00"
    outcome = {
        "found": 1, "duration": 1.234567, "state": "found", "started_at": when,
        "finished_at": when,
    }  # fmt: skip
    whole = {
        "opportunities": result,
        "metadata": {"strategies_completed": 14, "total_strategies": 14, "scan_id": scan},
        "strategy_performance": dict.fromkeys(NAMES, outcome),
    }
    keys = {
        f"scan_lookup:{scan}": json.dumps({"owner": owner, "key": scan}),
        f"result_index:{scan}": f"result:{owner}:{scan}",
        f"user_latest:{owner}:{scan}": scan,
        f"result:{owner}:{scan}": json.dumps(whole),
        f"active:{owner}:{scan}": "1",
    }
    for key, value in keys.items():
        client.set(key, value, ex=HOUR)


def grown(client: redis.Redis, write: Callable[[str, Result, str], None]) -> float:
    """Give the bytes that one scan adds, on average."""
    random_ = random.Random(1)
    write("first", made_result(random_), made_id(random_))
    before = used(client)
    for number in range(SCANS):
        write(f"owner-{number % OWNERS}", made_result(random_), made_id(random_))
    return (used(client) - before) / SCANS


def used(client: redis.Redis) -> int:
    found: Any = client.info("memory")
    return int(found["used_memory"])


def kinds(client: redis.Redis) -> dict[str, float]:
    """Give the bytes that one scan takes under each kind of key."""
    sizes: Counter[str] = Counter()
    keys: Any = client.scan_iter("{*", 1000)
    for key in keys:
        size: Any = client.memory_usage(key, samples=0)
        sizes[key.decode().partition("}")[2].partition(":")[0]] += size
    return {kind: size / (SCANS + 1) for kind, size in sizes.most_common()}


def measure(version: str) -> dict[str, float]:
    """Give the bytes of one scan in each of the three ways."""
    with running(server := Server(version)), server.client() as client:
        with oppscan.sync.ScanRegistry(RedisBackend(server.url)) as registry:
            mine = grown(client, lambda owner, result, _: write_scan(registry, owner, result))
        parts = kinds(client)
        arq = grown(client, lambda *job: write_job(client, *job))
        five = grown(client, lambda *scan: write_five(client, *scan))
    return {"oppscan": mine, "arq": arq, "five keys": five, **parts}


def main() -> None:
    version = sys.argv[1] if len(sys.argv) > 1 else "valkey-9.1"
    found = measure(version)
    mine = found["oppscan"]
    for name, size in found.items():
        sys.stdout.write(f"{name:10} {size:7.0f} bytes a scan  {mine / size:6.2f} x\n")
    result = json.dumps(made_result(random.Random(1)))
    sys.stdout.write(f"{version}; {len(result)} bytes of result as JSON\n")


if __name__ == "__main__":
    main()
