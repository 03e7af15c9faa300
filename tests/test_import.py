"""Importing oppscan needs and loads none of the extras, and nothing that it can do without."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

EXTRAS: Final = (
    "dask", "distributed", "fastapi", "hiredis", "opentelemetry", "prometheus_client", "redis",
    "rich", "starlette",
)  # fmt: skip

UNNEEDED: Final = (
    "email", "http", "multiprocessing", "sqlite3", "tkinter", "unittest", "urllib.request",
    "xml", "oppscan.backends.sqlite", "oppscan.backends.redis", "oppscan.testing", "oppscan.demo",
    "oppscan.cli",
)  # fmt: skip
"""What is imported when it is first used, or not by this library at all."""

_BLOCKED: Final = f"""
import sys
from importlib.abc import MetaPathFinder

class Blocker(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ImportError(f"{{name}} is blocked")
        return None

sys.meta_path.insert(0, Blocker())
"""


def _run(program: str) -> str:
    """Run a program in a new interpreter, and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["oppscan", "oppscan.sync", "oppscan.backends.sqlite"])
def test_importing_needs_none_of_the_extras(module: str) -> None:
    assert _run(f"{_BLOCKED}\nimport {module}; print({module}.__name__)").strip() == module


def test_a_scan_runs_without_any_of_the_extras() -> None:
    program = f"""{_BLOCKED}
import oppscan.sync
registry = oppscan.sync.connect("memory:")
ticket = registry.start("ann", ["alpha"])
with registry.claim(ticket.scan_id) as scan:
    scan.strategy_finished("alpha", [{{"n": 1}}])
print(registry.results(ticket.scan_id).opportunities)
"""
    assert _run(program).strip() == "({'n': 1},)"


@pytest.mark.parametrize("module", ["oppscan", "oppscan.sync"])
def test_importing_loads_nothing_that_can_wait(module: str) -> None:
    shown = _run(f"import sys, {module}; print(' '.join(sys.modules))").split()
    roots = {name.partition(".")[0] for name in shown}
    assert not roots & set(EXTRAS)
    base = _run("import sys, attrs, msgspec, asyncio; print(' '.join(sys.modules))").split()
    assert sorted((set(shown) - set(base)) & set(UNNEEDED)) == []


def test_the_control_that_the_blocker_blocks() -> None:
    program = f"{_BLOCKED}\ntry:\n import redis.asyncio\nexcept ImportError as e:\n print(e)"
    assert _run(program).strip() == "redis is blocked"
