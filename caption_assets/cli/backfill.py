"""The command `caption-assets backfill`: has Dagster make shards, as a backfill of its UI does."""

import click

from caption_assets.cli.shards import chosen_shards
from caption_assets.settings.environment import deployed_settings
from caption_assets.steps.sharding import dataset_for


@click.command()
@click.option("--shard", "named", multiple=True, help="A shard, by its folder's name or by its key; by default all.")
@click.option(
    "--missing",
    is_flag=True,
    help="Only shards that lack an asset, or have one that is out of date, and that nothing makes or waits to make.",
)
def backfill(named: tuple[str, ...], missing: bool) -> None:
    """Ask Dagster for all assets of shards, as Materialize all does: many shards a run, a start of a model a run.

    Dataset, output and models are those of the deployment: of its settings file and the environment. The daemon of that
    instance works on it: `caption-assets ui` or `dagster dev`.
    """
    # Dagster takes a second or two to import.
    from caption_assets.defs.backfills import ask_for_backfill
    from caption_assets.defs.build import build_defs
    from caption_assets.defs.instance import local_instance
    from caption_assets.defs.partitions import add_new_shards
    from caption_assets.defs.pipeline import Pipeline
    from caption_assets.defs.work import Work

    settings = deployed_settings()
    dataset, pipeline = dataset_for(settings.dataset, settings.clips, settings.output), Pipeline(settings)
    shards, keys = chosen_shards(dataset, named), [asset.key for asset in pipeline.assets]
    with local_instance() as instance:
        add_new_shards(instance, pipeline.shards, dataset)
        defs = build_defs(settings)
        work = Work.of(instance, defs, pipeline.settings_hash)
        if missing:
            outdated = work.outdated(keys)
            shards = [shard for shard in shards if shard in outdated]
        busy = work.busy(keys) & set(shards)
        if busy:
            what = f"{len(busy)} shards are being made or wait" if len(busy) > 1 else "1 shard is being made or waits"
            click.echo(f"{what} to be made already: {'left out' if missing else 'made once more'}.")
        if missing:
            shards = [shard for shard in shards if shard not in busy]
        if not shards:
            click.echo(f"No {'other ' if busy else ''}shard lacks an asset, or has one that is out of date.")
            return
        asked = ask_for_backfill(instance, defs, keys, shards)
    click.echo(f"Backfill {asked} of {len(shards)} shard{'s' * (len(shards) > 1)} waits for Dagster's daemon.")
