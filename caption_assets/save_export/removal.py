"""What may be removed of a clip that is no more: documents that are ours alone, never one that others have words in."""

from collections.abc import Iterator

from caption_assets.save_export import paths
from caption_assets.save_export.files import read_document
from caption_assets.store.store import Store


def own_processed(store: Store, clip_id: str, relative_path: str, location: str) -> Iterator[str]:
    """The documents of a clip's own source video that tell of this very clip, and are there."""
    video, chunk = paths.processed_video(relative_path), paths.processed_clip_chunk(relative_path, 0)
    for rel, clips in ((video, None), (chunk, [clip_id])):
        document = read_document(store, rel)
        if document is not None and document.get("video") == location and document.get("clips") == clips:
            yield rel
