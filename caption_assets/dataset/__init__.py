"""Where clips come from: dataset root -> shards -> `Clip` records. Lists files; never opens one."""

from caption_assets.dataset.clips import CLIP_SUFFIXES, Dataset, clip_id, shard_key, shard_name

__all__ = ["CLIP_SUFFIXES", "Dataset", "clip_id", "shard_key", "shard_name"]
