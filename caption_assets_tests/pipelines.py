"""Runs of a pipeline's assets in this process, for tests."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import dagster as dg

from caption_assets.defs.partitions import range_tags, registered_shards
from caption_assets.defs.pipeline import Pipeline
from caption_assets.store.tables import TABLES

QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}


def materialize(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    shards: Sequence[str],
    steps: Collection[str] = tuple(TABLES),
    config: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    **more: Any,
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
        **({"partition_key": shards[0]} if len(shards) == 1 else {"tags": range_tags(tuple(shards))}),
        **more,
    )


def asset_key(pipeline: Pipeline, step: str) -> dg.AssetKey:
    """The first asset of a step; of a pipeline with one model, the only one."""
    return next(made.definition.key for made in pipeline.made if made.step.name == step)


def materialized(instance: dg.DagsterInstance, pipeline: Pipeline, step: str) -> set[str]:
    """The shards whose asset of a step is materialized."""
    return set(instance.get_materialized_partitions(asset_key(pipeline, step)))


def metadata(instance: dg.DagsterInstance, pipeline: Pipeline, step: str, shard: str) -> Mapping[str, Any]:
    """That of the latest materialization."""
    filtered = dg.AssetRecordsFilter(asset_key(pipeline, step), asset_partitions=[shard])
    return instance.fetch_materializations(filtered, limit=1).records[0].asset_materialization.metadata
