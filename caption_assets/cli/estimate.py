"""The command `caption-assets estimate`."""

import json
from dataclasses import asdict
from functools import partial
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from caption_assets.cli.chosen import given_flags
from caption_assets.cli.console import shown
from caption_assets.cli.flags import given_fields, parsed_as, settings_flags, settings_from
from caption_assets.cli.shards import dataset_option, given_dataset
from caption_assets.errors import DatasetError
from caption_assets.models.choice import ModelChoice, default_text_variant, default_variant
from caption_assets.settings import (
    CaptionModelSettings,
    DatasetSettings,
    TextModelSettings,
    WindowSettings,
    WorkerSettings,
)
from caption_assets.steps.estimate import Planned, Speed, measured, planned, published
from caption_assets.steps.progress_log import duration
from caption_assets.store.store import Store
from caption_assets.workers.local import Workers

_HOUR = 3600.0
_CLASSES = (DatasetSettings, WindowSettings, CaptionModelSettings, TextModelSettings, WorkerSettings)


@click.command()
@dataset_option()
@click.option("--output-path", help="Output of earlier runs, whose speed then counts; by default what was published.")
@click.option("--shard", "named", multiple=True, help="Only this shard, by its key; may be repeated.")
@click.option("--sample", type=click.IntRange(1), help="Look at so many shards only, drawn at random.")
@click.option("--enhance-captions", is_flag=True, help="With enhanced captions.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@partial(settings_flags, classes=_CLASSES)
@click.pass_context
def estimate(
    context: click.Context,
    output_path: str | None,
    named: tuple[str, ...],
    sample: int | None,
    enhance_captions: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what a dataset would take: windows, tokens, GPU hours, and money with --gpu-hour-price.

    Plans the windows as a run does, of all shards or of a sample; writes nothing, and starts no model. How fast a model
    is was measured by runs into --output-path, or else by us: docs/engines.md has the figures for some variants.
    """
    root, _, listed, _ = given_dataset(options, output_path, keep=False)
    known = listed.shards()
    if unknown := [shard for shard in named if shard not in known]:
        raise DatasetError(f"shard {unknown[0]!r} of {root!r}", "it is unknown", f"choose: {', '.join(known[:10])}")
    given = given_flags(context)
    models: list[tuple[str, ModelChoice]] = []
    captions = given_fields(given, CaptionModelSettings)
    chosen = ModelChoice(parsed_as(CaptionModelSettings, {"model_variant": default_variant(), **captions}))
    models.append((chosen.key, chosen))
    if enhance_captions:
        usual = {"model_variant": default_text_variant(chosen.settings.model_variant)}
        texts = ModelChoice(parsed_as(TextModelSettings, {**usual, **given_fields(given, TextModelSettings)}))
        models.append((f"{chosen.key}/{texts.key}", texts))
    with Workers.from_settings(settings_from(options, WorkerSettings)) as workers:
        windows = settings_from(options, WindowSettings)
        plan = planned(listed, workers, windows, named or known, sample)
    speeds = {key: _speed(key, choice, output_path) for key, choice in models}
    price = chosen.settings.gpu_hour_price
    if as_json:
        estimates = {key: speed and _total(plan, speed, price) for key, speed in speeds.items()}
        click.echo(json.dumps({**asdict(plan), "windows": plan.windows, "keys": estimates}, indent=1))
    else:
        _show(plan, speeds, price, Console())


def _speed(key: str, choice: ModelChoice, output_path: str | None) -> Speed | None:
    variant, _ = choice.model()
    found = measured(Store(output_path), key) if output_path is not None else None
    return found or published(choice.settings.model_variant, variant.precision)


def _total(plan: Planned, speed: Speed, price: float | None) -> dict[str, Any]:
    """What all windows take; one engine is started."""
    gpu_s = speed.gpu_s * plan.windows + speed.start_s * bool(speed.gpu_s)
    return {
        "of": speed.of,
        "prompt_tokens": round(speed.prompt_tokens * plan.windows),
        "output_tokens": round(speed.output_tokens * plan.windows),
        "gpu_hours": round(gpu_s / _HOUR, 4),
        "hours": round((gpu_s or speed.seconds * plan.windows) / _HOUR, 4),
        "cost": None if price is None or not gpu_s else round(gpu_s / _HOUR * price, 4),
    }


def _show(plan: Planned, speeds: dict[str, Speed | None], price: float | None, out: Console) -> None:
    about = "" if plan.is_whole else "about "
    of = f"{plan.looked_at} of {plan.shards} shards looked at" if not plan.is_whole else f"{plan.shards} shards"
    out.print(f"{of}: {plan.clips:,} clips, {plan.unusable:,} of them without a window.", highlight=False)
    video = duration(plan.video_seconds * plan.windows / max(1, plan.windows_found))
    out.print(f"{about}{plan.windows:,} windows, {video} of video.".capitalize(), highlight=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("key")
    for name in ("tokens in", "out", "GPU hours", "on one machine", "money"):
        table.add_column(name, justify="right")
    for key, speed in speeds.items():
        if speed is None:
            table.add_row(shown(key), "", "", "not known", "", "")
            continue
        total = _total(plan, speed, price)
        cost = "" if total["cost"] is None else f"{total['cost']:,.2f}"
        hours = f"{total['gpu_hours']:,.2f}" if total["gpu_hours"] else "none"
        cells = (f"{total['prompt_tokens']:,}", f"{total['output_tokens']:,}", hours)
        table.add_row(shown(key), *cells, duration(total["hours"] * _HOUR), cost)
    out.print(table)
    for key, speed in speeds.items():
        said = speed.of if speed else "nothing is known of its speed; run it on one shard, and give that --output-path"
        out.print(shown(f"{key}: {said}"), highlight=False, soft_wrap=True)
