"""The dataset as an asset of its own: Dagster is told the version of each shard's listing, and so what has changed.

A look at a dataset lists files and reads none. What it finds to have changed is an observation of the shard; all that
was made of another listing is then stale.
"""

import time
from collections.abc import Mapping, Sequence

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from pydantic import BaseModel

from caption_assets.dataset import NO_CLIPS, Dataset
from caption_assets.defs.names import Names
from caption_assets.defs.partitions import registered_shards

MOST_CHANGES = 500
"""Of one tick of the sensor, which then ends within the minute that it has: on SQLite, an event takes 15 ms."""
_LIST_SECONDS = 10.0
# Times as long as a look at all shards took is the pause after it.
_PAUSE = 20.0
# Where it takes longer to say which shards there are, that rests, too.
_QUICK_SECONDS = 1.0


def source_asset(names: Names, shards: dg.DynamicPartitionsDefinition, tags: Mapping[str, str]) -> dg.SourceAsset:
    """The clips of a dataset, with `tags` of the catalog; to observe it is to look at all its shards."""
    key, clips = names.source, names.of("clips")

    @dg.observable_source_asset(
        key=key,
        partitions_def=shards,
        group_name=names.group,
        required_resource_keys={clips},
        description="The dataset's clips. A shard's data version is that of its listing: paths, sizes and times of "
        "change, or ETags. The sensor looks for changes; Observe looks at all shards at once.",
        tags={"dagster/kind/mp4": "", **tags},
    )
    def observe(context: dg.OpExecutionContext) -> dg.DataVersionsByPartition:
        dataset: Dataset = getattr(context.resources, clips).dataset()
        there = dict(dataset.versions(dataset.shards()))
        known = observed_versions(context.instance, key)
        registered = registered_shards(context.instance, shards)
        found = {shard: there.get(shard, NO_CLIPS) for shard in registered}
        return dg.DataVersionsByPartition({s: version for s, version in found.items() if version != known.get(s)})

    return observe


def observed_versions(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, str]:
    """The latest version that Dagster was told of each shard's listing."""
    return _observed(instance, key, None)


def observed(instance: dg.DagsterInstance, key: dg.AssetKey, shard: str) -> str | None:
    """The same for one shard."""
    return _observed(instance, key, [shard]).get(shard)


def _observed(instance: dg.DagsterInstance, key: dg.AssetKey, shards: Sequence[str] | None) -> dict[str, str]:
    tags = instance.event_log_storage.get_latest_tags_by_partition(
        key, dg.DagsterEventType.ASSET_OBSERVATION, [DATA_VERSION_TAG], shards
    )
    return {shard: of_shard[DATA_VERSION_TAG] for shard, of_shard in tags.items()}


def observation(key: dg.AssetKey, shard: str, version: str) -> dg.AssetObservation:
    """The event that says which listing a shard has."""
    return dg.AssetObservation(key, partition=shard, tags={DATA_VERSION_TAG: version})


class Look(BaseModel):
    """How far a look at all shards has come; a part of it is done in each tick, and then there is a pause.

    `next_shard` is where to go on, `spent_s` what the look has taken so far, `pause_until` is in seconds since 1970,
    and `listed_s` is what it took to say which shards there are.
    """

    next_shard: str | None = None
    spent_s: float = 0.0
    pause_until: float = 0.0
    listed_s: float = 0.0

    def rests(self, now: float) -> bool:
        """Whether not even new shards are looked for: of a dataset that is listed as a whole, that takes long."""
        return self.listed_s > _QUICK_SECONDS and now < self.pause_until

    def go_on(
        self, dataset: Dataset, shards: Sequence[str], known: Mapping[str, str], now: float, listed_s: float = 0.0
    ) -> tuple[dict[str, str], "Look"]:
        """Versions of shards, all those of the dataset, that are not as `known`, and how far it has come now.

        Raises DatasetError where the dataset cannot be read.
        """
        if now < self.pause_until:
            return {}, self
        changed: dict[str, str] = {}
        began = time.monotonic()
        start = next((number for number, shard in enumerate(shards) if shard == self.next_shard), 0)
        for number, (shard, version) in enumerate(dataset.versions(shards, start), start + 1):
            if version != known.get(shard):
                changed[shard] = version
            spent = time.monotonic() - began
            if number < len(shards) and (spent > _LIST_SECONDS or len(changed) >= MOST_CHANGES):
                return changed, Look(next_shard=shards[number], spent_s=self.spent_s + spent)
        spent = self.spent_s + time.monotonic() - began + listed_s
        return changed, Look(pause_until=now + _PAUSE * spent, listed_s=listed_s)
