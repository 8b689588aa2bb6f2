"""What captioning a dataset would take, before anything is started: windows, tokens, GPU hours and money.

Windows are planned as a run plans them, of all shards or of some, and nothing is written. How fast a model is, and how
many tokens a window takes, is what runs into the same output have measured, or else what has been published.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from caption_assets.dataset import Dataset
from caption_assets.models.rates import PUBLISHED, Rate
from caption_assets.settings import WindowSettings
from caption_assets.store.costs import cost_rows, costed_asset
from caption_assets.store.store import Store
from caption_assets.workers.base import ClipWorkers
from caption_assets.workers.tasks import PlannedWindow, PlanTask, plan_clip

# Rows with fewer windows say more of an engine's start than of its work.
_LEAST_ITEMS = 8


@dataclass(frozen=True, slots=True)
class Planned:
    """Windows of the shards that were looked at, and what that comes to for all of them."""

    shards: int
    looked_at: int
    clips: int
    unusable: int
    windows_found: int
    video_seconds: float

    @property
    def is_whole(self) -> bool:
        return self.looked_at == self.shards

    @property
    def windows(self) -> int:
        return round(self.windows_found * self.shards / max(1, self.looked_at))


@dataclass(frozen=True, slots=True)
class Speed:
    """What a window takes: `gpu_s` seconds of a GPU, or where none was used, `seconds` of a machine by the clock.
    `of` says where that is from."""

    gpu_s: float
    seconds: float
    prompt_tokens: float
    output_tokens: float
    start_s: float
    of: str


def planned(
    dataset: Dataset,
    workers: ClipWorkers,
    settings: WindowSettings,
    shards: Sequence[str],
    sample: int | None = None,
    told: Callable[[], object] = lambda: None,
) -> Planned:
    """Plans the clips of `shards`, or of so many of them, drawn at random. Writes nothing. Raises DatasetError."""
    chosen = list(shards)
    if sample is not None and sample < len(chosen):
        chosen = random.Random(0).sample(chosen, sample)
    settings = settings.model_copy(update={"store_window_mp4": False})
    clips = {clip.location for shard in chosen for clip in dataset.clips(shard)}
    found, seconds = dict.fromkeys(clips, 0), 0.0
    for task, result in workers.run(plan_clip, [PlanTask(location, settings) for location in sorted(clips)]):
        if isinstance(result, PlannedWindow):
            found[task.location] += 1
            seconds += result.end_s - result.start_s
        else:
            told()
    unusable = sum(not count for count in found.values())
    return Planned(len(shards), len(chosen), len(clips), unusable, sum(found.values()), seconds)


def measured(store: Store, key: str) -> Speed | None:
    """What runs into an output have measured of the texts of a key; None where they have made too few."""
    rows = cost_rows(store, costed_asset(key))
    made = [row for row in rows if row.items]
    items = sum(row.items for row in made)
    if items < _LEAST_ITEMS:
        return None
    gpu_s, busy_s = (sum(getattr(row, name) for row in rows) for name in ("gpu_held_s", "gpu_busy_s"))
    starts = sum(row.engine_starts for row in rows)
    where = ", ".join(sorted({row.device for row in made if row.device}))
    runs = len({row.run_id for row in made})
    return Speed(
        gpu_s=busy_s / items,
        seconds=sum(row.seconds for row in made) / items,
        prompt_tokens=sum(row.prompt_tokens for row in made) / items,
        output_tokens=sum(row.output_tokens for row in made) / items,
        start_s=max(0.0, gpu_s - busy_s) / max(1, starts),
        of=f"measured: {items:,} in {runs} run{'s' * (runs > 1)} into this output, on {where}",
    )


def published(variant: str, precision: str, rates: Mapping[tuple[str, str], Rate] = PUBLISHED) -> Speed | None:
    """What docs/engines.md says of a variant; None where it says nothing."""
    rate = rates.get((variant, precision))
    if rate is None:
        return None
    gpu_s = 1 / rate.windows_per_second
    of = f"published: {rate.windows_per_second} windows a second on one {rate.gpu} (docs/engines.md)"
    return Speed(gpu_s, 0.0, rate.prompt_tokens, rate.output_tokens, rate.start_seconds, of)
