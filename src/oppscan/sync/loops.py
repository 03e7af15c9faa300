"""Long waits of the blocking face are refused where they would hold up an event loop."""

from __future__ import annotations

import asyncio

from oppscan.errors import InvalidInput


def refuse_in_loop(call: str) -> None:
    """Raise `InvalidInput` in a thread that runs an event loop.

    While ``call`` waits, nothing else runs on that loop; where the scan is run by it, or by what
    waits for it, that is for ever. Single reads and writes are not refused: they end within
    ``op_timeout``.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    msg = (
        f"oppscan.sync: {call}() would hold up the event loop that runs in this thread; await "
        f"the same call of `oppscan`, or `await asyncio.to_thread(…)`"
    )
    raise InvalidInput(msg)
