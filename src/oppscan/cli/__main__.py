"""``python -m oppscan.cli`` is ``oppscan``."""

from __future__ import annotations

import sys

from oppscan.cli.app import main

sys.exit(main())
