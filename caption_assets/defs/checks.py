"""Asset checks: what the steps' checks say of each shard of a run, told to Dagster shard by shard.

They are steps of their own, after the assets that they are about, and can be run without these. They read what is
stored, report, and hold nothing up: texts that are of no use are left out one by one, by whoever reads them.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as Target,
)

from caption_assets.defs.assets import PipelineAsset
from caption_assets.defs.metadata import as_markdown, few
from caption_assets.defs.names import Names
from caption_assets.defs.placing import on_hardly_anything
from caption_assets.defs.reporting import failed_step
from caption_assets.errors import CaptionAssetsError
from caption_assets.settings import CheckSettings, PipelineSettings, part
from caption_assets.steps.checked import Checked, ShardTables
from caption_assets.steps.checks import CHECKS, check_table

_SEVERITIES = {"error": dg.AssetCheckSeverity.ERROR, "warning": dg.AssetCheckSeverity.WARN}
_EXAMPLE_BYTES = 600


def asset_checks(
    pipeline: PipelineSettings, assets: Sequence[PipelineAsset], names: Names, shards: dg.PartitionsDefinition
) -> list[dg.AssetChecksDefinition]:
    """The checks of a pipeline's assets: one step for each asset, of which people may choose single checks."""
    return [_checks_of(made, names, shards, on_hardly_anything(pipeline)) for made in assets]


def _checks_of(
    made: PipelineAsset, names: Names, shards: dg.PartitionsDefinition, given: Mapping[str, Any]
) -> dg.AssetChecksDefinition:
    asset, table = made.definition.key, made.step.table
    key = "/".join(made.choice.keys[: len(table.key_columns)]) or None
    specs = [
        dg.AssetCheckSpec(check.name, asset=asset, description=check.about, partitions_def=shards)
        for check in CHECKS[table.name]
    ]

    @dg.multi_asset_check(
        name=f"{made.definition.op.name}_checks",
        specs=specs,
        can_subset=True,
        required_resource_keys={names.of(word) for word in ("save_export", "checks", "progress")},
        **given,
    )
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        of_run = context.op_execution_context
        resources = [getattr(of_run.resources, names.of(word)) for word in ("save_export", "checks", "progress")]
        place, settings, progress = resources
        wanted = {check.name for check in context.selected_asset_check_keys}
        unread: list[CaptionAssetsError] = []
        found: dict[str, list[Checked]] = defaultdict(list)
        for shard in _shards(of_run, asset):
            try:
                tables = ShardTables(place.place(), shard)
                results = check_table(tables, table.name, key, part(settings, CheckSettings))
            except CaptionAssetsError as error:
                of_run.log.error(str(error))
                unread.append(error)
                continue
            if not results:
                of_run.log.info(f"{asset.to_user_string()} of shard {shard!r}: there is no table to check.")
            target = _latest(of_run.instance, asset, shard) if results else None
            for checked in results:
                if checked.check in wanted:
                    progress.checked(checked)
                    found[checked.check].append(checked)
                    of_run.log_event(_evaluation(asset, checked, target))  # type: ignore[arg-type]  # it takes them
        if unread:
            raise failed_step(" ".join(map(str, unread)), unread)
        if not _has_shards(of_run):
            for of_check in found.values():
                of_run.log_event(_summary(asset, of_check))  # type: ignore[arg-type]
        # Results would be of the whole run: each shard has had its own by now.
        yield from ()

    return checks


def _shards(of_run: dg.OpExecutionContext, asset: dg.AssetKey) -> Sequence[str]:
    """Those of the run; of one without any, as *Execute all* in the UI makes them, all that there are of the asset."""
    return of_run.partition_keys if _has_shards(of_run) else sorted(of_run.instance.get_materialized_partitions(asset))


def _has_shards(of_run: dg.OpExecutionContext) -> bool:
    return of_run.has_partition_key or of_run.has_partition_key_range


def _summary(asset: dg.AssetKey, of_check: Sequence[Checked]) -> dg.AssetCheckEvaluation:
    """How many shards pass a check, and which do not."""
    failed = [checked.shard for checked in of_check if not checked.passed]
    said = f"{len(failed)} of {len(of_check)} shards do not pass: {few(failed)}." if failed else "All shards pass."
    severity, check = _SEVERITIES[of_check[0].severity], of_check[0].check
    return dg.AssetCheckEvaluation(asset, check, passed=not failed, severity=severity, description=said)


def _evaluation(asset: dg.AssetKey, checked: Checked, target: Target | None) -> dg.AssetCheckEvaluation:
    judgement = checked.judgement
    metadata: dict[str, Any] = dict(judgement.figures)
    if judgement.worst:
        worst = "\n".join(f"- {as_markdown(item, _EXAMPLE_BYTES)}" for item in judgement.worst)
        metadata["worst"] = dg.MetadataValue.md(worst)
    return dg.AssetCheckEvaluation(
        asset_key=asset,
        check_name=checked.check,
        passed=checked.passed,
        severity=_SEVERITIES[checked.severity],
        description=f"{judgement.said[0].upper()}{judgement.said[1:]}.",
        metadata=metadata,
        target_materialization_data=target,
        partition=checked.shard,
    )


def _latest(instance: dg.DagsterInstance, asset: dg.AssetKey, shard: str) -> Target | None:
    """The materialization that is checked, as Dagster names it."""
    wanted = dg.AssetRecordsFilter(asset, asset_partitions=[shard])
    for record in instance.fetch_materializations(wanted, limit=1).records:
        entry = record.event_log_entry
        return Target(run_id=entry.run_id, storage_id=record.storage_id, timestamp=record.timestamp)
    return None
