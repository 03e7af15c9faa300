"""What eviction and torn failovers do: `lose` takes one stored key away, behind oppscan's back."""

from __future__ import annotations

from typing import Final, Literal, cast

from oppscan.backends.base import TransactionalBackend
from oppscan.backends.rows import Transaction, order_text
from oppscan.ops import LATEST

Kind = Literal["head", "spec", "events", "data", "entry", "index", "latest", "pointer", "due"]

KINDS: Final[tuple[Kind, ...]] = (
    "head",
    "spec",
    "events",
    "data",
    "entry",
    "index",
    "latest",
    "pointer",
    "due",
)
"""What one stored key can be.

``head``, ``spec``, ``events``, ``data``: those of one scan. ``entry``: the scan's place in its
owner's index; ``index``: all of that index. ``latest``: the pointer to the owner's newest scan;
``pointer``: that to the scan of a request key. ``due``: the scan's place in the list of what may
be stalled.
"""

_TIMEOUT: Final = 5.0


def lose(backend: TransactionalBackend, namespace: str, kind: Kind, scan_id: str) -> None:
    """Take one stored key of a scan, or of its owner, away."""
    with backend.transaction(_TIMEOUT, write=True) as tx:
        tag = scan_id.partition("-")[0]
        for key in _rows(tx, namespace, kind, scan_id, tag):
            tx.delete(key)


def _rows(tx: Transaction, namespace: str, kind: Kind, scan_id: str, tag: str) -> list[str]:
    """Give the rows that make up a logical key."""
    if kind in {"head", "due"}:
        row = tx.get(f"{namespace}/h/{scan_id}")
        due = order_text(cast("int", row.value[3])) if row is not None else ""
        rows = [f"{namespace}/d/{due}/{scan_id}"]
        return [*rows, f"{namespace}/h/{scan_id}"] if kind == "head" else rows
    if kind in {"spec", "events", "data"}:
        frames = tx.scan(f"{namespace}/f/{scan_id}/{kind}/")
        return [f"{namespace}/p/{scan_id}/{kind}", *(key for key, _ in frames)]
    if kind == "latest":
        return [f"{namespace}/q/{tag}/{LATEST}"]
    if kind == "pointer":
        pointers = tx.scan(f"{namespace}/q/{tag}/")
        return [key for key, row in pointers if row.value[0] == scan_id and not key.endswith("/")]
    prefixes = [f"{namespace}/{letter}/{tag}/" for letter in "iol"]
    rows = [key for prefix in prefixes for key, _ in tx.scan(prefix)]
    if kind == "index":
        return rows
    entry = tx.get(f"{namespace}/i/{tag}/{scan_id}")
    order = order_text(cast("int", entry.value[0])) if entry is not None else ""
    ends = (f"i/{tag}/{scan_id}", f"l/{tag}/{scan_id}", f"o/{tag}/{order}")
    return [key for key in rows if key.removeprefix(f"{namespace}/") in ends]
