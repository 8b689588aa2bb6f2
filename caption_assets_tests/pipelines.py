"""Runs of a pipeline's assets in this process, for tests."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import dagster as dg

from caption_assets.defs.build import build_defs
from caption_assets.defs.partitions import range_tags, registered_shards
from caption_assets.defs.pipeline import Pipeline
from caption_assets.store.tables import TABLES

QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}
SMALL = {
    "clip_windows": {"window_size": 64, "remainder_threshold": 32},
    "window_captions": {"max_output_tokens": 4},
    "enhanced_captions": {"max_output_tokens": 4},
}


def materialize(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    shards: Sequence[str],
    steps: Collection[str] = tuple(TABLES),
    config: Mapping[str, Mapping[str, Any]] = SMALL,
    **more: Any,
) -> dg.ExecuteInProcessResult:
    """One run of the assets that `steps` names, with their `config`, for `shards`, which are registered first."""
    known = registered_shards(instance, pipeline.shards)
    instance.add_dynamic_partitions(pipeline.shards.name or "", [s for s in shards if s not in known])
    chosen = [asset for asset in pipeline.assets if asset.key.path[-1] in steps]
    ops = {a.op.name: {"config": dict(config[a.key.path[-1]])} for a in chosen if a.key.path[-1] in config}
    return dg.materialize(
        pipeline.assets,
        selection=chosen,
        instance=instance,
        resources=pipeline.resources,
        run_config={"ops": ops, "loggers": QUIET},
        raise_on_error=False,
        **({"partition_key": shards[0]} if len(shards) == 1 else {"tags": range_tags(tuple(shards))}),
        **more,
    )


_running: list[Pipeline] = []


def _job_of_running() -> dg.JobDefinition:
    (pipeline,) = _running
    defs = build_defs(pipeline.settings, pipeline.resources)
    return defs.resolve_job_def(pipeline.names.of("caption_shards"))


def run_job(
    instance: dg.DagsterInstance, pipeline: Pipeline, shards: Sequence[str], resumed: str | None = None
) -> dg.DagsterRun:
    """A run of the pipeline's job, by the executor that it has, for registered `shards`, or of a run's failed steps."""
    config = {pipeline.names.op(step): {"config": dict(of_step)} for step, of_step in SMALL.items()}
    _running[:] = [pipeline]
    with dg.execute_job(
        dg.reconstructable(_job_of_running),
        instance=instance,
        tags=range_tags(tuple(shards)),
        run_config={"ops": config, "loggers": QUIET},
        reexecution_options=dg.ReexecutionOptions.from_failure(resumed, instance) if resumed else None,
    ) as result:
        return result.dagster_run


def materialized(instance: dg.DagsterInstance, pipeline: Pipeline, step: str) -> set[str]:
    """The shards whose asset of a step is materialized."""
    return set(instance.get_materialized_partitions(pipeline.names.asset(step)))


def metadata(instance: dg.DagsterInstance, pipeline: Pipeline, step: str, shard: str) -> Mapping[str, Any]:
    """That of the latest materialization."""
    filtered = dg.AssetRecordsFilter(pipeline.names.asset(step), asset_partitions=[shard])
    return instance.fetch_materializations(filtered, limit=1).records[0].asset_materialization.metadata
