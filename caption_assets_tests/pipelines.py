"""Runs of a pipeline's assets in this process, for tests."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from caption_assets.defs.build import build_defs
from caption_assets.defs.partitions import range_tags, registered_shards
from caption_assets.defs.pipeline import Pipeline
from caption_assets.store.tables import SHARD_REVIEW, TABLES

QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}


def materialize(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    shards: Sequence[str],
    steps: Collection[str] = tuple(TABLES),
    config: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    tags: Mapping[str, str] = MappingProxyType({}),
) -> dg.ExecuteInProcessResult:
    """One run of the assets of `steps` for `shards`, which are registered first; `config` is for all of a step."""
    known = registered_shards(instance, pipeline.shards)
    instance.add_dynamic_partitions(pipeline.shards.name or "", [s for s in shards if s not in known])
    chosen = [made for made in pipeline.made if made.step.name in steps]
    ops = {m.definition.op.name: {"config": dict(config[m.step.name])} for m in chosen if m.step.name in config}
    return dg.materialize(
        pipeline.assets,
        selection=[made.definition for made in chosen],
        instance=instance,
        resources=pipeline.resources,
        run_config={"ops": ops, "loggers": QUIET},
        raise_on_error=False,
        partition_key=shards[0] if len(shards) == 1 else None,
        tags={**tags, **(range_tags(tuple(shards)) if len(shards) > 1 else {})},
    )


_running: dict[str, Pipeline] = {}


def job_of_running(dataset: str) -> dg.JobDefinition:
    """For Dagster, which makes jobs itself and keeps them by what it gives here."""
    pipeline = _running[dataset]
    defs = build_defs(pipeline.settings, pipeline.resources)
    return defs.resolve_job_def(pipeline.names.of("caption_shards"))


def run_job(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    shards: Sequence[str],
    steps: Collection[str] = tuple(TABLES),
    resumed: str | None = None,
    exports: bool = False,
) -> dg.DagsterRun:
    """A run of the pipeline's job, by the executor that it has, for registered `shards`, or of a run's failed steps.

    It makes the assets of `steps`, and exports where asked for.
    """
    dataset = pipeline.settings.dataset
    _running[dataset] = pipeline
    with dg.execute_job(
        dg.build_reconstructable_job(__name__, job_of_running.__name__, (dataset,)),
        instance=instance,
        asset_selection=[
            *(asset.key for asset in _of_steps(pipeline, steps)),
            *(asset.key for asset in pipeline.exports if exports),
        ],
        tags=range_tags(tuple(shards)),
        run_config={"loggers": QUIET},
        reexecution_options=dg.ReexecutionOptions.from_failure(resumed, instance) if resumed else None,
    ) as result:
        return result.dagster_run


def asset_key(pipeline: Pipeline, step: str) -> dg.AssetKey:
    """The first asset of a step; of a pipeline with one model, the only one."""
    return _of_steps(pipeline, [step])[0].key


def _of_steps(pipeline: Pipeline, steps: Collection[str]) -> list[dg.AssetsDefinition]:
    review = [pipeline.review] if SHARD_REVIEW.name in steps else []
    return [*(made.definition for made in pipeline.made if made.step.name in steps), *review]


def materialized(instance: dg.DagsterInstance, pipeline: Pipeline, step: str) -> set[str]:
    """The shards whose asset of a step is materialized."""
    return set(instance.get_materialized_partitions(asset_key(pipeline, step)))


def materialization(instance: dg.DagsterInstance, pipeline: Pipeline, step: str, shard: str) -> dg.AssetMaterialization:
    """The latest one."""
    filtered = dg.AssetRecordsFilter(asset_key(pipeline, step), asset_partitions=[shard])
    return instance.fetch_materializations(filtered, limit=1).records[0].asset_materialization


def metadata(instance: dg.DagsterInstance, pipeline: Pipeline, step: str, shard: str) -> Mapping[str, Any]:
    """That of the latest materialization."""
    return materialization(instance, pipeline, step, shard).metadata


class Sensor:
    """The pipeline's sensor, which is evaluated as Dagster's daemon does it."""

    def __init__(self, instance: dg.DagsterInstance, pipeline: Pipeline) -> None:
        self._instance, self._pipeline, self._cursor = instance, pipeline, None
        self.definition = build_defs(pipeline.settings).resolve_sensor_def(pipeline.names.of("register_new_shards"))

    def tick(self, *, pause: bool = False) -> dg.SensorResult:
        """With `pause`, a look at all shards may still be too short a time ago for another one."""
        cursor = self._cursor if pause else None
        clips = {name: self._pipeline.resources[name] for name in self.definition.required_resource_keys}
        with dg.build_sensor_context(self._instance, cursor=cursor, resources=clips) as context:
            found = self.definition.evaluate_tick(context)
        for event in found.asset_events:
            self._instance.report_runless_asset_event(event)
        for request in found.dynamic_partitions_requests or []:
            self._instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
        self._cursor = found.cursor
        return found


def stale(instance: dg.DagsterInstance, pipeline: Pipeline) -> dict[str, list[str]]:
    """What Dagster takes to be missing or stale, by registered shard."""
    graph = build_defs(pipeline.settings).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    return {
        shard: [n for n in TABLES if resolver.get_status(asset_key(pipeline, n), shard) != StaleStatus.FRESH]
        for shard in registered_shards(instance, pipeline.shards)
    }
