"""What a generator has found so far: checked, measured and packed as it comes.

Laws
- An opportunity is checked when it is yielded. The first that is refused, or is over the limit of
  its strategy, ends the generator; what came before is kept.
- What is kept is packed, so an endless generator takes no more memory than the limit allows.
- In another process it is noted in a file too, from which it can be read when that process hangs.
"""

from __future__ import annotations

from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final

from attrs import Factory, define
from msgspec import Raw

from oppscan import codec
from oppscan.errors import InvalidInput
from oppscan.inputs import Limits
from oppscan.payload import plain_object

_HEADER: Final = 5
"""Bytes before the first opportunity of many."""

_LENGTH: Final = 4
"""Bytes before each opportunity in a file."""


@define(eq=False)
class Collected:
    """What a strategy has found so far; it may be read from another thread.

    ``limit``: the bytes that it may take. ``notes``: the name of the file to note it in.
    """

    limit: int = Limits().max_strategy_bytes
    notes: str | None = None
    items: list[bytes] = Factory(list)
    _size: int = _HEADER
    _file: FileIO | None = None

    def add(self, item: object) -> None:
        """Keep one more; `InvalidInput` for what is no opportunity, or one too many."""
        body = codec.encode(plain_object(item, f"opportunities[{len(self.items)}]"))
        self._size += len(body)
        if self._size > self.limit:
            msg = (
                f"the opportunities after the first {len(self.items)} are over the limit of "
                f"{self.limit} bytes (Limits.max_strategy_bytes)"
            )
            raise InvalidInput(msg)
        self.items.append(body)
        if self.notes is not None:
            self._note(body)

    def packed(self) -> tuple[int, bytes]:
        """Give how many there are by now, and all of them in one."""
        items = list(self.items)
        return len(items), codec.encode([Raw(item) for item in items]) if items else b""

    def _note(self, body: bytes) -> None:
        try:
            if self._file is None:
                self._file = FileIO(str(self.notes), "w")
            self._file.write(len(body).to_bytes(_LENGTH, "big") + body)
        except OSError:  # another host's file, or no room for it: then it comes home in one piece
            self.notes = None

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self._file is not None:
            self._file.close()

    def recall(self) -> None:
        """Take over what another process has noted, and remove the file."""
        if self.notes is None:
            return
        data, at, items = b"", 0, list[bytes]()
        with suppress(OSError):
            data = Path(self.notes).read_bytes()
        self.forget()
        while at + _LENGTH <= len(data):
            start = at + _LENGTH
            at = start + int.from_bytes(data[at:start], "big")
            if at <= len(data):  # else it was killed in the midst of writing it
                items.append(data[start:at])
        self.items = items or self.items

    def forget(self) -> None:
        """Remove the file of another process, which came home by itself."""
        if self.notes is not None:
            Path(self.notes).unlink(missing_ok=True)
