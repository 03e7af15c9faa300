"""Concurrent polls of Redis against raw GETs: ``python -m tests.benchmarks.redis_polls [POLLERS]``.

Each poller has a running scan of its own, of 14 strategies, and reads its status again and again;
beside it as many tasks read strings of the same length by redis-py's ``GET`` through a pool. In
turns, in the same run; prints the median of the rounds, and the ratio of the medians.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import redis.asyncio

import oppscan
from tests.redis.servers import Server, running

ROUNDS, CALLS = 7, 40
STRATEGIES = [f"strategy {number}" for number in range(14)]
Poll = Callable[[int], Awaitable[object]]


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is what it is for


async def throughput(pollers: int, poll: Poll) -> float:
    """Give the polls in a second."""

    async def one(number: int) -> None:
        for _ in range(CALLS):
            await poll(number)

    began = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(pollers)))
    return pollers * CALLS / (time.perf_counter() - began)


async def measure(url: str, pollers: int) -> None:
    """Measure in turns, and print."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(url, max_connections=pollers, protocol=2)
    async with oppscan.connect(url) as registry, redis.asyncio.Redis(connection_pool=pool) as raw:
        scans = [(await registry.start(f"o-{n}", STRATEGIES)).scan_id for n in range(pollers)]
        for number in range(pollers):
            await raw.set(f"raw-{number}", b"x" * 400, ex=600)
        ways: dict[str, Poll] = {
            "raw GET": lambda number: raw.get(f"raw-{number}"),
            "status()": lambda number: registry.status(scans[number]),
            "status(), one scan": lambda _: registry.status(scans[0]),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, poll in ways.items():
                rates[name].append(await throughput(pollers, poll))
    base = statistics.median(rates["raw GET"])
    for name, found in rates.items():
        rate = statistics.median(found)
        say(f"{name:20} {rate:8.0f} polls/s  {rate / base:5.2f} x raw")


def main() -> None:
    pollers = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with running(server := Server("valkey-9.1")):
        asyncio.run(measure(server.url, pollers))


if __name__ == "__main__":
    main()
