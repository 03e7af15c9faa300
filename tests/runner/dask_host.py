"""A service with a Dask cluster: ``python -m tests.runner.dask_host FACE LEDGER [WAY]``.

It runs a scan, in which strategies kill their workers, then another one, and tells their outcomes
on standard output. In the way ``lost``, the workers live and the first answer cannot be fetched;
in the way ``factory``, the runner makes its executors itself, all of one cluster;
in the way ``queued``, one strategy's time is up while another has the only worker; in the way
``shut``, the executor was shut down before. A process of its own, because Dask leaves threads
behind.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

from dask import config
from distributed import Client, LocalCluster
from distributed.scheduler import KilledWorker

import oppscan
import oppscan.sync as blocking
from oppscan import ScanStatus, Strategy
from tests.runner import pools

KILLED = [
    Strategy("quick", pools.quick),
    Strategy("steady", pools.steady),
    Strategy("dies_once", pools.dies_once),
    Strategy("dies", pools.dies),
]
WAYS: dict[str, list[Strategy]] = {
    "killed": KILLED,
    "factory": KILLED,
    "lost": [Strategy("quick", pools.quick)],
    "shut": [Strategy("quick", pools.quick)],
    "queued": [Strategy("obeys", pools.obeys, 4.0), Strategy("quick", pools.quick, 1.0)],
}


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - this is how the parent is told


def tell(status: ScanStatus) -> None:
    for outcome in status.outcomes:
        say(outcome.name, f"{outcome.state} {outcome.error or ''}".strip())
    say("scan", status.state)


def lose_an_answer(client: Client) -> None:
    """As when a worker dies before its answer is fetched, and so does the next that runs it."""
    gather = client._gather  # noqa: SLF001 - what Dask itself calls
    lost: Iterator[Exception] = iter([KilledWorker("it", cast("Any", None), 1)])

    async def fails_once(*arguments: object, **options: Any) -> object:  # noqa: ANN401 - passed on
        for error in lost:
            raise error
        return await gather(*arguments, **options)  # type: ignore[no-untyped-call]

    client._gather = fails_once  # type: ignore[method-assign]  # noqa: SLF001


def main(face: str, ledger: str, way: str = "killed") -> None:
    config.set({"distributed.scheduler.allowed-failures": 1})
    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=1 if way == "queued" else 2,
            threads_per_worker=1,
            dashboard_address=None,  # pyright: ignore[reportArgumentType] - for none
        ) as cluster,
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        if way == "lost":
            lose_an_answer(client)
        executor = client.get_executor(pure=False)
        if way == "shut":
            executor.shutdown()
        options: dict[str, Any] = {
            "executor": partial(client.get_executor, pure=False) if way == "factory" else executor,
            "strategy_timeout": 240,
            "budget": 250,
        }
        params = {"ledger": ledger}
        if face == "async":

            async def scan() -> tuple[ScanStatus, ScanStatus]:
                registry = oppscan.connect("memory:")
                async with oppscan.StrategyRunner(registry, WAYS[way], **options) as runner:
                    first = await runner.run("ann", params=params)
                    return first, await runner.run("ann", params=params, only=["quick"])

            first, second = asyncio.run(scan())
        else:
            with blocking.StrategyRunner(
                blocking.connect("memory:"), WAYS[way], **options
            ) as runner:
                first = runner.run("ann", params=params)
                second = runner.run("ann", params=params, only=["quick"])
        tell(first)
        say("again", second.outcome("quick").state)


if __name__ == "__main__":
    main(*sys.argv[1:])
