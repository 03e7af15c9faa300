"""Flask: ``gunicorn -c python:gunicorn_conf flask_app:app``, with or without ``--preload``."""

from flask import Flask, request
from scans import registry, runner
from service import http_code

import oppscan.sync as oppscan

app = Flask(__name__)


@app.post("/users/<user>/scans")
def start(user: str) -> tuple[dict[str, object], int]:
    ticket = runner.start(user, params=request.get_json())  # in a thread of this worker
    return ticket.status.to_dict(), 202


@app.get("/users/<user>/scans/<scan_id>")
def status(user: str, scan_id: str) -> dict[str, object]:
    return registry.status(scan_id, owner=user).to_dict()


@app.get("/users/<user>/scans/<scan_id>/results")
def results(user: str, scan_id: str) -> dict[str, object]:
    return registry.results(scan_id, owner=user).to_dict()


@app.errorhandler(oppscan.OppscanError)
def refuse(error: oppscan.OppscanError) -> tuple[dict[str, str], int]:
    return {"detail": str(error)}, http_code(error)
