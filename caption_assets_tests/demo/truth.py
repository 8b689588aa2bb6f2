"""What the documents of demo clips say, held against what the clips show."""

from collections.abc import Iterable, Iterator
from typing import Any

from caption_assets.demo.world import ATTRIBUTES
from caption_assets.save_export.files import read_document
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS


def told(store: Store, shard: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each window that the shard was cut into, as it stands in `metas/v0`, with its clip's path in the dataset."""
    for row in store.read_rows(CLIP_WINDOWS, shard):
        document = read_document(store, f"metas/v0/{row.clip_id}.json")
        (window,) = (w for w in document["windows"] if w["start_frame"] == row.start_frame)
        yield row.relative_path, window


def shares(scores: Iterable[dict[str, bool]]) -> dict[str, float]:
    """Share of windows that are right, by attribute and in all ("all")."""
    scores = list(scores)
    return {name: sum(score[name] for score in scores) / len(scores) for name in (*ATTRIBUTES, "all")}
