"""What captioning a dataset would take, before anything is started: windows, tokens, GPU hours and money.

Windows are planned as a run plans them, of all shards or of some, and nothing is written. How fast a model is, and how
many tokens a window takes, is what runs into the same output have measured, or else what has been published; a
further prompt of a visit takes what its answer does.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from caption_assets.dataset import Dataset
from caption_assets.models.choice import ModelChoice, prompt_key
from caption_assets.models.rates import (
    CACHED_SHARE,
    PUBLISHED,
    SECOND_PASS_SHARE,
    TOKEN_SHARE,
    TOKENS_OF_MOST,
    USUAL_TOKENS,
    Rate,
)
from caption_assets.settings import CaptionSettings, WindowSettings
from caption_assets.steps.asked import Ask
from caption_assets.store.costs import cost_rows, costed_asset
from caption_assets.store.store import Store
from caption_assets.workers.base import ClipWorkers
from caption_assets.workers.tasks import PlannedWindow, PlanTask, plan_clip

# Rows with fewer windows say more of an engine's start than of its work.
LEAST_ITEMS = 8


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
    """What a text of a window takes: `gpu_s` seconds of a GPU, or where none was used, `seconds` of a machine by the
    clock. Of the `prompt_tokens`, `cached_tokens` are those of a video that the model has read already. `of` says where
    that is from."""

    gpu_s: float
    seconds: float
    prompt_tokens: float
    cached_tokens: float
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


def caption_speeds(
    store: Store | None, model: ModelChoice, asked: Mapping[str, CaptionSettings]
) -> dict[str, Speed | None]:
    """What each caption of a visit takes, by key, of those that a model is `asked` by the names of their prompts.

    Of a key that no run into `store` has made enough of, that is estimated by what the model's own key takes; None
    where nothing is known of that. Raises ConfigError and ModelError for what cannot be asked.
    """
    asks = {prompt_key(model.key, name): Ask.of(each, name) for name, each in asked.items()}
    variant, _ = model.model()
    keeps = variant.family.keeps_prefixes and not variant.video_pruning
    known = {key: measured(store, key) if store is not None else None for key in asks}
    own = published(model.settings.model_variant, variant.precision)
    first = known[model.key] = known[model.key] or (own and _by_bound(own, asks[model.key], keeps))
    for key, ask in asks.items():
        if known[key] is None and first is not None:
            of = f"estimated, as a further prompt of the visits of {model.key} (docs/costs.md)"
            known[key] = replace(_further(first, asks[model.key], ask, keeps), of=of)
    # One engine makes them all.
    return {key: one and (one if key == model.key else replace(one, start_s=0.0)) for key, one in known.items()}


def _by_bound(usual: Speed, ask: Ask, keeps: bool) -> Speed:
    """What a window takes that is asked this, by what it does where it is asked one thing and answers as usual."""
    visit = _whole(ask) + (0.0 if ask.is_one else _again(ask, keeps))
    return _scaled(usual, visit, ask, usual.prompt_tokens, cached=0 if ask.is_one or not keeps else 1)


def _further(first: Speed, first_ask: Ask, ask: Ask, keeps: bool) -> Speed:
    """What a further caption of a visit takes, by what the first one does."""
    passes = 1 if first_ask.is_one else 2
    # The first one's time, in that of a window which answers as usual.
    of_first = 1 + TOKEN_SHARE * (first.output_tokens / passes - USUAL_TOKENS)
    of_first += 0.0 if first_ask.is_one else of_first - 1 + (SECOND_PASS_SHARE if keeps else 1)
    share = TOKEN_SHARE * _tokens(ask) if keeps else _whole(ask)
    share += 0.0 if ask.is_one else _again(ask, keeps)
    questions = 1 if ask.is_one else 2
    return _scaled(first, share / of_first, ask, first.prompt_tokens / passes, cached=questions if keeps else 0)


def _scaled(by: Speed, times: float, ask: Ask, prompt_tokens: float, cached: int) -> Speed:
    """`by` so many times, with the tokens of what is asked; so many of its questions find the video there."""
    questions = 1 if ask.is_one else 2
    return replace(
        by,
        gpu_s=times * by.gpu_s,
        seconds=times * by.seconds,
        prompt_tokens=questions * prompt_tokens,
        cached_tokens=cached * CACHED_SHARE * prompt_tokens,
        output_tokens=questions * _tokens(ask),
    )


def _tokens(ask: Ask) -> float:
    return TOKENS_OF_MOST * ask.max_tokens


def _whole(ask: Ask) -> float:
    """The time of a window that is asked this alone, in that of one which answers as usual."""
    return 1 + TOKEN_SHARE * (_tokens(ask) - USUAL_TOKENS)


def _again(ask: Ask, keeps: bool) -> float:
    """That of a second pass."""
    return _whole(ask) - 1 + (SECOND_PASS_SHARE if keeps else 1)


def measured(store: Store, key: str) -> Speed | None:
    """What runs into an output have measured of the texts of a key; None where they have made too few."""
    rows = cost_rows(store, costed_asset(key))
    made = [row for row in rows if row.items]
    items = sum(row.items for row in made)
    if items < LEAST_ITEMS:
        return None
    gpu_s, busy_s = (sum(getattr(row, name) for row in rows) for name in ("gpu_held_s", "gpu_busy_s"))
    starts = sum(row.engine_starts for row in rows)
    where = ", ".join(sorted({row.device for row in made if row.device}))
    runs = len({row.run_id for row in made})
    return Speed(
        gpu_s=busy_s / items,
        seconds=sum(row.seconds for row in made) / items,
        prompt_tokens=sum(row.prompt_tokens for row in made) / items,
        cached_tokens=sum(row.cached_tokens for row in made) / items,
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
    return Speed(gpu_s, 0.0, rate.prompt_tokens, 0.0, rate.output_tokens, rate.start_seconds, of)
