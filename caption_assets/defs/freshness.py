"""Which shards are out of date, as an asset check: Dagster's freshness policies know no shards.

It is a check of the dataset, so that no run has to look at all shards: the sensor does, and tells Dagster whenever the
answer is another one.
"""

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from caption_assets.defs.metadata import few, listed
from caption_assets.defs.pipeline import Pipeline
from caption_assets.defs.work import Work

CHECK = "shards_up_to_date"
_SECONDS_BETWEEN = 300


def freshness_check(pipeline: Pipeline) -> dg.AssetChecksDefinition:
    """The check, as a step that looks now."""

    @dg.asset_check(
        name=CHECK,
        asset=pipeline.source.key,
        description="Shards whose clips, inputs or settings have changed since they were made and, with the setting "
        "`fresh_within_hours`, those that were made longer ago or have been missing for so long. A sensor looks.",
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        found = evaluation(pipeline, context.op_execution_context.instance, time.time())
        return dg.AssetCheckResult(
            passed=found.passed, severity=found.severity, description=found.description, metadata=found.metadata
        )

    return check


def freshness_sensor(pipeline: Pipeline) -> dg.SensorDefinition:
    """Looks every few minutes."""

    @dg.sensor(
        name=pipeline.names.of("look_for_old_shards"),
        minimum_interval_seconds=_SECONDS_BETWEEN,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Evaluates the check `{CHECK}` of the dataset, and tells of it when the answer is another one.",
    )
    def look_for_old_shards(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        found = evaluation(pipeline, context.instance, time.time())
        told = [] if _latest(context.instance, found.asset_check_key) == found else [found]
        return dg.SensorResult(asset_events=told, skip_reason=found.description)

    return look_for_old_shards


def evaluation(pipeline: Pipeline, instance: dg.DagsterInstance, now: float) -> dg.AssetCheckEvaluation:
    """What the check says at a moment, in seconds since 1970; the same for as long as the same shards are out of date
    for the same reasons."""
    graph = AssetGraph.from_assets([pipeline.source, *pipeline.assets])
    work = Work.at(datetime.fromtimestamp(now, UTC), instance, graph, pipeline.settings_hash)
    hours, keys = pipeline.settings.fresh_within_hours, [asset.key for asset in pipeline.assets]
    found = {key: dict(_out_of_date(work, key, hours)) for key in keys}
    shards = sorted(set().union(*found.values()))
    return dg.AssetCheckEvaluation(
        asset_key=pipeline.source.key,
        check_name=CHECK,
        passed=not shards,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Out of date: {few(shards)}." if shards else "No shard is out of date.",
        metadata={
            "shards_out_of_date": len(shards),
            **{k.to_user_string(): _list(of) for k, of in found.items() if of},
        },
    )


def _out_of_date(work: Work, key: dg.AssetKey, hours: float | None) -> Iterator[tuple[str, str]]:
    """Shards of an asset, and why."""
    asset = work.asset(key)
    made = asset.history.latest
    yield from ((shard, why) for shard, why in asset.outdated.items() if shard in made)
    if hours is None:
        return
    limit, fresh = work.now - hours * 3600, [shard for shard in asset.registered if shard not in asset.outdated]
    for shard, at in asset.history.times(fresh).items():
        if at < limit:
            yield shard, f"it was made more than {hours:g} hours ago"
    missing = [shard for shard in asset.outdated if shard not in made]
    for shard, at in work.changed_at(key, missing).items():
        if 0 < at < limit:
            yield shard, f"it could have been made more than {hours:g} hours ago, and is missing"


def _list(of_asset: Mapping[str, str]) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md("\n".join(listed([f"{shard}: {why}" for shard, why in of_asset.items()])))


def _latest(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> Any:
    """What Dagster was told last."""
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).get(key)
    event = record.event.dagster_event if record and record.event else None
    return event.event_specific_data if event else None
