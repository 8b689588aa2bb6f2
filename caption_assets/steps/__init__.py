"""Shards through one step: cut into windows, preview, caption, enhance. No Dagster here.

Every step reads and writes through a `Store`, skips what it finds done (by fingerprint), makes finished items durable
as it goes, stores failures as rows, and gives a `ShardReport`; a ShardError, after storing what there is, only where
nothing at all worked. Steps that ask a model take many shards at once, so that it never waits between two.
"""

from caption_assets.steps.captions import caption_shards
from caption_assets.steps.enhance import enhance_shards
from caption_assets.steps.previews import preview_shard
from caption_assets.steps.report import Progress, ShardReport
from caption_assets.steps.stream import Outcomes
from caption_assets.steps.windows import window_shard

__all__ = [
    "Outcomes",
    "Progress",
    "ShardReport",
    "caption_shards",
    "enhance_shards",
    "preview_shard",
    "window_shard",
]
