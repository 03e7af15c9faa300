"""Servers that another one takes over from: replicas, of a Sentinel's master and in a cluster."""

# ruff: noqa: ANN401 - the clients of redis-py are typed as they come

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import redis
from attrs import frozen

from oppscan.clock import delay_blocking, elapsed
from tests.redis.servers import Server, cluster, running, wait_until


@frozen
class Standby:
    """A store whose server can be lost: its URL, and those that may have the scan."""

    url: str
    servers: Sequence[Server]

    def primary_of(self, key: str) -> Server:
        """Find the server that has a key and takes writes."""
        return next(server for server in self.servers if _takes(server, key))

    def replicate(self, key: str) -> None:
        """Wait until a replica has all that was written so far."""
        primary = self.primary_of(key)
        primary_client: Any = primary.client()
        with primary_client as client:
            offset = client.info("replication")["master_repl_offset"]
            wait_until(lambda: _confirmed(client, offset), "replication")


def _takes(server: Server, key: str) -> bool:
    if server.process is None:
        return False
    with server.client() as client:
        if client.info("replication")["role"] != "master":
            return False
        with suppress(redis.ResponseError):  # its slot is another node's
            return bool(client.execute_command("EXISTS", key))
        return False


def _confirmed(client: Any, offset: int) -> bool:
    info = client.info("replication")
    followers = [item for name, item in info.items() if name.startswith("slave")]
    return any(int(item["offset"]) >= offset for item in followers if isinstance(item, dict))


@contextmanager
def watched(version: str, replicas: int = 2) -> Iterator[Standby]:
    """Run a master, replicas and a Sentinel."""
    master = Server(version)
    with running(master):
        followers = [Server(version, f"replicaof 127.0.0.1 {master.port}") for _ in range(replicas)]
        with running(*followers):
            for follower in followers:
                wait_until(lambda at=follower: in_sync(at), "replica")
            watcher = Server(
                version,
                f"sentinel monitor main 127.0.0.1 {master.port} 1",
                "sentinel down-after-milliseconds main 1200",
                "sentinel failover-timeout main 2000",
                sentinel=True,
            )
            with running(watcher):
                wait_until(lambda: _known(watcher) == replicas, "Sentinel")
                url = f"redis+sentinel://127.0.0.1:{watcher.port}/main/0"
                yield Standby(url, (master, *followers))


def in_sync(replica: Server) -> bool:
    """Tell whether a replica follows its master."""
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


def _known(watcher: Server) -> int:
    with watcher.client() as client:
        found: Any = client.execute_command("SENTINEL", "REPLICAS", "main")
        return len(found)


@contextmanager
def clustered(version: str) -> Iterator[Standby]:
    """Run a cluster of three primaries with a replica each."""
    options = ("cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-node-timeout 1000")
    with cluster(version) as (url, primaries):
        followers = [Server(version, *options) for _ in primaries]
        with running(*followers):
            for primary, follower in zip(primaries, followers, strict=True):
                with primary.client() as one, follower.client() as two:
                    two.execute_command("CLUSTER", "MEET", "127.0.0.1", primary.port)
                    name: Any = one.execute_command("CLUSTER", "MYID")
                    two.config_set("cluster-node-timeout", 1000)
                    one.config_set("cluster-node-timeout", 1000)
                wait_until(lambda at=follower, to=name: _replicates(at, to), "replica")
            everyone = (*primaries, *followers)
            wait_until(lambda: all(_knows(at, len(everyone)) for at in everyone), "cluster")
            yield Standby(url, everyone)


def _replicates(follower: Server, primary: bytes) -> bool:
    with follower.client() as client, suppress(Exception):  # until it has met the primary
        client.execute_command("CLUSTER", "REPLICATE", primary)
    return in_sync(follower)


def _knows(server: Server, count: int) -> bool:
    with server.client() as client:
        info: Any = client.execute_command("CLUSTER", "INFO")
        nodes: Any = client.execute_command("CLUSTER", "NODES")
        followers = str(nodes).count("slave")
        text = info.decode() if isinstance(info, bytes) else str(info)
        return "ok" in text and followers == count // 2


class Lag:
    """Hands a master's stream on to its replica, each piece ``seconds`` late; until it is cut."""

    def __init__(self, port: int, seconds: float) -> None:
        self.target = port
        self.seconds = seconds
        self.cut = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.sockets: list[socket.socket] = []
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                self.sockets.append(near)
                far = socket.create_connection(("127.0.0.1", self.target))
                self.sockets.append(far)
                for source, sink, late in ((near, far, 0.0), (far, near, self.seconds)):
                    pieces: deque[tuple[float, bytes]] = deque()
                    for work, where in ((self._read, source), (self._write, sink)):
                        threading.Thread(
                            target=work, args=(where, pieces, late), daemon=True
                        ).start()

    def _read(self, source: socket.socket, pieces: deque[tuple[float, bytes]], late: float) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                pieces.append((elapsed() + late, piece))

    def _write(self, sink: socket.socket, pieces: deque[tuple[float, bytes]], _: float) -> None:
        with suppress(OSError):
            while not self.cut.is_set():
                if pieces and pieces[0][0] <= elapsed():
                    sink.sendall(pieces.popleft()[1])
                else:
                    delay_blocking(0.001)

    def stop(self) -> None:
        """Lose what is on its way."""
        self.cut.set()
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self.thread.join()
        for item in (self.listener, *self.sockets):
            with suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
            item.close()
