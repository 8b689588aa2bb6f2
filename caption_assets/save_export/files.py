"""Documents as files: JSON as the layout has it, and any tool's JSON read back."""

import json
import math
from types import EllipsisType
from typing import Any

from caption_assets.errors import StoreError
from caption_assets.store.store import Store

_MOST_LEVELS = 100
_MOST_DIGITS = 300
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def read_document(store: Store, rel: str) -> dict[str, Any] | None:
    """A JSON object, None where there is none or where the file is torn (see `parse_document`)."""
    data = store.read_bytes(rel)
    return None if data is None else parse_document(data)


def write_document(
    store: Store, rel: str, document: dict[str, Any], *, known: bytes | EllipsisType | None = ...
) -> bool:
    """Write a document unless the file already holds exactly it; returns whether it was written.

    `known` is what the file holds, where the caller has just read it.
    """
    return store.write_if_changed(rel, dump_document(document, asked=f"write {store.url(rel)}"), known=known)


def dump_document(document: dict[str, Any], asked: str = "write a document") -> bytes:
    """A document as the layout has it: four-space indent, ASCII-escaped, no final newline. NaN is refused."""
    try:
        return json.dumps(document, indent=4, ensure_ascii=True, allow_nan=False).encode("ascii")
    except ValueError as err:
        raise StoreError(asked, f"it holds a number that JSON cannot: {err}", "store a finite number or null") from err


def parse_document(data: bytes) -> dict[str, Any] | None:
    """A JSON object of any tool, ASCII-escaped or plain UTF-8; None where it is torn or no object.

    What no document of ours can hold is read as null: NaN and infinities, which other tools write although they are no
    JSON, numbers of thousands of digits, and what lies more than 100 levels deep.
    """
    try:
        document = json.loads(
            data.decode("utf-8-sig"), parse_constant=lambda _: None, parse_float=_finite, parse_int=_short
        )
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    return _shallow(document, _MOST_LEVELS) if _seems_deep(data) else document


def _finite(digits: str) -> float | None:
    return value if math.isfinite(value := float(digits)) else None


def _short(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MOST_DIGITS else None


def _seems_deep(data: bytes) -> bool:
    """Whether brackets, also those in texts, are nested deeper than any tool would."""
    level = 0
    for bracket in data.translate(None, _NO_BRACKETS):
        level += 1 if bracket in b"[{" else -1
        if level > _MOST_LEVELS:
            return True
    return False


def _shallow(value: Any, levels: int) -> Any:
    if not isinstance(value, dict | list):
        return value
    if levels == 0:
        return None
    if isinstance(value, list):
        return [_shallow(element, levels - 1) for element in value]
    return {key: _shallow(element, levels - 1) for key, element in value.items()}
