"""A service with a Dask cluster: ``python -m tests.runner.dask_host FACE LEDGER``.

It runs a scan, in which strategies kill their workers, then another one, and tells their outcomes
on standard output. A process of its own, because Dask leaves threads behind.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from dask import config
from distributed import Client, LocalCluster

import oppscan
import oppscan.sync as blocking
from oppscan import ScanStatus
from tests.runner import pools

STRATEGIES = {
    "quick": pools.quick,
    "steady": pools.steady,
    "dies_once": pools.dies_once,
    "dies": pools.dies,
}


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - this is how the parent is told


def tell(status: ScanStatus) -> None:
    for outcome in status.outcomes:
        say(outcome.name, f"{outcome.state} {outcome.error or ''}".strip())
    say("scan", status.state)


def main(face: str, ledger: str) -> None:
    config.set({"distributed.scheduler.allowed-failures": 2})
    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,  # pyright: ignore[reportArgumentType] - for none
        ) as cluster,
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        options: dict[str, Any] = {
            "executor": client.get_executor(pure=False),
            "strategy_timeout": 50,
            "budget": 60,
        }
        params = {"ledger": ledger}
        if face == "async":

            async def scan() -> tuple[ScanStatus, ScanStatus]:
                registry = oppscan.connect("memory:")
                async with oppscan.StrategyRunner(registry, STRATEGIES, **options) as runner:
                    first = await runner.run("ann", params=params)
                    return first, await runner.run("ann", params=params, only=["quick"])

            first, second = asyncio.run(scan())
        else:
            with blocking.StrategyRunner(
                blocking.connect("memory:"), STRATEGIES, **options
            ) as runner:
                first = runner.run("ann", params=params)
                second = runner.run("ann", params=params, only=["quick"])
        tell(first)
        say("again", second.outcome("quick").state)


if __name__ == "__main__":
    main(*sys.argv[1:])
