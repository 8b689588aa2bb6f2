"""Documents as files: JSON as the layout has it, and any tool's JSON read back."""

import json
from types import EllipsisType
from typing import Any

from caption_assets.errors import StoreError
from caption_assets.store.store import Store


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

    NaN and infinities, which other tools write although they are no JSON, are read as null.
    """
    try:
        document = json.loads(data.decode("utf-8-sig"), parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
