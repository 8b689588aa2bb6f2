"""The deployment's assets as plain Dagster has them: the same keys, shards and runs, with nothing of this project about
them. The history of one is that of the other, so that what Dagster itself needs for it can be measured.

A code location: `benchmarks.parts.plain`.
"""

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


_pipeline = Pipeline(deployed_settings())
_source = dg.AssetSpec(_pipeline.source.key, partitions_def=_pipeline.shards)
defs = dg.Definitions(assets=[_source, *map(_plain, _pipeline.assets)])
