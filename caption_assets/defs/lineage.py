"""What the instance knows of how shards were made: by which events Dagster tells whether they are up to date, and
which of them the steps of a run before this one have failed to make."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import extract_data_version_from_entry

from caption_assets.defs.tags import LIMIT_TAG

FAILED_SHARDS = "failed_shards"
"""The metadata of a step's failure that says why each shard has failed, by shard."""
_LOOKED_BACK = 3
_MATERIALIZED = dg.DagsterEventType.ASSET_MATERIALIZATION


def event_pointer(instance: dg.DagsterInstance, key: dg.AssetKey, is_source: bool, shard: str, version: str) -> str:
    """Names the event of an input's shard that told of `version`, which was read.

    Dagster takes an asset to be stale once an event after that one tells of another version. So where the input has
    been made anew since it was read, this is not its latest event.
    """
    fetch = instance.fetch_observations if is_source else instance.fetch_materializations
    records = fetch(dg.AssetRecordsFilter(key, asset_partitions=[shard]), limit=_LOOKED_BACK).records
    for record in records:
        found = extract_data_version_from_entry(record.event_log_entry)
        if found is not None and found.value == version:
            return str(record.storage_id)
    return str(records[-1].storage_id - 1) if records else "NULL"


def failed_before(context: dg.AssetExecutionContext, inputs: Iterable[dg.AssetKey]) -> dict[str, str]:
    """Shards that an earlier step of this run, which makes one of `inputs`, has failed in, and why."""
    failed: dict[str, str] = {}
    made_here = {key for key in context.assets_def.dependency_keys if is_made_by(context, key)}
    steps = [key.to_python_identifier() for key in made_here]
    # By its config, a step may have made another asset than its own.
    others = context.assets_def.dependency_keys - made_here
    for key in [key for key in inputs if key not in others] if steps else []:
        # A run that is about a part of each shard makes none, and says what it has seen.
        told = dg.DagsterEventType.ASSET_OBSERVATION if LIMIT_TAG in context.run.tags else _MATERIALIZED
        made = context.instance.get_asset_event_summary_records(told, asset_key=key, run_id=context.run.run_id)
        missing = set(context.partition_keys) - {record.partition for record in made}
        if missing:
            why, otherwise = _failures(context, steps)
            failed |= {shard: why.get(shard, otherwise) for shard in missing}
    return failed


def is_made_by(context: dg.AssetExecutionContext, key: dg.AssetKey) -> bool:
    """Whether a step of this run makes an asset."""
    op, chosen = key.to_python_identifier(), context.run.step_keys_to_execute
    return op in context.job_def.graph.node_names() and (chosen is None or op in chosen)


def _failures(context: dg.AssetExecutionContext, steps: Sequence[str]) -> tuple[Mapping[str, str], str]:
    """What one of `steps` of this run has said of each shard that failed in it, and what goes for all others."""
    for entry in context.instance.all_logs(context.run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        if event is not None and event.step_key in steps and (said := event.step_failure_data.user_failure_data):
            failed: Any = said.metadata.get(FAILED_SHARDS)
            return (failed.value if failed else {}), said.description or event.message or ""
    return {}, f"{' and '.join(steps)} failed in this run"
