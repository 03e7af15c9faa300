"""The service of the examples, as tests run it: a short lease, and strategies that can be held.

Each start of a strategy is noted in the ledger, with its process. ``waits`` runs until a file
beside the ledger says that it may end.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from pathlib import Path

import oppscan

LEDGER = Path(os.environ["LEDGER"])
STORE = os.environ["STORE_URL"]
KEPT = oppscan.TTLPolicy(lease=float(os.environ["LEASE"]))


def _note(name: str) -> None:
    with LEDGER.open("a") as ledger:
        ledger.write(f"{name} {os.getpid()}\n")


def quick(context: oppscan.ScanContext) -> list[dict[str, object]]:
    _note("quick")
    return [{"of": "quick", "symbol": symbol} for symbol in context.params["symbols"]]  # type: ignore[attr-defined]


async def quick_async(context: oppscan.ScanContext) -> list[dict[str, object]]:
    _note("quick_async")
    return [{"of": "quick_async"}]


async def waits(context: oppscan.ScanContext) -> list[dict[str, object]]:
    _note("waits")
    while not LEDGER.with_suffix(".go").exists():  # noqa: ASYNC110 - the test says so
        await asyncio.sleep(0.02)
    return [{"of": "waits"}]


STRATEGIES = {"quick": quick, "quick_async": quick_async, "waits": waits}

_example = Path(os.environ["EXAMPLES"], "service.py")
_spec = importlib.util.spec_from_file_location("example_service", _example)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
http_code = _module.http_code
