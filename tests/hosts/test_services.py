"""The examples of web services, run as they are in the documentation, by real servers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.rig import OWNER, PARAMS, Hosts, hosts, survives_a_kill, until
from tests.redis.servers import free_port

SERVICES = {
    "fastapi": ("uvicorn", "fastapi_app:app", "--workers=4", "--port={port}"),
    "flask": ("gunicorn", "-c=python:gunicorn_conf", "flask_app:app", "-b=127.0.0.1:{port}"),
    "flask, preloaded": (
        *("gunicorn", "-c=python:gunicorn_conf", "--preload"),
        *("flask_app:app", "-b=127.0.0.1:{port}"),
    ),
    "django": (
        "gunicorn",
        "-c=python:gunicorn_conf",
        "django_app:application",
        "-b=127.0.0.1:{port}",
    ),
}


class Service(Hosts):
    """A service under a real server, and a browser."""

    port: int = 0

    def ask(self, path: str, posted: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Give the code and the body of an answer; 0 while nobody listens."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/users/{path}",
            None if posted is None else json.dumps(posted).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, None


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest, tmp_path: Path, store_url: str) -> Iterator[Service]:
    with hosts(Service, tmp_path, store_url) as service:
        service.port = free_port()
        module, *arguments = SERVICES[request.param]
        server = service.spawn(module, *(word.format(port=service.port) for word in arguments))
        until(lambda: service.ask("nobody/scans/x")[0] == 404 or server.poll() is not None)
        assert service.ask("nobody/scans/x")[0] == 404, "the service does not answer"
        yield service


def test_g13_a_killed_web_worker_reads_stalled_and_another_one_resumes(service: Service) -> None:
    code, started = service.ask(f"{OWNER}/scans", PARAMS)
    assert (code, started["state"]) == (202, "pending")
    scan_id = started["scan_id"]
    assert service.ask(f"{OWNER}/scans", PARAMS)[1]["scan_id"] == scan_id
    assert service.ask(f"{OWNER}/scans/{scan_id}")[0] == 200
    assert service.ask(f"bob/scans/{scan_id}")[0] == 404
    assert service.ask(f"{OWNER}/scans/{scan_id}/results")[0] == 409
    assert service.ask(f"{OWNER}/scans", {"symbols": "x" * 70_000})[0] == 422
    survives_a_kill(service, scan_id)
    for _ in range(8):  # whichever worker answers
        assert service.ask(f"{OWNER}/scans/{scan_id}")[1]["progress"]["percentage"] == 100
        code, results = service.ask(f"{OWNER}/scans/{scan_id}/results")
        assert (code, len(results["opportunities"])) == (200, 3)
