"""Data versions: what tells two tables of a shard with different content apart, and nothing else does."""

import hashlib
import json
from collections.abc import Iterable
from functools import singledispatch

from caption_assets.store.rows import CaptionRow, EnhancedRow, PreviewRow, Row, WindowRow


def data_version(rows: Iterable[Row]) -> str:
    """A hash over what other tables, or people, take from the rows, in whatever order they come.

    Times, engines and reasons in words are not part of it: work that is done again with the same result changes
    nothing.
    """
    seen = sorted(json.dumps([row.clip_id, row.start_frame, row.end_frame, row.status, _content(row)]) for row in rows)
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()[:32]


@singledispatch
def _content(row: Row) -> list[object]:
    raise TypeError(f"{type(row).__name__} is not a row")


@_content.register
def _(row: WindowRow) -> list[object]:
    return [row.location, row.content_hash, row.window_hash, row.mp4_path, *([row.columns] if row.columns else [])]


@_content.register
def _(row: PreviewRow) -> list[object]:
    return [row.path, row.fingerprint, row.num_bytes]


@_content.register
def _(row: CaptionRow) -> list[object]:
    return [row.key, row.window_hash, row.text]


@_content.register
def _(row: EnhancedRow) -> list[object]:
    return [row.key, row.caption_key, row.caption_hash, row.text]
