"""What a subcommand is, and how it says that it failed."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from attrs import frozen


class CommandFailed(Exception):
    """The command cannot do what was asked; the message, one line, is all that the user sees."""


@frozen
class Command:
    """A subcommand: ``arguments`` declares its options, ``run`` does it and gives its exit status.

    ``summary`` is its line in the list of commands, ``description`` the text of its own help.
    """

    name: str
    summary: str
    description: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]
