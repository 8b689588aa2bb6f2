"""What may be removed of a clip that is no more: documents that are ours alone, never one that others have words in."""

from collections.abc import Collection, Iterator

from caption_assets.save_export import paths
from caption_assets.save_export.documents import FIELDS, OWN_CLIP_KEYS, OWN_CODES, OWN_WINDOW_KEYS, Document
from caption_assets.save_export.files import read_document
from caption_assets.save_export.foreign import usable
from caption_assets.store.store import Store


def own_processed(store: Store, clip_id: str, relative_path: str, location: str) -> Iterator[str]:
    """The documents of a clip's own source video that tell of this very clip, and are there."""
    video, chunk = paths.processed_video(relative_path), paths.processed_clip_chunk(relative_path, 0)
    for rel, clips in ((video, None), (chunk, [clip_id])):
        document = read_document(store, rel)
        if document is not None and document.get("video") == location and document.get("clips") == clips:
            yield rel


def is_ours_alone(document: Document, added: Collection[str] = ()) -> bool:
    """Whether nobody else has put anything into a clip's document, nor cut the clip. `added` are the names of users'
    tables, which stand in windows."""
    known, wrong = usable(document, FIELDS)
    if wrong or "windowing" not in known or known.get("source_video") != known.get("clip_location"):
        return False
    if known.keys() - OWN_CLIP_KEYS or set(known.get("errors", ())) - OWN_CODES:
        return False
    for window in known.get("windows", ()):
        texts = window.get("provenance", {})
        if not isinstance(texts, dict) or window.keys() - OWN_WINDOW_KEYS - texts.keys() - set(added):
            return False
    return True


def previews_of(clip_id: str, document: Document) -> Iterator[str]:
    """The previews that a document of ours names, of its own clip."""
    for window in document.get("windows", ()):
        rel = paths.preview(clip_id, window["start_frame"], window["end_frame"])
        preview = window.get("preview")
        if isinstance(preview, dict) and preview.get("path") == rel:
            yield rel
