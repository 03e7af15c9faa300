"""What a blocking poll of Redis costs: ``python tests/benchmarks/blocking_poll.py [URL]``.

Polls a running scan of 14 strategies, half of them through, by ``status`` of the blocking face,
and reads a string of the same length by one raw ``GET`` of redis-py, in turns in the same run.
Prints the median microseconds of each, and the ratio of the medians. Without a URL, a server from
a wheel is started.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

import redis

import oppscan.sync as blocking
from tests.redis.servers import Server, running

ROUNDS = 9
CALLS = 2_000
STRATEGIES = [f"strategy {number}" for number in range(14)]


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is what it is for


def per_call(call: Callable[[], object]) -> float:
    """Give the microseconds of one call, over many."""
    began = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - began) / CALLS * 1e6


def measure(url: str) -> None:
    """Measure in turns, and print."""
    client = redis.Redis.from_url(url, protocol=2)
    with blocking.connect(url) as registry:
        scan_id = registry.start("ann", STRATEGIES, params={"symbols": ["IBM", "MSFT"]}).scan_id
        with registry.claim(scan_id) as scan:
            for name in STRATEGIES[:7]:
                scan.strategy_finished(name, [{"symbol": "IBM", "score": 0.9}])
            size = max(
                client.strlen(key) for key in client.keys("*") if client.type(key) == b"string"
            )
            client.set("raw", b"x" * size, ex=3600)
            calls = {
                "raw GET": lambda: client.get("raw"),
                "status": lambda: registry.status(scan_id),
                "status without outcomes": lambda: registry.status(scan_id, outcomes=False),
            }
            took: dict[str, list[float]] = {name: [] for name in calls}
            for _ in range(ROUNDS):
                for name, call in calls.items():
                    took[name].append(per_call(call))
            scan.release()
    floor = statistics.median(took["raw GET"])
    say(f"redis-py {redis.__version__}, {size} bytes, median of {ROUNDS} rounds of {CALLS} calls")
    for name, rounds in took.items():
        median = statistics.median(rounds)
        spread = f"{min(rounds):.0f}-{max(rounds):.0f}"
        say(f"{name:24} {median:6.1f} us ({spread})  x {median / floor:.2f}")
    client.delete("raw")


def main() -> None:
    with ExitStack() as stack:
        url = sys.argv[1] if len(sys.argv) > 1 else ""
        if not url:
            (server,) = stack.enter_context(running(Server("valkey-9.1")))
            url = server.url
        measure(url)


if __name__ == "__main__":
    main()
