"""Jobs that people start, and what starts by itself: new shards are registered, missing ones are asked for."""

from collections.abc import Iterator

import dagster as dg

from caption_assets.defs.assets import ASSETS
from caption_assets.defs.partitions import SHARDS, range_tags, ranges
from caption_assets.defs.resources import ClipDataset
from caption_assets.errors import DatasetError

SHARDS_PER_RUN = 16

caption_shards = dg.define_asset_job(
    "caption_shards",
    selection=dg.AssetSelection.assets(*ASSETS),
    description="Windows, previews, captions and enhanced captions of the chosen shards.",
)


@dg.sensor(
    name="register_new_shards",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Registers new folders of the dataset as shards. Never removes one.",
)
def register_new_shards(context: dg.SensorEvaluationContext, clips: ClipDataset) -> dg.SensorResult | dg.SkipReason:
    try:
        shards = clips.dataset().shards()
    except DatasetError as error:
        return dg.SkipReason(str(error))
    known = set(context.instance.get_dynamic_partitions(SHARDS.name or ""))
    new = [shard for shard in shards if shard not in known]
    if not new:
        return dg.SkipReason(f"all {len(shards)} shards are registered")
    return dg.SensorResult(dynamic_partitions_requests=[SHARDS.build_add_request(new)])


@dg.schedule(
    name="missing_shards",
    cron_schedule="0 2 * * *",
    job=caption_shards,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Asks for the registered shards of the dataset that lack any of the four assets.",
)
def missing_shards(
    context: dg.ScheduleEvaluationContext, clips: ClipDataset
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    try:
        present = set(clips.dataset().shards())
    except DatasetError as error:
        yield dg.SkipReason(str(error))
        return
    registered = list(context.instance.get_dynamic_partitions(SHARDS.name or ""))
    done = set.intersection(*(context.instance.get_materialized_partitions(asset.key) for asset in ASSETS))
    missing = [shard for shard in registered if shard in present and shard not in done]
    if not missing:
        yield dg.SkipReason("no registered shard of the dataset lacks an asset")
    for keys in ranges(missing, registered, SHARDS_PER_RUN):
        yield dg.RunRequest(run_key=f"{context.scheduled_execution_time.isoformat()} {keys[0]}", tags=range_tags(keys))
