"""The ``oppscan`` command."""

from __future__ import annotations

from oppscan.cli.app import main

__all__ = ["main"]
