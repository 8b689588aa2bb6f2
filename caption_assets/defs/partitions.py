"""The shards as Dagster partitions: one registry of them a dataset."""

import dagster as dg

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
