"""The command `caption-assets shards`, and how commands are told of a dataset."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from caption_assets.cli.chosen import given_flags, run_settings
from caption_assets.cli.console import plain
from caption_assets.cli.flags import settings_flags, settings_from
from caption_assets.dataset import Dataset, shard_name
from caption_assets.errors import DatasetError
from caption_assets.settings import DatasetSettings
from caption_assets.steps.sharding import dataset_for

_SHOWN = 10
F = TypeVar("F", bound=Callable[..., Any])


def dataset_option(required: bool = True) -> Callable[[F], F]:
    """The flag that says which dataset; `given_dataset` reads it."""
    return click.option(
        "--dataset",
        "roots",
        required=required,
        multiple=True,
        help="Folder or fsspec URL whose sub-folders are the shards of clips, or another kind of dataset: a manifest, "
        "tars, Parquet files with videos, an output root of Curator's, a LeRobot dataset. May be repeated.",
    )


def given_dataset(
    options: Mapping[str, Any], output: str | None, *, keep: bool = True
) -> tuple[str, DatasetSettings, Dataset, str | None]:
    """The dataset that parsed flags ask for, or else the deployment's, by its root, how it is read, and itself, with
    the output root; without `keep`, nothing is written. Raises DatasetError, and click.UsageError where there is none.
    """
    root, settings = "\n".join(options["roots"]), settings_from(options, DatasetSettings)
    if not root:
        deployed = run_settings(given_flags(click.get_current_context()))
        root, settings, output = deployed.dataset, deployed.clips, deployed.output
    return root, settings, dataset_for(root, settings, output, keep=keep), output


def dataset_flags(command: F) -> F:
    """Adds the flags that say which dataset, by default that of the deployment, and how it is read."""
    return dataset_option(required=False)(settings_flags(command, (DatasetSettings,)))


def chosen_shards(dataset: Dataset, named: Sequence[str]) -> list[str]:
    """The shards that are named, by their folder's name or by their key; all where none is. Raises DatasetError."""
    known = dataset.shards()
    by_name = {key: key for key in known} | {shard_name(key): key for key in known}
    if unknown := [name for name in named if name not in by_name]:
        shown = ", ".join(known[:_SHOWN]) + (", …" if len(known) > _SHOWN else "")
        raise DatasetError(f"shard {unknown[0]!r} of dataset {dataset.root!r}", "it is unknown", f"choose: {shown}")
    return list(dict.fromkeys(by_name[name] for name in named)) or known


_output_option = click.option(
    "--output-path", help="The output root, which keeps how many shards a --shard-size makes."
)


@click.group()
def shards() -> None:
    """The dataset's shards as Dagster knows them."""


@shards.command("list")
@dataset_flags
@_output_option
def list_shards(output_path: str | None, **options: Any) -> None:
    """Print every shard with its number of clips, whether Dagster knows it, and what in it is no clip."""
    from caption_assets.defs.instance import local_instance
    from caption_assets.defs.partitions import registered_shards, shards_of

    root, settings, listed, _ = given_dataset(options, output_path)
    with local_instance() as instance:
        known = registered_shards(instance, shards_of(root, settings))
    keys = listed.shards()
    failed = False
    for key in keys:
        try:
            found = listed.listing(key)
        except DatasetError as error:
            failed = True
            click.echo(f"{plain(shard_name(key))}\tcannot be read: {plain(str(error))}")
            continue
        count = "1 clip" if len(found.clips) == 1 else f"{len(found.clips)} clips"
        words = [count, "registered" if key in known else "new"]
        if found.left_out:
            words.append(f"no clips: {'; '.join(map(str, found.left_out))}")
        click.echo("\t".join(plain(word) for word in (shard_name(key), *words)))
    for of in listed.beside():
        click.echo(plain(f"in no shard: {of}"))
    for key in sorted(set(known) - set(keys)):
        click.echo(f"{plain(shard_name(key))}\t0 clips\tregistered, but no longer there")
    if failed:
        sys.exit(1)


@shards.command("sync")
@dataset_flags
@_output_option
def sync(output_path: str | None, **options: Any) -> None:
    """Register the dataset's new shards with Dagster now. Never removes one."""
    from caption_assets.defs.instance import local_instance
    from caption_assets.defs.partitions import add_new_shards, shards_of

    root, settings, listed, _ = given_dataset(options, output_path)
    with local_instance() as instance:
        new = add_new_shards(instance, shards_of(root, settings), listed)
    click.echo(f"{len(new)} new shards registered" + "".join(f"\n{plain(shard_name(key))}" for key in new))
