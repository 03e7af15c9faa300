"""What may be given: limits, names, owners, keys, ids; and the text of errors.

Laws
- All input is checked here or in `oppscan.payload` before any store is asked; what is refused
  names the value, the limit and the rule, and changes nothing.
- Nothing is special in a name but control characters and lone surrogates, which are refused:
  names are hashed before they become part of a stored key.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

import msgspec
from attrs import field, fields, frozen

from oppscan.errors import InvalidInput
from oppscan.model import Model, Reuse
from oppscan.payload import plain_object
from oppscan.ttl import duration

NAME_LENGTH: Final = 200
ERROR_LENGTH: Final = 2000
_SCAN_ID: Final = re.compile(r"[0-9a-f]{16}-[0-9a-f]{32}")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_REFUSED: Final = {"Cc": "control character", "Cs": "lone surrogate"}
_KEY_VERSION: Final = b"oppscan request 1"


@frozen(kw_only=True, repr=False)
class Limits(Model):
    """Bounds on what one scan and one owner may take. Sizes are bytes as stored, uncompressed.

    ``max_remembered``: scans kept in an owner's index; the oldest finished goes first, a live
    one never. ``max_live_per_owner``: None for no bound. ``max_attempts``: claims in a row that
    may die without an outcome before the scan is given up.
    """

    max_strategies: int = 10_000
    max_params_bytes: int = 64 * 1024
    max_strategy_bytes: int = 8 * 1024 * 1024
    max_scan_bytes: int = 64 * 1024 * 1024
    max_remembered: int = 1_000
    max_live_per_owner: int | None = None
    max_attempts: int = field(default=3)

    def __attrs_post_init__(self) -> None:
        """Refuse what is no positive whole number."""
        for attribute in fields(Limits):
            value: object = getattr(self, attribute.name)
            if value is None and attribute.name == "max_live_per_owner":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                msg = f"Limits.{attribute.name} must be a whole number of at least 1, not {value!r}"
                raise InvalidInput(msg)


def check_text(value: object, what: str) -> str:
    """Check an owner, a strategy's name or a key: a str of 1-200 characters, no controls."""
    if not isinstance(value, str):
        msg = f"{what} must be a str, not {type(value).__name__}: {_shown(value)}"
        raise InvalidInput(msg)
    if not 1 <= len(value) <= NAME_LENGTH:
        msg = f"{what} must have 1 to {NAME_LENGTH} characters, not {len(value)}: {_shown(value)}"
        raise InvalidInput(msg)
    if not value.isascii() or not value.isprintable():
        for position, character in enumerate(value):
            if unicodedata.category(character) in _REFUSED:
                kind = _REFUSED[unicodedata.category(character)]
                msg = f"{what} must hold no {kind}s; {_shown(value)} has one at {position}"
                raise InvalidInput(msg)
    return str.__str__(value)  # not str(): of a member of an enum that is another text


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= NAME_LENGTH // 2 else f"{text[: NAME_LENGTH // 2]}…"


def check_strategies(value: object, limit: int) -> tuple[str, ...]:
    """Check the strategies' names: distinct, in the order given, never a bare str."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        msg = f"strategies must be a sequence of names, not {_shown(value)}"
        raise InvalidInput(msg)
    names: dict[str, int] = {}
    for position, item in enumerate(value):
        if position >= limit:
            msg = f"strategies: more than {limit} names (Limits.max_strategies)"
            raise InvalidInput(msg)
        name = check_text(item, f"strategies[{position}]")
        if name in names:
            msg = f"strategies[{position}] repeats strategies[{names[name]}]: {_shown(name)}"
            raise InvalidInput(msg)
        names[name] = position
    return tuple(names)


def check_description(value: object, what: str) -> dict[str, object]:
    """Check ``params`` or ``metadata``: None, or a JSON object."""
    return {} if value is None else plain_object(value, what)


def check_description_size(
    params: Mapping[str, object], metadata: Mapping[str, object], limit: int
) -> None:
    """Refuse params and metadata that take more than ``limit`` bytes together."""
    size = len(msgspec.json.encode((params, metadata)))
    if size > limit:
        msg = (
            f"params and metadata take {size} bytes, over the limit of {limit} "
            "(Limits.max_params_bytes); keep large inputs elsewhere and pass a reference"
        )
        raise InvalidInput(msg)


def check_scan_id(value: object) -> bool:
    """Tell whether a str can be a scan's id at all; `InvalidInput` for what is no str."""
    if not isinstance(value, str):
        msg = f"scan_id must be a str, not {type(value).__name__}: {_shown(value)}"
        raise InvalidInput(msg)
    return _SCAN_ID.fullmatch(value) is not None


def check_namespace(value: object) -> str:
    """Check a namespace: 1-64 of letters, digits, ``_``, ``.`` and ``-``."""
    if not isinstance(value, str) or not _NAMESPACE.fullmatch(value):
        msg = f"namespace must be 1 to 64 of A-Z a-z 0-9 _ . - and not {_shown(value)}"
        raise InvalidInput(msg)
    return value


def check_count(value: object, what: str, *, least: int = 1) -> int:
    """Check a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        msg = f"{what} must be a whole number of at least {least}, not {_shown(value)}"
        raise InvalidInput(msg)
    return value


def check_reuse(value: object) -> Reuse:
    """Check a `Reuse`, and the seconds of ``Reuse.fresh``."""
    if not isinstance(value, Reuse):
        msg = (
            f"reuse must be Reuse.ACTIVE, Reuse.NEVER or Reuse.fresh(seconds), not {_shown(value)}"
        )
        raise InvalidInput(msg)
    duration(value.fresh_for, "Reuse.fresh(seconds)", least=0.0)
    return value


def _sha256(data: bytes) -> str:
    """Give the SHA-256 in hex; imported here, because importing oppscan should be quick."""
    from hashlib import sha256

    return sha256(data).hexdigest()


@lru_cache(maxsize=1024)  # each call of an owner's names the owner
def owner_tag(owner: str) -> str:
    """Give the 16 hex digits that start the ids of an owner's scans; the first two are the shard.

    They tell which owner a scan may belong to, never that it does: the record has the last word.
    """
    return _sha256(b"oppscan owner\0" + owner.encode())[:16]


def key_name(key: str) -> str:
    """Give the 24 hex digits under which a request key is stored."""
    return _sha256(b"oppscan key\0" + key.encode())[:24]


def request_key(strategies: Iterable[str], params: Mapping[str, object] | None = None) -> str:
    """Name a request: equal strategies, in any order, with equal params give equal keys.

    SHA-256, in hex, of a version, the sorted names, and the params as canonical JSON (sorted
    keys, no spaces; None counts as {}). Raises `InvalidInput` for what `start` would refuse.
    """
    names = sorted(check_strategies(strategies, Limits().max_strategies))
    plain = check_description(params, "params")
    return key_of(names, plain)


def key_of(names: Iterable[str], params: Mapping[str, object]) -> str:
    """Name a request that was checked already."""
    text = msgspec.json.encode((sorted(names), params), order="sorted")
    return _sha256(_KEY_VERSION + b"\0" + text)


def describe_error(error: object, what: str) -> str:
    """Give the text of an error: ``ValueError: feed is down``, cut at 2,000 characters."""
    if isinstance(error, BaseException):
        return cut(f"{_name_of(error)}: {_text_of(error)}".removesuffix(": "))
    if not isinstance(error, str):
        msg = f"{what} must be an exception or a str, not {type(error).__name__}"
        raise InvalidInput(msg)
    return cut(error)


def _name_of(error: BaseException) -> str:
    """Give the name of an error's type, whatever a foreign metaclass says."""
    name: str = type.__dict__["__name__"].__get__(type(error))
    return name


def _text_of(error: BaseException) -> str:
    """Give ``str(error)``, whatever a foreign ``__str__`` does."""
    try:
        return str.__str__(str(error))  # of a subclass, too, the plain text
    except BaseException as broken:  # noqa: BLE001 - foreign code; the error must be recorded
        return f"<its str() raised {_name_of(broken)}>"


def cut(text: str) -> str:
    """Cut a text at 2,000 characters, and replace what UTF-8 cannot carry."""
    text = text[:ERROR_LENGTH]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
