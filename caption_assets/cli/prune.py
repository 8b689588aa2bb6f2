"""The command `caption-assets prune`."""

from typing import Any

import click
from rich.console import Console

from caption_assets.cli.console import shown
from caption_assets.cli.shards import dataset_flags, given_dataset
from caption_assets.dataset import shard_name
from caption_assets.steps.prune import Leftovers, find_leftovers, remove_leftovers
from caption_assets.store.store import Store

_SHOWN = 10


@click.command()
@dataset_flags
@click.option("--output-path", help="Folder or fsspec URL of tables, documents and previews.")
@click.option("--apply", is_flag=True, help="Remove it.")
@click.option("--all", "show_all", is_flag=True, help=f"Name every file, not the first {_SHOWN} of a kind.")
def prune(output_path: str | None, apply: bool, show_all: bool, **options: Any) -> None:
    """Show what belongs to no clip of the dataset any more; with --apply, remove it.

    Documents, previews, window videos and rows of clips that are gone, tables and pages of shards that are gone, what
    was kept for clips that might come back, and the partitions of such shards in Dagster. What another tool has
    written stays, and so does what people have said of texts.
    """
    # Dagster takes a second or two to import: wrong usage has been answered by now.
    from caption_assets.defs.instance import local_instance
    from caption_assets.defs.partitions import gone_shards, remove_shards, shards_of

    root, settings, clips, output = given_dataset(options, output_path, keep=apply)
    if output is None:
        raise click.UsageError("Missing option '--output-path'.")
    store, console, shards = Store(output), Console(), shards_of(root, settings)
    found = find_leftovers(store, clips)
    with local_instance() as instance:
        gone, why_not = gone_shards(instance, shards, clips)
        if apply:
            found = remove_leftovers(store, clips, found)
            remove_shards(instance, shards, gone)
    show_leftovers(console, found, None if show_all else _SHOWN)
    if gone:
        console.print(shown(f"{len(gone)} partitions: {', '.join(map(shard_name, gone[:_SHOWN]))}"), soft_wrap=True)
    if why_not:
        console.print(shown(f"stays: {why_not}"), style="yellow", soft_wrap=True)
    if not found and not gone:
        console.print("Nothing belongs to no clip.")
    else:
        console.print("All of it was removed." if apply else "Nothing was removed: --apply does it.")


def show_leftovers(console: Console, found: Leftovers, most: int | None) -> None:
    """Prints what is to go, or is gone, by kind; then what stays, and why."""
    for kind, of_kind in found.files.items():
        if of_kind:
            console.print(shown(f"{len(of_kind)} {kind}, {sum(of_kind.values()):,} bytes"), style="bold")
            names = sorted(of_kind)
            for rel in names[:most]:
                console.print(shown(f"  {rel}"), soft_wrap=True, highlight=False)
            if most is not None and len(names) > most:
                console.print(f"  and {len(names) - most} more")
    if found.rows:
        shards = sorted({shard for shard, _ in found.rows})
        named = ", ".join(map(shard_name, shards[:_SHOWN])) + (", …" if len(shards) > _SHOWN else "")
        rows = sum(found.rows.values())
        console.print(shown(f"{rows} rows of {len(found.rows)} clips, in shards that stay: {named}"), soft_wrap=True)
    for what in found.kept:
        console.print(shown(f"stays: {what}"), style="yellow", soft_wrap=True)
    for clip_id, paths in found.twice.items():
        twice = f"{clip_id} is the id of several clips: {', '.join(paths)}. Rename all but one"
        console.print(shown(twice), style="red", soft_wrap=True)
