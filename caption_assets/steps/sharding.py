"""The dataset of an output root: how many shards a shard size makes is decided once, and kept there."""

import json
import math
from pathlib import PurePosixPath

from caption_assets.dataset import Dataset, dataset_name, open_dataset
from caption_assets.errors import StoreError
from caption_assets.settings import DatasetSettings
from caption_assets.store.store import Store


def dataset_for(root: str, settings: DatasetSettings, output: str | None, *, keep: bool = True) -> Dataset:
    """The dataset at `root`, for an output root.

    The first time that a shard size is asked for, all clips are counted, and the number of shards is written to
    `tables/sharding/<dataset>.json`; from then on it is that, however many clips there are. Without `keep`, nothing is
    written. Raises DatasetError, StoreError, and ConfigError where there is a shard size and no output root.
    """
    if settings.shard_size is None or output is None:
        return open_dataset(root, settings)
    store = Store(output)
    rel = str(PurePosixPath("tables", "sharding", f"{dataset_name(root, settings.rule)}.json"))
    kept = store.read_bytes(rel)
    if kept is None:
        whole = open_dataset(root, settings.model_copy(update={"shard_size": None, "shards": 1}))
        clips = [len(whole.clips(shard)) for shard in whole.shards()]  # of each root, where there are several
        count = math.ceil(max(clips) / settings.shard_size)
        about = {"dataset": root, "shard_size": settings.shard_size, "clips": sum(clips), "shards": count}
        kept = json.dumps(about, indent=1).encode()
        if keep:
            store.write_bytes(rel, kept)
            kept = store.read_bytes(rel) or b""
    try:
        count = int(json.loads(kept)["shards"])
    except (ValueError, KeyError, TypeError):
        fix = "write the number of shards there again, as the shards' names have it"
        raise StoreError(f"read {store.url(rel)}", "it names no number of shards", fix) from None
    return open_dataset(root, settings.model_copy(update={"shard_size": None, "shards": count}))
