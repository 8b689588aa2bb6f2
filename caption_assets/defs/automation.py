"""Jobs that people start, and what starts by itself: new shards are registered, missing ones are asked for."""

from collections.abc import Iterator

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition as Job

from caption_assets.defs.partitions import range_tags, ranges, registered_shards
from caption_assets.defs.pipeline import Pipeline
from caption_assets.errors import DatasetError

SHARDS_PER_RUN = 16


def job_of(pipeline: Pipeline) -> Job:
    """A run of everything."""
    return dg.define_asset_job(
        pipeline.names.of("caption_shards"),
        selection=dg.AssetSelection.assets(*pipeline.assets),
        description="Windows, previews, captions and enhanced captions of the chosen shards.",
    )


def sensor_of(pipeline: Pipeline) -> dg.SensorDefinition:
    """Registers the dataset's shards."""
    clips = pipeline.names.of("clips")

    @dg.sensor(
        name=pipeline.names.of("register_new_shards"),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Registers new folders of the dataset as shards. Never removes one.",
        required_resource_keys={clips},
    )
    def register_new_shards(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            shards = getattr(context.resources, clips).dataset().shards()
        except DatasetError as error:
            return dg.SkipReason(str(error))
        known = set(registered_shards(context.instance, pipeline.shards))
        new = [shard for shard in shards if shard not in known]
        if not new:
            return dg.SkipReason(f"all {len(shards)} shards are registered")
        return dg.SensorResult(dynamic_partitions_requests=[pipeline.shards.build_add_request(new)])

    return register_new_shards


def schedule_of(pipeline: Pipeline, job: Job) -> dg.ScheduleDefinition:
    """Asks for what is missing, by `job`."""
    clips = pipeline.names.of("clips")

    @dg.schedule(
        name=pipeline.names.of("missing_shards"),
        cron_schedule="0 2 * * *",
        job=job,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Asks for the registered shards of the dataset that lack any of the assets.",
        required_resource_keys={clips},
    )
    def missing_shards(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        try:
            present = set(getattr(context.resources, clips).dataset().shards())
        except DatasetError as error:
            yield dg.SkipReason(str(error))
            return
        registered = registered_shards(context.instance, pipeline.shards)
        done = set.intersection(*(context.instance.get_materialized_partitions(a.key) for a in pipeline.assets))
        missing = [shard for shard in registered if shard in present and shard not in done]
        if not missing:
            yield dg.SkipReason("no registered shard of the dataset lacks an asset")
        for keys in ranges(missing, registered, SHARDS_PER_RUN):
            run_key = f"{context.scheduled_execution_time.isoformat()} {keys[0]}"
            yield dg.RunRequest(run_key=run_key, tags=range_tags(keys))

    return missing_shards
