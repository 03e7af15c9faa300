"""The searches of the fan-out example, as tests run them: each noted, some held."""

from __future__ import annotations

import asyncio
import os

from service import LEDGER  # type: ignore[import-not-found]

NAMES = [f"strategy-{number}" for number in range(1, 15)]
HELD = NAMES[-2:]
TIMEOUT = float(os.environ.get("SEARCH_TIMEOUT", "60"))


async def search(name: str, params: dict[str, object]) -> list[dict[str, object]]:
    with LEDGER.open("a") as ledger:
        ledger.write(f"{name} {os.getpid()}\n")
    while name in HELD and not LEDGER.with_suffix(".go").exists():  # noqa: ASYNC110 - the test says so
        await asyncio.sleep(0.02)
    return [{"symbol": params["symbols"], "of": name}]
