"""The deployment's assets as plain Dagster has them: the same keys, shards, runs and checks, with nothing else of this
project. The history of one is that of the other, so that what Dagster itself needs for it can be measured.

A code location: `benchmarks.parts.plain`.
"""

from collections.abc import Iterator

import dagster as dg

from caption_assets.defs.pipeline import Pipeline
from caption_assets.settings.environment import deployed_settings


def _plain(definition: dg.AssetsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key=definition.key,
        deps=list(definition.dependency_keys),
        partitions_def=definition.partitions_def,
        backfill_policy=definition.backfill_policy,
        code_version=definition.code_versions_by_key[definition.key],
    )
    def plain() -> None: ...

    return plain


def _plain_checks(definition: dg.AssetChecksDefinition) -> dg.AssetChecksDefinition:
    specs = [
        dg.AssetCheckSpec(spec.name, asset=spec.asset_key, partitions_def=spec.partitions_def)
        for spec in definition.check_specs
    ]

    @dg.multi_asset_check(name=definition.op.name, specs=specs, can_subset=True)
    def plain(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        for check in context.selected_asset_check_keys:
            for shard in context.op_execution_context.partition_keys:
                said = dg.AssetCheckEvaluation(check.asset_key, check.name, passed=True, partition=shard)
                context.op_execution_context.log_event(said)  # type: ignore[arg-type]  # it takes them
        yield from ()

    return plain


_pipeline = Pipeline(deployed_settings())
_source = dg.AssetSpec(_pipeline.source.key, partitions_def=_pipeline.shards)
defs = dg.Definitions(
    assets=[_source, *map(_plain, _pipeline.assets)], asset_checks=list(map(_plain_checks, _pipeline.checks))
)
