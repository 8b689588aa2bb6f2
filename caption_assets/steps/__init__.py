"""Shards through one step: cut into windows, preview, caption, enhance. No Dagster here.

Every step is given a `StepContext` and its settings, skips what it finds done (by fingerprint), makes finished items
durable as it goes, stores failures as rows, and says how each shard ended: a `ShardReport`, or a ShardError, after
storing what there is, where nothing at all worked. Steps that ask a model take many shards at once, so that it never
waits between two. What is done with one clip belongs to `workers`; what is asked of a model to `models`.
"""

from caption_assets.steps.captions import caption_shards
from caption_assets.steps.context import StepContext
from caption_assets.steps.enhance import enhance_shards
from caption_assets.steps.previews import preview_shard, preview_shards
from caption_assets.steps.progress import Progress
from caption_assets.steps.progress_log import ProgressLog
from caption_assets.steps.report import Ended, Outcomes, ShardReport
from caption_assets.steps.sessions import model_session
from caption_assets.steps.windows import window_shard, window_shards

__all__ = [
    "Ended",
    "Outcomes",
    "Progress",
    "ProgressLog",
    "ShardReport",
    "StepContext",
    "caption_shards",
    "enhance_shards",
    "model_session",
    "preview_shard",
    "preview_shards",
    "window_shard",
    "window_shards",
]
