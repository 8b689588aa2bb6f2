"""What `caption-assets run --dry-run` shows."""

from collections import Counter
from collections.abc import Container, Sequence
from contextlib import ExitStack
from dataclasses import replace

from rich import box
from rich.console import Console
from rich.table import Table

from caption_assets.cli.console import shown
from caption_assets.dataset import Dataset, shard_name
from caption_assets.errors import DatasetError, StoreError
from caption_assets.models.choice import ModelChoice, prompt_key
from caption_assets.settings import PipelineSettings
from caption_assets.steps import model_session
from caption_assets.steps.asked import Ask
from caption_assets.steps.forecast import Forecast, Wanted, forecast
from caption_assets.steps.trial import Trial
from caption_assets.store.store import Store


def print_forecast(
    dataset: Dataset,
    store: Store,
    shards: Sequence[str],
    settings: PipelineSettings,
    steps: Container[str],
    trial: Trial,
) -> None:
    """Prints what a run would do, shard by shard and in all. Raises ModelError where a server does not answer."""
    out, found = Console(), list[Forecast]()
    with ExitStack() as sessions:
        every = _wanted(sessions, settings, steps, trial)
        for shard in shards:
            try:
                first, *others = [_named(forecast(store, dataset, shard, each), each, settings) for each in every]
            except (DatasetError, StoreError) as error:
                out.print(shown(f"shard {shard_name(shard)}: {error}"), style="red", soft_wrap=True)
                continue
            for other in others:
                first = replace(first, missing={**first.missing, **other.missing})
            found.append(first)
    names = dict.fromkeys(name for of_shard in found for name in of_shard.missing)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("shard", overflow="fold", no_wrap=True)
    for name in ("clips", "to plan", "windows", *names):
        table.add_column(shown(name), justify="right", overflow="fold")
    total: Counter[str] = Counter()
    for of_shard in found:
        row = {"clips": of_shard.clips, "to plan": of_shard.to_plan, "windows": of_shard.windows, **of_shard.missing}
        total.update(row)
        table.add_row(shown(shard_name(of_shard.shard)), *map(str, row.values()))
    if len(found) > 1:
        table.add_section()
        table.add_row("total", *(str(total[name]) for name in ("clips", "to plan", "windows", *names)))
    out.print(table)
    new = total["to plan"] > 0
    out.print(
        "windows: those that are known; what follows them is what is missing of these, and would be made."
        + f" {total['to plan']} clips are to be planned; windows that they turn out to have come on top." * new,
        soft_wrap=True,
    )
    out.print("Nothing was written.")


def _wanted(sessions: ExitStack, settings: PipelineSettings, steps: Container[str], trial: Trial) -> list[Wanted]:
    """What is to be made, for each captioning model, and each text model that enhances its captions."""
    base = Wanted(settings.windows, settings.previews if "window_previews" in steps else None, trial=trial)
    texts = [(sessions.enter_context(model_session(each, 1)), each) for each in settings.enhanced]
    found = list[Wanted]()
    for captions in settings.captions:
        of, wanted = ModelChoice(captions).key, replace(base, previews=None)
        if "window_captions" in steps:
            asks = {prompt_key(of, name): Ask.of(each, name) for name, each in captions.asked.items()}
            wanted = replace(wanted, captions=(sessions.enter_context(model_session(captions, 1)), asks))
            found.append(wanted)
        if "enhanced_captions" in steps:
            found.extend(replace(wanted, enhanced=(*text, of)) for text in texts)
    return [base, *found]


def _named(one: Forecast, wanted: Wanted, settings: PipelineSettings) -> Forecast:
    """With the key beside the enhanced captions of all models but the first, which has the layout's own name."""
    of = wanted.enhanced[2] if wanted.enhanced is not None else None
    if of is None or of == ModelChoice(settings.captions[0]).key:
        return one
    end = "_enhanced_caption"
    words = {name: f"{name.removesuffix(end)} of {of}" if name.endswith(end) else name for name in one.missing}
    return replace(one, missing={words[name]: number for name, number in one.missing.items()})
