"""The command `caption-assets estimate`."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from caption_assets.cli.chosen import given_flags, run_settings
from caption_assets.cli.console import shown
from caption_assets.cli.flags import caption_option, settings_flags
from caption_assets.cli.shards import chosen_shards, dataset_option
from caption_assets.models.choice import ModelChoice, check_keys
from caption_assets.settings import (
    CaptionModelSettings,
    CaptionSettings,
    DatasetSettings,
    EnhanceSettings,
    PipelineSettings,
    TextModelSettings,
    WindowSettings,
    WorkerSettings,
)
from caption_assets.steps.estimate import LEAST_ITEMS, Planned, Speed, caption_speeds, measured, planned, published
from caption_assets.steps.progress_log import duration
from caption_assets.steps.sharding import dataset_for
from caption_assets.store.store import Store
from caption_assets.workers.local import Workers

_HOUR = 3600.0
_CLASSES = (
    DatasetSettings,
    WindowSettings,
    CaptionModelSettings,
    CaptionSettings,
    TextModelSettings,
    EnhanceSettings,
    WorkerSettings,
)


@click.command()
@dataset_option(required=False)
@click.option("--output-path", help="Output of earlier runs, whose speed then counts; by default what was published.")
@click.option("--shard", "named", multiple=True, help="Only this shard, by its name or key; may be repeated.")
@click.option("--sample", type=click.IntRange(1), help="Look at so many shards only, drawn at random.")
@click.option("--enhance-captions", is_flag=True, help="With enhanced captions.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@caption_option
@partial(settings_flags, classes=_CLASSES)
@click.pass_context
def estimate(
    context: click.Context,
    named: tuple[str, ...],
    sample: int | None,
    enhance_captions: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what a dataset would take: windows, tokens, GPU hours, and money with --gpu-hour-price.

    Plans the windows as a run does, of all shards or of a sample; writes nothing, and starts no model. What no flag
    says is as the deployment has it, as for a run. How fast a model is was measured by runs into the output, or else by
    us: docs/engines.md has the figures for some variants. A further prompt is asked in the same visit.
    """
    settings = run_settings(given_flags(context), writes=False)
    check_keys(settings.captions)
    output = settings.output if "output" in settings.model_fields_set else None
    listed = dataset_for(settings.dataset, settings.clips, output, keep=False)
    shards = chosen_shards(listed, named)
    speeds = _speeds(settings, None if output is None else Store(output), enhance=enhance_captions)
    with Workers.from_settings(settings.workers) as workers:
        plan = planned(listed, workers, settings.windows, shards, sample)
    price = settings.captions[0].gpu_hour_price if settings.captions else None
    if as_json:
        estimates = {key: speed and _total(plan, speed, price) for key, speed in speeds.items()}
        whole = {"sum": _sum(plan, speeds, price)}
        click.echo(json.dumps({**asdict(plan), "windows": plan.windows, "keys": estimates, **whole}, indent=1))
    else:
        _show(plan, speeds, price, Console())


def _speeds(settings: PipelineSettings, store: Store | None, *, enhance: bool) -> dict[str, Speed | None]:
    """Of every key that a run would make, None where nothing is known."""
    speeds: dict[str, Speed | None] = {}
    models = [ModelChoice(captions) for captions in settings.captions]
    for model, captions in zip(models, settings.captions, strict=True):
        speeds |= caption_speeds(store, model, captions.asked)
    for texts in map(ModelChoice, settings.enhanced if enhance else ()):
        variant, _ = texts.model()
        for model in models:
            key = f"{model.key}/{texts.key}"
            found = measured(store, key) if store is not None else None
            speeds[key] = found or published(texts.settings.model_variant, variant.precision)
    return speeds


def _total(plan: Planned, speed: Speed, price: float | None) -> dict[str, Any]:
    """What all windows take; one engine is started."""
    gpu_s = speed.gpu_s * plan.windows + speed.start_s * bool(speed.gpu_s)
    return {
        "of": speed.of,
        "prompt_tokens": round(speed.prompt_tokens * plan.windows),
        "cached_tokens": round(speed.cached_tokens * plan.windows),
        "output_tokens": round(speed.output_tokens * plan.windows),
        "gpu_hours": round(gpu_s / _HOUR, 6),
        "hours": round((gpu_s or speed.seconds * plan.windows) / _HOUR, 6),
        "cost": None if price is None or not gpu_s else round(gpu_s / _HOUR * price, 4),
    }


def _sum(plan: Planned, speeds: dict[str, Speed | None], price: float | None) -> dict[str, Any]:
    """What all keys take of which that is known."""
    totals = [_total(plan, speed, price) for speed in speeds.values() if speed is not None]
    numbers = ("prompt_tokens", "cached_tokens", "output_tokens", "gpu_hours", "hours")
    costs = [total["cost"] for total in totals if total["cost"] is not None]
    whole = {name: round(sum(total[name] for total in totals), 6) for name in numbers}
    return {**whole, "cost": round(sum(costs), 4) if costs else None}


def _show(plan: Planned, speeds: dict[str, Speed | None], price: float | None, out: Console) -> None:
    about = "" if plan.is_whole else "about "
    of = f"{plan.looked_at} of {plan.shards} shards looked at" if not plan.is_whole else f"{plan.shards} shards"
    out.print(f"{of}: {plan.clips:,} clips, {plan.unusable:,} of them without a window.", highlight=False)
    video = duration(plan.video_seconds * plan.windows / max(1, plan.windows_found))
    out.print(f"{about}{plan.windows:,} windows, {video} of video.".capitalize(), highlight=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("key")
    for name in ("tokens in", "cached", "out", "GPU hours", "on one machine", "money"):
        table.add_column(name, justify="right")
    for key, speed in speeds.items():
        table.add_row(shown(key), *(("", "", "", "not known") if speed is None else _cells(_total(plan, speed, price))))
    if len(speeds) > 1 and any(speeds.values()):
        table.add_section()
        table.add_row("in sum" + ", if known" * (None in speeds.values()), *_cells(_sum(plan, speeds, price)))
    out.print(table)
    unknown = f"nothing is known of its speed; run it on {LEAST_ITEMS} windows or more, and give that --output-path"
    for key, speed in speeds.items():
        said = speed.of if speed else unknown
        out.print(shown(f"{key}: {said}"), highlight=False, soft_wrap=True)


def _cells(total: Mapping[str, Any]) -> tuple[str, ...]:
    tokens = (f"{total[name]:,}" for name in ("prompt_tokens", "cached_tokens", "output_tokens"))
    hours = f"{total['gpu_hours']:,.2f}" if total["gpu_hours"] else "none"
    cost = "" if total["cost"] is None else f"{total['cost']:,.2f}"
    return *tokens, hours, duration(total["hours"] * _HOUR), cost
