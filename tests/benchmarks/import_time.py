"""How long importing oppscan takes, beside what it cannot do without.

Runs pairs of new interpreters, turn about, so that a busy machine slows both alike; prints the
median of the ratios. Both are compiled, as pip leaves them.

Run it as ``python tests/benchmarks/import_time.py [pairs]``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median
from typing import Final

BASE: Final = "import attrs, msgspec, asyncio"
BOUND: Final = 1.3
PAIRS: Final = 25


def seconds(imports: str) -> float:
    """Give the seconds that a new interpreter takes for these imports alone."""
    program = (
        f"from time import perf_counter as now\nbegan = now()\n{imports}\nprint(now() - began)"
    )
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=kept
    )
    return float(done.stdout)


def main(pairs: int) -> None:
    """Measure and print."""
    for module in ("oppscan", "oppscan.sync"):
        seconds(f"import {module}")  # compiles it
        ratios, ours, base = [], [], []
        for number in range(pairs):
            order = (BASE, f"import {module}") if number % 2 else (f"import {module}", BASE)
            times = {imports: seconds(imports) for imports in order}
            base.append(times[BASE])
            ours.append(times[f"import {module}"])
            ratios.append(ours[-1] / base[-1])
        shown = (
            f"{module}: {median(ratios):.2f} times {BASE.removeprefix('import ')} "
            f"({1000 * median(ours):.0f} ms to {1000 * median(base):.0f} ms, {pairs} pairs; "
            f"bound {BOUND})\n"
        )
        sys.stdout.write(shown)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)
