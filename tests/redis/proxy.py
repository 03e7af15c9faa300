"""A server that misbehaves as told: a proxy before a real one, and one with canned replies."""

from __future__ import annotations

import select
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Verdict = Callable[[bytes], str]
"""What to do after a request that holds these bytes: ``pass``, ``drop`` or ``reset``."""


class Proxy(socketserver.ThreadingTCPServer):
    """Hands requests on to ``port``; ``verdict`` decides on each what becomes of its reply."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, verdict: Verdict) -> None:
        self.target = port
        self.verdict = verdict
        self.lost = 0
        self.moved = 0
        super().__init__(("127.0.0.1", 0), _Relay)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.server_address[1]}/0"


class _Relay(socketserver.BaseRequestHandler):
    server: Proxy  # pyright: ignore[reportIncompatibleVariableOverride]

    def handle(self) -> None:
        verdict = "pass"
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.server.target)) as far:
            near: socket.socket = self.request
            for side in (near, far):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                for ready in select.select([near, far], [], [])[0]:
                    chunk = ready.recv(1 << 20)
                    if not chunk:
                        return
                    self.server.moved += len(chunk)
                    if ready is near:
                        verdict = self.server.verdict(chunk)
                        far.sendall(chunk)
                    elif verdict == "pass":
                        near.sendall(chunk)
                    else:
                        self.lose(near, verdict)
                        return

    def lose(self, near: socket.socket, verdict: str) -> None:
        """Hang up with the reply in hand: the server has executed the request."""
        self.server.lost += 1
        if verdict == "reset":
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _Canned(socketserver.StreamRequestHandler):
    """Greets like a server, and gives one reply to all that is not part of the greeting."""

    reply = b""

    def handle(self) -> None:
        with suppress(OSError):
            while line := self.rfile.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int(self.rfile.readline()[1:])
                    words.append(self.rfile.read(size + 2)[:-2].upper())
                greeting = words[0] in {b"CLIENT", b"SELECT", b"AUTH", b"HELLO"}
                self.wfile.write(b"+OK\r\n" if greeting else self.reply)


@contextmanager
def canned(reply: str) -> Iterator[str]:
    """Run a server that answers everything with ``reply``; give its URL."""
    handler = type("Canned", (_Canned,), {"reply": reply.encode() + b"\r\n"})
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    with serving(server):
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def proxy(port: int, verdict: Verdict) -> Iterator[Proxy]:
    """Run a proxy before a server."""
    server = Proxy(port, verdict)
    with serving(server):
        yield server
