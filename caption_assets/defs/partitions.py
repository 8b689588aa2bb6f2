"""The shards as Dagster partitions: one registry of them a dataset."""

from collections.abc import Iterable

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from caption_assets.dataset import Dataset, dataset_name
from caption_assets.settings import DatasetSettings


def shards_of(root: str, settings: DatasetSettings) -> dg.DynamicPartitionsDefinition:
    """The shards of the dataset at `root`, whatever pipeline is at work on it. With another rule it has others."""
    return dg.DynamicPartitionsDefinition(name=dataset_name(root, settings.rule))


def registered_shards(instance: dg.DagsterInstance, shards: dg.DynamicPartitionsDefinition) -> list[str]:
    """Partition keys that the instance knows, in its order."""
    return list(instance.get_dynamic_partitions(shards.name or ""))


def add_new_shards(instance: dg.DagsterInstance, shards: dg.DynamicPartitionsDefinition, dataset: Dataset) -> list[str]:
    """Registers shards that the instance does not know yet; returns their keys.

    Only adds: removing a key would orphan its history and invalidate queued range runs.
    """
    known = set(registered_shards(instance, shards))
    new = [key for key in dataset.shards() if key not in known]
    if new:
        instance.add_dynamic_partitions(shards.name or "", new)
    return new


def gone_shards(
    instance: dg.DagsterInstance, shards: dg.DynamicPartitionsDefinition, dataset: Dataset, but_run: str = ""
) -> tuple[list[str], str]:
    """Registered shards that the dataset has no longer; none, and why, where a run may be about to work on them.

    Removing a key orphans its history and invalidates range runs that are queued. `but_run` is the run that asks.
    """
    gone = sorted(set(registered_shards(instance, shards)) - set(dataset.shards()))
    active = dg.RunsFilter(
        statuses=[*IN_PROGRESS_RUN_STATUSES, dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
    )
    runs = [run.run_id for run in instance.get_runs(active) if run.run_id != but_run] if gone else []
    if runs:
        return [], f"{len(gone)} partitions: {len(runs)} runs are queued or in progress ({runs[0]})"
    return gone, ""


def remove_shards(instance: dg.DagsterInstance, shards: dg.DynamicPartitionsDefinition, gone: Iterable[str]) -> None:
    """Removes shards from the registry."""
    for shard in gone:
        instance.delete_dynamic_partition(shards.name or "", shard)


def ranges(keys: list[str], order: list[str], most: int | None = None) -> list[tuple[str, ...]]:
    """`keys` in runs that are contiguous in `order`, of at most `most` keys; a run of shards is one Dagster run."""
    wanted = set(keys)
    positions = [position for position, key in enumerate(order) if key in wanted]
    groups: list[list[int]] = []
    for position in positions:
        if groups and position == groups[-1][-1] + 1 and (most is None or len(groups[-1]) < most):
            groups[-1].append(position)
        else:
            groups.append([position])
    return [tuple(order[position] for position in group) for group in groups]


def range_tags(keys: tuple[str, ...]) -> dict[str, str]:
    """The run tags that ask for a contiguous range of shards."""
    return {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
