"""Services for tests, as processes: ``python -m tests.runner.hosts ROLE DATABASE LEDGER``.

Each runs one scan of three strategies and notes every start of a strategy in the ledger. The
last one waits until a file beside the ledger says that it may end, or kills its own process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import oppscan
import oppscan.sync as blocking
from oppscan import ScanContext, TTLPolicy

POLICY = TTLPolicy(lease=1.0)
OWNER = "ann"


class Work:
    """The strategies of the scan, noting in the ledger who ran."""

    def __init__(self, ledger: str, *, lethal: bool = False) -> None:
        self.ledger = Path(ledger)
        self.lethal = lethal

    def _note(self, name: str) -> None:
        with self.ledger.open("a") as ledger:
            ledger.write(name + "\n")

    def quick(self, context: ScanContext) -> object:
        self._note(context.name)
        return [{"of": context.name}]

    async def quick_async(self, context: ScanContext) -> object:
        self._note(context.name)
        return [{"of": context.name}]

    def waits(self, context: ScanContext) -> object:
        self._note(context.name)
        while not self.may_end:
            if self.lethal:
                time.sleep(0.1)
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.02)
        return [{"of": context.name}]

    async def waits_async(self, context: ScanContext) -> object:
        self._note(context.name)
        while not self.may_end:  # noqa: ASYNC110 - another process says so
            await asyncio.sleep(0.02)
        return [{"of": context.name}]

    @property
    def may_end(self) -> bool:
        return self.ledger.with_suffix(".go").exists()

    @property
    def strategies(self) -> dict[str, Callable[[ScanContext], object]]:
        return {
            "quick": self.quick,
            "quick_async": self.quick_async,
            "waits": self.waits,
            "waits_async": self.waits_async,
        }


def runs_on_a_loop(database: str, ledger: str) -> None:
    """An asyncio host that awaits a scan, and leaves signals to the runner."""

    async def main() -> None:
        registry = oppscan.connect(database, ttl=POLICY)
        async with oppscan.StrategyRunner(registry, Work(ledger).strategies) as runner:
            runner.release_on_sigterm()
            await runner.run(OWNER)

    asyncio.run(main())


def idles_on_a_loop(database: str, ledger: str) -> None:
    """An asyncio host whose runner has nothing to do."""

    async def main() -> None:
        registry = oppscan.connect(database, ttl=POLICY)
        async with oppscan.StrategyRunner(registry, {}) as runner:
            runner.release_on_sigterm()
            Path(ledger).touch()  # noqa: ASYNC240 - nothing else runs here
            await asyncio.sleep(60)

    asyncio.run(main())


def runs_in_the_main_thread(database: str, ledger: str) -> None:
    """A blocking host that runs a scan in its main thread, another one in the background."""
    registry = blocking.connect(database, ttl=POLICY)
    with blocking.StrategyRunner(registry, Work(ledger).strategies) as runner:
        runner.release_on_sigterm()
        runner.start("bob", only=["waits"])
        runner.run(OWNER)


def runs_in_the_background(database: str, ledger: str) -> None:
    """A thread-based host: the main thread waits, threads run scans."""
    registry = blocking.connect(database, ttl=POLICY)
    with blocking.StrategyRunner(registry, Work(ledger).strategies) as runner:
        runner.release_on_sigterm()
        runner.start(OWNER)
        threading.Event().wait(60)


def runs_in_a_pool_of_its_own(database: str, ledger: str) -> None:
    """A thread-based host whose own worker threads run scans, and go on to live."""
    registry = blocking.connect(database, ttl=POLICY)
    runner = blocking.StrategyRunner(registry, Work(ledger).strategies)
    runner.release_on_sigterm()
    pool = ThreadPoolExecutor(2)
    pool.submit(runner.run, OWNER)
    threading.Event().wait(60)


def exits_without_closing(database: str, ledger: str) -> None:
    """A thread-based host whose own handler exits, and that never closes its runner."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    registry = blocking.connect(database, ttl=POLICY)
    runner = blocking.StrategyRunner(registry, Work(ledger).strategies)
    runner.start(OWNER)
    threading.Event().wait(60)


def kills_itself(database: str, ledger: str) -> None:
    """A worker that takes over what is stalled, and is killed by it."""
    registry = blocking.connect(database, ttl=POLICY)
    strategies = Work(ledger, lethal=True).strategies
    with blocking.StrategyRunner(registry, {"waits": strategies["waits"]}) as runner:
        runner.recover()


def forks(database: str, ledger: str) -> None:
    """A prefork server: its runner was used before the fork, and is used again in the child."""
    registry = blocking.connect(database, ttl=POLICY)
    runner = blocking.StrategyRunner(registry, {"it": lambda: None}, strategy_timeout=3.0)
    runner.run(OWNER)
    child = os.fork()
    if child == 0:
        status = runner.run("bob")
        Path(ledger).write_text(str(status.outcome("it").state))
        os._exit(0)
    os.waitpid(child, 0)
    runner.close()


def serves_http(database: str, ledger: str) -> None:
    """A web service under uvicorn: a request starts the scan, its shutdown closes the runner."""
    import uvicorn

    ready = socket.socket()
    ready.bind(("127.0.0.1", 0))
    app = _app(database, ledger)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
    Path(ledger).with_suffix(".port").write_text(str(ready.getsockname()[1]))
    server.run([ready])


Message = dict[str, Any]


def _app(database: str, ledger: str) -> Callable[..., Awaitable[None]]:
    runners: list[oppscan.StrategyRunner] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        registry = oppscan.connect(database, ttl=POLICY)
        async with registry, oppscan.StrategyRunner(registry, Work(ledger).strategies) as runner:
            runners.append(runner)
            yield
            await runner.aclose(drain=0.2)

    async def app(
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            await receive()
            async with lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        ticket = await runners[0].start(OWNER)
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": ticket.scan_id.encode()})

    return app


ROLES = {
    call.__name__: call
    for call in (
        runs_on_a_loop,
        idles_on_a_loop,
        runs_in_the_main_thread,
        runs_in_the_background,
        runs_in_a_pool_of_its_own,
        exits_without_closing,
        kills_itself,
        forks,
        serves_http,
    )
}

if __name__ == "__main__":
    ROLES[sys.argv[1]](*sys.argv[2:])
