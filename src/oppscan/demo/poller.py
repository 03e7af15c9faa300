"""A process that does nothing but poll, as a web worker does for a browser.

It uses the blocking face, with a registry of its own. Run by the demonstration as
``python -m oppscan.demo.poller``.
"""

from __future__ import annotations

import threading
from typing import Final

from oppscan import ScanExpired, ScanLost, ScanNotFound, sync
from oppscan.demo.child import heard, leave_with_parent, run, tell
from oppscan.demo.wire import NAMESPACE, OWNER, Go, Job, Ready
from oppscan.demo.witness import Witness, sketch

INTERVAL: Final = 0.05  # seconds; a browser takes a second or two


def poll(job: Job) -> None:
    """Poll until the scan is finished, then read its results."""
    with sync.connect(job.store, namespace=NAMESPACE) as registry:
        registry.ping()
        tell(Ready())
        scan_id = heard(Go).scan_id
        leave_with_parent()
        witness = Witness()
        pause = threading.Event()
        while not witness.finished:
            _look(registry, scan_id, witness)
            tell(witness.sighting())
            pause.wait(INTERVAL)
        results = registry.results(scan_id, owner=OWNER, partial=True)
        tell(witness.sighting(list(results.opportunities)))


def _look(registry: sync.ScanRegistry, scan_id: str, witness: Witness) -> None:
    try:
        scan = sketch(registry.status(scan_id, owner=OWNER))
    except (ScanNotFound, ScanExpired, ScanLost):
        witness.missed()
    else:
        witness.saw(scan)


if __name__ == "__main__":
    run(poll)
