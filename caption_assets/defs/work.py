"""What is to be done: which shards are missing or out of date, can be made now, and are not being made already.

Of the schedule and of automation alike. It is read from the instance alone: what is there and what is not, of which
versions, is in its events; what is in progress and what has failed, in its runs.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property

import dagster as dg
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph, BaseAssetNode
from dagster._core.definitions.temporal_context import TemporalContext

from caption_assets.dataset import NO_CLIPS
from caption_assets.defs.history import Attempt, History
from caption_assets.defs.tags import LIMIT_TAG

SETTINGS_TAG = "caption_assets/settings_hash"
"""On runs that nobody but this project has asked for: names the settings that they were made with."""
_DAY = timedelta(days=1)
_LONGEST_PAUSE = 32 * _DAY
# So that a schedule finds a shard on its day, though the run before has begun a little after the schedule's time.
_SLACK = timedelta(hours=1)


class Work:
    """What is to be done at one moment, by asset. The source of all is the only asset that is only observed."""

    def __init__(self, view: AssetGraphView, settings_hash: str) -> None:
        """`settings_hash` is the pipeline's: what has failed with other settings may work with these."""
        self._view, self._settings_hash = view, settings_hash
        self._assets: dict[dg.AssetKey, _Asset] = {}

    @classmethod
    def of(cls, instance: dg.DagsterInstance, defs: dg.Definitions, settings_hash: str) -> "Work":
        """What is to be done now."""
        return cls.at(datetime.now(UTC), instance, defs.get_repository_def().asset_graph, settings_hash)

    @classmethod
    def at(cls, moment: datetime, instance: dg.DagsterInstance, graph: BaseAssetGraph, settings_hash: str) -> "Work":
        """The work of an instance on the assets of a graph."""
        context = TemporalContext(effective_dt=moment, last_event_id=None)
        return cls(AssetGraphView(temporal_context=context, instance=instance, asset_graph=graph), settings_hash)

    @property
    def now(self) -> float:
        """In seconds since 1970."""
        return self._view.effective_dt.timestamp()

    def ready(self, key: dg.AssetKey) -> list[str]:
        """Shards, in the order of their registration, for which an asset is to be made now.

        That is where it is missing, or was made by other code or of other inputs than there are now; where all that it
        reads is up to date; where no run or backfill is about to make it; and where the pause is over that follows
        attempts that have failed. A shard that has no clips any more is left as it is.
        """
        asset = self.asset(key)
        inputs = [self.asset(parent) for parent in asset.node.parent_keys]
        able = [
            shard
            for shard in asset.registered
            if shard in asset.outdated and shard not in asset.busy and all(one.is_settled(shard) for one in inputs)
        ]
        pausing = self._pausing(asset, inputs, able)
        return [shard for shard in able if shard not in pausing]

    def all_ready(self, keys: Iterable[dg.AssetKey]) -> dict[str, set[dg.AssetKey]]:
        """What is to be done of `keys`, each after those that it reads, by shard; with all that will then be out of
        date. A shard of which any of that is in progress is left for later."""
        wanted: dict[str, set[dg.AssetKey]] = {}
        later: set[str] = set()
        for key in keys:
            asset, ready = self.asset(key), set(self.ready(key))
            for shard in asset.registered:
                if shard in ready or wanted.get(shard, set()) & asset.node.parent_keys:
                    wanted.setdefault(shard, set()).add(key)
                    later |= {shard} & asset.busy
        return {shard: of_shard for shard, of_shard in wanted.items() if shard not in later}

    def outdated(self, keys: Iterable[dg.AssetKey]) -> set[str]:
        """Shards of which one of the assets is missing or out of date, whether or not it can be made now."""
        return set().union(*(self.asset(key).outdated for key in keys))

    def busy(self, keys: Iterable[dg.AssetKey]) -> set[str]:
        """Shards of which a run or a backfill is making one of the assets, or is going to."""
        return set().union(*(self.asset(key).busy for key in keys))

    def asset(self, key: dg.AssetKey) -> "_Asset":
        if key not in self._assets:
            self._assets[key] = _Asset(self, self._view, key)
        return self._assets[key]

    def changed_at(self, key: dg.AssetKey, shards: Collection[str]) -> dict[str, float]:
        """When what an asset reads of each shard has changed last, in seconds since 1970."""
        latest = dict.fromkeys(shards, 0.0)
        for parent in self.asset(key).node.parent_keys:
            for shard, time in self.asset(parent).history.times(shards).items():
                latest[shard] = max(latest[shard], time)
        return latest

    def _pausing(self, asset: "_Asset", inputs: Iterable["_Asset"], shards: Collection[str]) -> set[str]:
        """Those of `shards` that have failed, and are not to be tried again yet: not for a day after the first attempt,
        for two after the second, for four after the third, and so on. What people have tried makes for one day,
        however often: by its config, it may have been something else."""
        failed = {shard: asset.failed[shard] for shard in shards if shard in asset.failed}
        changed = self.changed_at(asset.node.key, failed)
        failed = {
            shard: attempt
            for shard, attempt in failed.items()
            if attempt.run.dagster_run.tags.get(SETTINGS_TAG, self._settings_hash) == self._settings_hash
            and changed[shard] <= (attempt.run.end_time or 0.0)
        }
        own = {SETTINGS_TAG: self._settings_hash}
        attempts = asset.history.attempts_since({shard: changed[shard] for shard in failed}, own)
        return {s for s, attempt in failed.items() if self._view.effective_dt < _next_time(attempt, attempts[s])}


class _Asset:
    """What there is to know of one asset."""

    def __init__(self, work: Work, view: AssetGraphView, key: dg.AssetKey) -> None:
        self._work, self._view = work, view
        self.node: BaseAssetNode = view.asset_graph.get(key)
        self.history = History(view.instance, key, is_source=not self.node.is_materializable)

    @cached_property
    def registered(self) -> list[str]:
        shards = self.node.partitions_def
        return list(shards.get_partition_keys(dynamic_partitions_store=self._view.instance)) if shards else []

    @cached_property
    def outdated(self) -> Mapping[str, str]:
        """Shards that are missing, or that Dagster takes to be stale, and why; none of the source."""
        if not self.node.is_materializable:
            return {}
        made = self.history.provenances
        inputs = {key: self._work.asset(key).history.versions for key in self.node.parent_keys}
        outdated = {}
        for shard in self.registered:
            if shard not in made:
                outdated[shard] = "it is missing"
            elif (by := made[shard]) is not None:
                read = {key: version.value for key, version in by.input_data_versions.items()}
                others = {key for key, now in inputs.items() if shard in now and now[shard] != read.get(key)}
                if others:
                    outdated[shard] = f"{self._words(others)} changed since it was made"
                elif by.code_version != self.node.code_version:
                    outdated[shard] = "it was made with other settings"
        return outdated

    def _words(self, inputs: Collection[dg.AssetKey]) -> str:
        if not all(self._work.asset(key).node.is_materializable for key in inputs):
            return "its clips have"
        return f"{' and '.join(sorted(key.to_user_string() for key in inputs))} {'has' if len(inputs) == 1 else 'have'}"

    @cached_property
    def busy(self) -> set[str]:
        """As for `Work.busy`."""
        running = {shard for shard, one in self.history.attempts.items() if not one.run.dagster_run.is_finished}
        queryer = self._view.get_inner_queryer_for_back_compat()
        backfilled = queryer.get_active_backfill_in_progress_asset_graph_subset()
        if self.node.key in backfilled.partitions_subsets_by_asset_key:
            running |= set(backfilled.partitions_subsets_by_asset_key[self.node.key].get_partition_keys())
        return running

    @cached_property
    def failed(self) -> Mapping[str, Attempt]:
        """The latest attempts that have ended, in whatever way, and have not made their shard, but were to."""
        tried = {shard: one for shard, one in self.history.attempts.items() if one.run.dagster_run.is_finished}
        return {shard: one for shard, one in tried.items() if LIMIT_TAG not in one.run.dagster_run.tags}

    def is_settled(self, shard: str) -> bool:
        """Whether what reads the asset may be made."""
        if not self.node.is_materializable:
            return self.history.versions.get(shard) != NO_CLIPS
        return shard not in self.outdated and shard not in self.busy


def _next_time(failed: Attempt, attempts: int) -> datetime:
    """When a shard is to be tried again, of which so many attempts have failed."""
    pause = min(_DAY * 2 ** (max(1, attempts) - 1), _LONGEST_PAUSE)
    return failed.run.create_timestamp.replace(tzinfo=UTC) + pause - _SLACK
