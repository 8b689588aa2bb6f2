"""One shard through one step: cut into windows, preview, caption, enhance. No Dagster here.

Every step reads and writes through a `Store`, skips what it finds done (by fingerprint), makes finished items durable
as it goes, stores failures as rows, and returns a `ShardReport`. A step raises ShardError, after storing what there
is, only where nothing at all worked.
"""

from caption_assets.steps.captions import caption_shard
from caption_assets.steps.enhance import enhance_shard
from caption_assets.steps.previews import preview_shard
from caption_assets.steps.report import Progress, ShardReport
from caption_assets.steps.windows import window_shard

__all__ = [
    "Progress",
    "ShardReport",
    "caption_shard",
    "enhance_shard",
    "preview_shard",
    "window_shard",
]
