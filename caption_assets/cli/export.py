"""The command `caption-assets export`."""

import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, get_args

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from caption_assets.cli.console import plain, shown
from caption_assets.cli.flags import settings_flags, settings_from
from caption_assets.dataset import shard_name
from caption_assets.errors import StoreError
from caption_assets.exports import Changes, Contents, Export, choose_keys, default_folder
from caption_assets.exports.card import REASONS
from caption_assets.settings import ExportFormatName, ExportSettings, WorkerSettings
from caption_assets.store import CLIP_WINDOWS, Store
from caption_assets.workers.local import Workers

_SHOWN = 10


@click.command()
@click.argument("form", metavar="FORMAT", type=click.Choice(get_args(ExportFormatName)))
@click.option("--output-path", required=True, help="Folder or fsspec URL of the tables: that of `run`.")
@click.option("--to", help="Folder or fsspec URL of the export, empty at first; by default exports/FORMAT/KEY.")
@click.option("--shard", "shards", multiple=True, help="Only this shard (its folder's name or key); may be repeated.")
@partial(settings_flags, classes=(ExportSettings, WorkerSettings))
def export(form: ExportFormatName, output_path: str, to: str | None, shards: tuple[str, ...], **options: Any) -> None:
    """Write captioned windows as trainers load them.

    FORMAT is jsonl, csv, musubi, diffsynth, open-sora, videofolder, txt, cosmos, webdataset or parquet; docs/exports.md
    says which trainer reads which. A second export to the same folder writes what has changed, and removes what it once
    wrote and holds no more. Exit status: 0 when all that was asked for is there, 1 when a video could not be made or
    nothing is left to export, 2 for wrong usage.
    """
    settings = settings_from(options, ExportSettings)
    store = Store(output_path)
    known = store.shards(CLIP_WINDOWS)
    chosen = _chosen(store, known, shards)
    left_out: Counter[str] = Counter()
    failed: list[str] = []
    changes = Changes()
    progress = _progress()
    bar = progress.add_task("export", total=len(chosen), windows=0)
    with Workers.from_settings(settings_from(options, WorkerSettings)) as workers:
        to = to or default_folder(store, form, choose_keys(store, settings))
        running = Export(store, to, form, settings, workers, _Teller(progress, bar))
        with progress:
            for shard in chosen:
                done = running.shard(shard)
                left_out += done.left_out
                failed += done.failed
                changes += done.changes
                progress.advance(bar)
            contents, more = running.finish(known)
    _tell(Console(), contents, changes + more, left_out, failed, running.url)
    for (one, other), clips in running.twice.items():
        why = "prune takes out the rows of a shard that is no more"
        sentence = f"{clips} clips are in shard {shard_name(one)} and in {shard_name(other)}, and go out twice: {why}"
        Console().print(shown(sentence), style="yellow", soft_wrap=True)
    sys.exit(1 if failed or not contents.samples else 0)


def _chosen(store: Store, known: Sequence[str], named: Sequence[str]) -> list[str]:
    """The shards that are named, by their folder's name or by their key; all where none is."""
    by_name = {key: key for key in known} | {shard_name(key): key for key in known}
    if unknown := [name for name in named if name not in by_name] or ([] if known else ["any"]):
        there = ", ".join(known[:_SHOWN]) + (", …" if len(known) > _SHOWN else "") or "none"
        raise StoreError(f"shard {unknown[0]!r} of {store.url()}", "it has no windows", f"there are: {there}")
    return list(dict.fromkeys(by_name[name] for name in named)) or list(known)


class _Teller:
    """Counts the windows that have been dealt with."""

    def __init__(self, progress: Progress, bar: Any) -> None:
        self._progress, self._bar, self._windows = progress, bar, 0

    def __call__(self, windows: int) -> None:
        self._windows += windows
        self._progress.update(self._bar, windows=self._windows)


def _progress() -> Progress:
    columns = (
        TextColumn("export"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("shards, {task.fields[windows]} windows"),
    )
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))


def _tell(
    out: Console, contents: Contents, changes: Changes, left_out: Counter[str], failed: Sequence[str], url: str
) -> None:
    """What the export holds, what was done to files, and what stays, with the reasons."""
    splits = ", ".join(f"{split} {of.samples}" for split, of in sorted(contents.splits.items()) if split)
    of_splits = f" ({splits})" if splits else ""
    out.print(shown(f"{contents.samples} samples{of_splits} in {url}"), soft_wrap=True)
    files = f"files: {changes.written} written, {changes.unchanged} unchanged, {changes.removed} removed"
    out.print(shown(files))
    for reason, number in sorted(left_out.items()):
        out.print(shown(f"left out {number}: {REASONS[reason]}"), style="yellow", soft_wrap=True)
    for sentence in failed:
        out.print(plain(sentence), style="red", markup=False, soft_wrap=True)
