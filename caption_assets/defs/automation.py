"""Jobs that people start, and what starts by itself: shards are registered and looked at, work on them is asked for."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition as Job

from caption_assets.dataset import NO_CLIPS
from caption_assets.defs.as_they_come import DESCRIPTION
from caption_assets.defs.failures import failure_sensor
from caption_assets.defs.freshness import freshness_sensor
from caption_assets.defs.partitions import range_tags, ranges, registered_shards
from caption_assets.defs.pipeline import Pipeline
from caption_assets.defs.run_sizes import shards_per_run
from caption_assets.defs.source import MOST_CHANGES, Look, observation, observed_versions
from caption_assets.defs.work import SETTINGS_TAG, Work
from caption_assets.errors import DatasetError


def job_of(pipeline: Pipeline) -> Job:
    """A run of everything."""
    return dg.define_asset_job(
        pipeline.names.of("caption_shards"),
        selection=dg.AssetSelection.assets(*pipeline.assets),
        description="Windows, previews, captions, enhanced captions and the page of the chosen shards.",
    )


def sensors_of(pipeline: Pipeline) -> Sequence[dg.SensorDefinition]:
    """What looks at the dataset, at old shards, at what fails and, if it is to work by itself, at what to do."""
    settings = pipeline.settings
    sensors = [_looking(pipeline), freshness_sensor(pipeline), *([_working(pipeline)] if settings.automation else [])]
    return [*sensors, *([failure_sensor(pipeline, settings.failure_webhook)] if settings.failure_webhook else [])]


def _looking(pipeline: Pipeline) -> dg.SensorDefinition:
    clips, source = pipeline.names.of("clips"), pipeline.source.key

    @dg.sensor(
        name=pipeline.names.of("register_new_shards"),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Registers new folders of the dataset as shards, and looks for clips that were added, changed or "
        "removed. Never removes a shard.",
        required_resource_keys={clips},
    )
    def register_new_shards(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        look = Look.model_validate_json(context.cursor or "{}")
        if look.rests(time.time()):
            return dg.SkipReason(f"the dataset took {look.listed_s:.0f} s to list, and is left alone for a while")
        known = observed_versions(context.instance, source)
        try:
            dataset, began = getattr(context.resources, clips).dataset(), time.monotonic()
            shards = dataset.shards()
            changed, look = look.go_on(dataset, shards, known, time.time(), time.monotonic() - began)
        except DatasetError as error:
            return dg.SkipReason(str(error))
        registered = set(registered_shards(context.instance, pipeline.shards))
        new = [shard for shard in shards if shard not in registered]
        gone = [shard for shard in sorted(registered - set(shards)) if known.get(shard) != NO_CLIPS]
        changed |= dict.fromkeys(gone[:MOST_CHANGES], NO_CLIPS)
        return dg.SensorResult(
            dynamic_partitions_requests=[pipeline.shards.build_add_request(new)] if new else [],
            asset_events=[observation(source, shard, version) for shard, version in changed.items()],
            skip_reason=f"all {len(shards)} shards are registered, {len(new)} of them now; "
            f"the listings of {len(changed)} are new or have changed",
            cursor=look.model_dump_json(),
        )

    return register_new_shards


def _working(pipeline: Pipeline) -> dg.SensorDefinition:
    return dg.AutomationConditionSensorDefinition(
        pipeline.names.of("work_on_shards"),
        target=dg.AssetSelection.assets(*pipeline.assets),
        description=DESCRIPTION,
        default_status=dg.DefaultSensorStatus.RUNNING,
        use_user_code_server=True,  # the condition is this project's own
        run_tags={SETTINGS_TAG: pipeline.settings_hash},
    )


def schedule_of(pipeline: Pipeline, job: Job) -> dg.ScheduleDefinition:
    """Asks for what is missing or out of date, by `job`."""

    @dg.schedule(
        name=pipeline.names.of("missing_shards"),
        cron_schedule="0 2 * * *",
        job=job,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Asks for the assets of all shards that are missing or out of date, and for none that is in "
        "progress. A shard that has failed is asked for again after a day, then after two, four and so on.",
    )
    def missing_shards(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        moment, graph = context.scheduled_execution_time, context.repository_def.asset_graph
        work = Work.at(moment, context.instance, graph, pipeline.settings_hash)
        wanted = work.all_ready([asset.key for asset in pipeline.assets])
        if not wanted:
            yield dg.SkipReason("no shard lacks an asset, or has one that is out of date and can be made now")
        alike: dict[frozenset[dg.AssetKey], list[str]] = defaultdict(list)
        for shard, lacking in wanted.items():
            alike[frozenset(lacking)].append(shard)
        registered = registered_shards(context.instance, pipeline.shards)
        for assets, shards in alike.items():
            chosen = [asset.key for asset in pipeline.assets if asset.key in assets]
            for keys in ranges(shards, registered, shards_per_run(pipeline.settings)):
                yield dg.RunRequest(
                    run_key=f"{context.scheduled_execution_time.isoformat()} {keys[0]}",
                    asset_selection=chosen,
                    tags={SETTINGS_TAG: pipeline.settings_hash, **range_tags(keys)},
                )

    return missing_shards
