"""A look at a store from outside: does it answer, and is it set up so that scans are safe in it."""

from __future__ import annotations

from typing import Final

from oppscan.backends.health import Examined, Finding
from oppscan.clock import elapsed
from oppscan.inputs import check_namespace
from oppscan.opening import open_store
from oppscan.ops import Resolve

TIMEOUT: Final = 10.0
_NOBODY: Final = "0" * 16


def check_up(
    url: str, *, namespace: str = "oppscan", timeout: float = TIMEOUT
) -> tuple[Finding, ...]:
    """Look at the store that ``url`` names, for at most ``timeout`` seconds. Changes nothing.

    Raises `InvalidInput`, `StorageUnavailable`, `StorageMisconfigured`.
    """
    backend = open_store(url)
    space = check_namespace(namespace)
    try:
        if isinstance(backend, Examined):
            return tuple(backend.examine(space, timeout))
        began = elapsed()
        backend.execute_blocking(Resolve(f"{_NOBODY}-{_NOBODY}", _NOBODY), space, timeout)
        return (Finding("answer", "fine", f"{backend!r} in {1000 * (elapsed() - began):.1f} ms"),)
    finally:
        backend.close()
