"""How many shards a run takes: as many as have windows enough that an engine's start costs little beside its work."""

import logging

from caption_assets.errors import CaptionAssetsError
from caption_assets.settings import PipelineSettings
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS

log = logging.getLogger(__name__)
# Where nothing is known yet.
_USUAL_WINDOWS = 64
_SAMPLES = 4
_MOST_SHARDS = 1024


def shards_per_run(settings: PipelineSettings) -> int:
    """Shards of a run of captions, at most: such that they have some `windows_per_run` windows, and a power of two.

    What is stored by now says how many windows a shard has; read when the definitions are made.
    """
    shards = settings.windows_per_run / _windows_a_shard(settings.output)
    number = 1
    while number * 2 <= min(shards, _MOST_SHARDS):
        number *= 2
    return number


def _windows_a_shard(output: str) -> float:
    """On average over a few shards that are planned."""
    try:
        store = Store(output)
        planned = store.shards(CLIP_WINDOWS)
        samples = _SAMPLES if store.looks_cost_nothing else 1
        few = planned[:: max(1, len(planned) // samples)][:samples]
        rows = [store.read_columns(CLIP_WINDOWS, name, ["status"]) for name in few]
        counts = [sum(status == "ok" for (status,) in of_shard) for of_shard in rows]
    except (CaptionAssetsError, OSError) as error:
        log.debug("how many windows a shard has cannot be told now: %s", error)
        counts = []
    return max(1.0, sum(counts) / len(counts)) if counts else _USUAL_WINDOWS
