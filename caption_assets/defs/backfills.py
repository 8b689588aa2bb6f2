"""Backfills: asked for from the command line, and how one gets on as a whole, of which a run makes some shards."""

import time
from collections.abc import Collection, Mapping, Sequence

import dagster as dg
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster._core.utils import make_new_backfill_id

from caption_assets.defs.history import History
from caption_assets.steps.progress import seconds_left
from caption_assets.steps.progress_log import duration


def ask_for_backfill(
    instance: dg.DagsterInstance, assets: dg.Definitions, keys: Sequence[dg.AssetKey], shards: Sequence[str]
) -> str:
    """Has Dagster's daemon make the assets `keys` of registered shards, as *Materialize all* does: neighbouring shards
    are one run. Returns the backfill's id."""
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id=make_new_backfill_id(),
        asset_graph=assets.resolve_asset_graph(),
        partition_names=shards,
        asset_selection=keys,
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill)
    return backfill.backfill_id


def backfill_sentence(instance: dg.DagsterInstance, run: dg.DagsterRun, asset: dg.AssetKey) -> str:
    """How many of its shards have the asset since it began, and how long the rest will take; empty for another run."""
    backfill = instance.get_backfill(run.tags.get(BACKFILL_ID_TAG, ""))
    data = backfill.asset_backfill_data if backfill else None
    target = data.target_subset.partitions_subsets_by_asset_key.get(asset) if data else None
    if backfill is None or target is None:
        return ""
    shards = set(target.get_partition_keys())
    history = History(instance, asset)
    times = history.times(shard for shard in shards if shard in history.latest)
    return in_words(asset.to_user_string(), shards, times, backfill.backfill_timestamp, time.time())


def in_words(asset: str, shards: Collection[str], times: Mapping[str, float], began: float, now: float) -> str:
    """The sentence, by when each shard was made last, in seconds since 1970."""
    ended = sorted(at for shard, at in times.items() if shard in shards and at >= began)
    text = f"The backfill: {asset} of {len(ended):,} of {len(shards):,} shards is made"
    # The first one only sets the clock: before it, engines started.
    left = seconds_left([(at, made) for made, at in enumerate(ended, 1)], len(shards) - len(ended), now)
    return f"{text}, about {duration(left)} left." if left is not None else f"{text}."
