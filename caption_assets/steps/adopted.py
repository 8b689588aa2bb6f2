"""Captions that another tool has put into documents, as rows of our own: what is made of captions is made of them."""

import logging
from typing import Any

from caption_assets.save_export import documents, paths
from caption_assets.save_export.documents import CAPTION_SUFFIX
from caption_assets.save_export.files import parse_document
from caption_assets.save_export.foreign import usable
from caption_assets.steps.buffer import commit
from caption_assets.store.rows import CaptionRow, WindowRow
from caption_assets.store.store import Store, Stored
from caption_assets.store.tables import CLIP_WINDOWS, WINDOW_CAPTIONS

log = logging.getLogger(__name__)


def adopt_captions(store: Store, shard: str, key: str, before: Stored[CaptionRow]) -> Stored[CaptionRow]:
    """The captions of a shard whose table, read as `before`, has none: those that stand in its clips' documents under
    `key`, of windows with the same frames. They become the table; where there are none, it stays as it was.

    A window without one is a skipped row. Nobody knows which model wrote them: a run that makes captions of this key
    makes all of them.
    """
    windows = [row for row in store.read_rows(CLIP_WINDOWS, shard) if row.status == "ok"]
    clips = list(dict.fromkeys(row.clip_id for row in windows))
    read = store.each(lambda clip: store.read_bytes(paths.clip_document(clip)), clips)
    texts: dict[tuple[str, Any, Any], str] = {}
    for clip, data in zip(clips, read, strict=True):
        document = usable(parse_document(data) or {}, documents.FIELDS)[0] if data else {}
        for window in document.get("windows", ()):
            text = window.get(key + CAPTION_SUFFIX)
            if isinstance(text, str) and text.strip():
                texts[clip, window["start_frame"], window["end_frame"]] = text
    rows = [_row(row, key, texts.get((row.clip_id, row.start_frame, row.end_frame))) for row in windows]
    if not any(row.status == "ok" for row in rows):
        return before
    log.info("shard %s: %d captions of %s are taken from its documents", shard, len(texts), key)
    commit(store, WINDOW_CAPTIONS, shard, rows, key, before)
    return store.read_table(WINDOW_CAPTIONS, shard, key)


def _row(row: WindowRow, key: str, text: str | None) -> CaptionRow:
    of: dict[str, Any] = {
        "key": key,
        "clip_id": row.clip_id,
        "start_frame": row.start_frame,
        "end_frame": row.end_frame,
        "content_hash": row.content_hash,
        "window_hash": row.window_hash,
        "text": text,
    }
    if text is not None:
        return CaptionRow(**of)
    return CaptionRow(**of, status="skipped", error_kind="no_caption", error=f"its document has none of {key!r}")
