"""Imports point down, and nothing points back up; read off the source, not off a running program.

Laws
- Pure rooms stand in one order; each imports only rooms that stand before it, and no I/O.
- Stores know requests and records, never states, claims or registries.
- Clocks and randomness are read in one room.
- What is built on oppscan imports only what users import.
- No file is longer than 400 lines.
"""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "src" / "oppscan"
LONGEST: Final = 400

PURE: Final = (
    "errors",
    "notebooks",
    "model",
    "record",
    "payload",
    "ttl",
    "ops",
    "progress",
    "inputs",
    "views",
    "codec",
    "flow",
    "near",
    "recent",
    "watching",
    "lifecycle",
    "writes",
    "drafting",
    "holding",
    "reports",
    "leaving",
    "sightings",
    "lookup",
    "results",
    "reading",
    "listing",
    "changing",
    "operations",
)
"""Rooms without I/O; each may import those before it."""

_RULES: Final = "|".join(PURE)
_DRIVEN: Final = rf"{_RULES}|clock|forks|driver|backends\.base"

MAY_IMPORT: Final[tuple[tuple[str, str], ...]] = (
    # the first line whose pattern fits a room says what else it may import
    (r"clock|forks|lazily", r""),
    (r"near", r"forks"),
    (r"reading", r"clock"),  # the protocol of ids, in an annotation
    (r"backends\.(rows|reference)", r"ops|record|backends\.rows"),
    (r"backends\.base", r"ops|errors|clock|backends\.(rows|reference)"),
    (
        r"backends\.redis(\.\w+)?",
        r"ops|record|errors|clock|forks|backends\.(base|health)|backends\.redis(\.\w+)?",
    ),
    (r"backends\.push", r"clock|backends\.base"),
    (r"backends\.sqlite_health", r"errors|clock|backends\.(health|mounts)"),
    (
        r"backends(\.\w+)?",
        r"ops|record|codec|errors|clock|forks|backends(\.(base|rows|mounts|health|sqlite_health))?",
    ),
    (r"driver", r"errors|model|flow|clock|backends\.base"),
    (r"opening", rf"{_DRIVEN}|backends\.\w+"),
    (r"held", rf"{_RULES}|clock|driver"),  # what both claims share; asks which process it is in
    (r"checkup", r"clock|inputs|ops|opening|backends\.health"),
    (r"claim", rf"{_DRIVEN}|held"),
    (r"registry", rf"{_DRIVEN}|backends\.push|opening|claim"),
    (r"runner(\.\w+)?", rf"{_DRIVEN}|claim|registry|runner(\.\w+)?"),
    (r"sync\.loops", r"errors"),
    (r"sync\.claim", rf"{_DRIVEN}|held|sync\.loops"),
    (r"sync\.registry", rf"{_DRIVEN}|backends\.push|opening|sync\.(claim|loops)"),
    (r"sync\.run\w*", rf"{_DRIVEN}|runner\.\w+|sync\.(claim|loops|registry|run\w*)"),
    (r"sync", rf"{_DRIVEN}|lazily|backends\.memory|runner\.\w+|sync\.\w+"),
    (r"", rf"{_DRIVEN}|lazily|backends\.memory|claim|registry|runner\.\w+"),
    (
        r"testing(\.\w+)*",
        r"|sync|claim|registry|model|ttl|ops|errors|clock|backends\.(base|rows)|testing.*",
    ),
    (r"demo(\.\w+)*", r"|sync|demo.*"),
    (r"cli(\.\w+)*", r"|sync|checkup|backends\.health|cli.*|demo.*"),
    (r"bars", r""),
    (r"(web|observe|projections)(\.\w+)*", r"|sync|(web|observe|projections)(\.\w+)*"),
)
"""Which rooms may import which, without the leading ``oppscan.``; ``""`` is oppscan itself."""

IO_MODULES: Final = frozenset(
    {
        "asyncio", "concurrent", "io", "logging", "multiprocessing", "os", "pathlib", "queue",
        "random", "secrets", "select", "signal", "socket", "sqlite3", "ssl", "subprocess", "sys",
        "tempfile", "time", "uuid",
    }
)  # fmt: skip
"""What no pure room imports. ``threading`` may be: a lock is no I/O."""

CHANCE: Final = frozenset({"random", "secrets", "time", "uuid"})
"""Clocks and randomness."""

Graph = Mapping[str, AbstractSet[str]]


# --- Reading imports off the source ---------------------------------------------------------------


def rooms() -> dict[str, Path]:
    """Give every module of the library, by its name without ``oppscan.``."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk all that can run: what is there for type checkers only is left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _running(node)


def imported(path: Path) -> set[str]:
    """Give the full names of what a file imports, also inside its functions."""
    names: set[str] = set()
    for node in _running(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@cache
def graph() -> dict[str, set[str]]:
    """Give which room imports which."""
    known = rooms()
    found: dict[str, set[str]] = {}
    for room, path in known.items():
        found[room] = set()
        for name in imported(path):
            top, _, inner = name.partition(".")
            if top == "oppscan":
                target = inner if inner in known else inner.rpartition(".")[0]
                found[room].add(target)
    return found


# --- The rules ------------------------------------------------------------------------------------


def violations(imports: Graph) -> list[str]:
    """Name every import that points the wrong way."""
    wrong = []
    for room, targets in imports.items():
        before = set(PURE[: PURE.index(room)]) if room in PURE else set()
        more = next((may for who, may in MAY_IMPORT if re.fullmatch(who, room)), None)
        if more is None and room not in PURE:
            wrong.append(f"{room} stands in no layer")
            continue
        allowed = re.compile(more) if more is not None else None
        wrong += [
            f"{room} imports {target}"
            for target in targets
            if target != room
            and target not in before
            and not (allowed is not None and allowed.fullmatch(target))
        ]
    return sorted(wrong)


def cycle(imports: Graph) -> list[str]:
    """Give rooms that import each other in a circle, or nothing."""
    done: set[str] = set()

    def visit(room: str, path: list[str]) -> list[str]:
        if room in path:
            return [*path[path.index(room) :], room]
        if room not in done:
            for target in sorted(imports.get(room, ())):
                if target != room and (found := visit(target, [*path, room])):
                    return found
            done.add(room)
        return []

    return next((found for room in imports if (found := visit(room, []))), [])


def test_imports_point_down() -> None:
    assert violations(graph()) == []


def test_no_rooms_import_each_other_in_a_circle() -> None:
    assert cycle(graph()) == []


def test_pure_rooms_import_no_io() -> None:
    known = rooms()
    wrong = {
        room: {n.partition(".")[0] for n in imported(known[room])} & IO_MODULES for room in PURE
    }
    assert {room: names for room, names in wrong.items() if names} == {}


def test_clocks_and_randomness_are_read_in_one_room() -> None:
    wrong = {}
    for room, path in rooms().items():
        if room == "clock" or room.startswith("demo"):  # the demo paces itself for its spectators
            continue
        names = {name.partition(".")[0] for name in imported(path)} & CHANCE
        if names or re.search(r"\b(datetime\.(now|utcnow|today)|date\.today)\b", path.read_text()):
            wrong[room] = names
    assert wrong == {}


def test_nothing_that_is_stored_is_executed() -> None:
    """G14: no room imports what unpickles, and none evaluates or imports by a stored name."""
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    for room, path in rooms().items():
        names = {name.partition(".")[0] for name in imported(path)}
        assert not names & forbidden, room
        calls = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))
        called = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
        assert not called & {"eval", "exec", "__import__"}, room


@pytest.mark.parametrize("folder", ["src", "tests"])
def test_no_file_is_longer_than_a_sitting(folder: str) -> None:
    lengths = {}
    for path in (ROOT / folder).rglob("*.py"):
        with tokenize.open(path) as lines:
            lengths[str(path.relative_to(ROOT))] = sum(1 for _ in lines)
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}


# --- Positive controls ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("room", "target"),
    [
        ("errors", "registry"),
        ("ttl", "lifecycle"),
        ("lifecycle", "backends.base"),
        ("holding", "driver"),
        ("operations", "clock"),
        ("backends.rows", "lifecycle"),
        ("backends.memory", "operations"),
        ("backends.sqlite", "backends.memory"),
        ("backends.redis.requests", "lifecycle"),
        ("backends.sqlite", "backends.redis.layout"),
        ("claim", "registry"),
        ("registry", "runner.plan"),
        ("sync.claim", "claim"),
        ("testing.world", "lifecycle"),
        ("demo.show", "driver"),
        ("cli.app", "registry"),
        ("somewhere_new", "errors"),
    ],
)
def test_an_import_that_points_up_is_found(room: str, target: str) -> None:
    planted = {**graph(), room: {target}}
    assert any(room in line for line in violations(planted))


def test_a_circle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "a"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_are_read_where_they_hide(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden.py"
    hidden.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import time\n"
        "def later():\n    import secrets\n    from oppscan import codec\n"
    )
    assert imported(hidden) == {"typing.TYPE_CHECKING", "secrets", "oppscan.codec"}
