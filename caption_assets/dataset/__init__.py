"""Where clips come from: dataset root -> shards -> `Clip` records. Lists files; never opens one."""

from caption_assets.dataset.folders import CLIP_SUFFIXES, Dataset
from caption_assets.dataset.ids import clip_id, shard_key, shard_name, split_duplicates

__all__ = ["CLIP_SUFFIXES", "Dataset", "clip_id", "shard_key", "shard_name", "split_duplicates"]
