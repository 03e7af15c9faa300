"""What the examples share, as it stands in the documentation and not as tests replace it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.hosts.rig import EXAMPLES, WORK

RUN = """
import oppscan.sync as oppscan, service
with oppscan.connect(service.STORE, ttl=service.KEPT) as registry:
    runner = oppscan.StrategyRunner(registry, service.STRATEGIES)
    status = runner.run("ann", params={"symbols": ["IBM", "MSFT"]})
    print(status.state, len(registry.results(status.scan_id).opportunities))
"""
SEARCH = """
import asyncio, searches
found = [asyncio.run(searches.search(n, {"symbols": ["IBM"]})) for n in searches.NAMES]
print(len(found), found[0])
"""


def _run(code: str, store: str) -> str:
    path = os.pathsep.join([str(EXAMPLES), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        env={**os.environ, "PYTHONPATH": path, "STORE_URL": store},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_service_of_the_examples_runs_a_scan(store_url: str) -> None:
    assert _run(RUN, store_url) == "complete 4"


def test_the_searches_of_the_examples_find_something(store_url: str) -> None:
    assert _run(SEARCH, store_url) == "14 [{'symbol': 'IBM', 'by': 'strategy-1'}]"


def test_tests_replace_nothing_but_what_users_write() -> None:
    assert {path.name for path in WORK.glob("*.py")} == {"service.py", "searches.py"}
    assert {path.name for path in Path(EXAMPLES).glob("*.py")} > {"service.py", "searches.py"}
