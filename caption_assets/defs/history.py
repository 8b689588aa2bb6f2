"""What an instance remembers of an asset's shards, in few queries for ten thousand of them."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG, DataProvenance
from dagster._core.event_api import EventRecordsFilter
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.event_log.base import AssetEventType, EventLogStorage

T = TypeVar("T")
_CHUNK = 1000
# Of each instance on disk, by the ids of events, which never change: the record of a shard is read once a process.
_provenances: dict[str, dict[int, DataProvenance | None]] = {}


@dataclass(frozen=True)
class Attempt:
    """The latest try to make a shard, since which it has not been made. `event` is that which announced it."""

    event: int
    run: RunRecord


@dataclass(frozen=True)
class History:
    """Of one asset, at the moment when each part of it is first asked for."""

    instance: dg.DagsterInstance
    key: dg.AssetKey
    is_source: bool = False

    @cached_property
    def latest(self) -> Mapping[str, int]:
        """The event by which each shard was made last or, of the source, observed."""
        return self._storage.get_latest_storage_id_by_partition(self.key, self._event_type)

    @cached_property
    def versions(self) -> Mapping[str, str]:
        """Data versions by shard."""
        tags = self._storage.get_latest_tags_by_partition(self.key, self._event_type, [DATA_VERSION_TAG])
        return {shard: of_shard[DATA_VERSION_TAG] for shard, of_shard in tags.items()}

    @cached_property
    def provenances(self) -> Mapping[str, DataProvenance | None]:
        """By which code and of what each shard was made; None where somebody has only said that it was."""
        known: dict[int, DataProvenance | None] = {}
        if not self.instance.is_ephemeral:
            known = _provenances.setdefault(str(self.instance.get_ref()), {})
        for ids in _chunks([event for event in self.latest.values() if event not in known]):
            wanted = EventRecordsFilter(self._event_type, asset_key=self.key, storage_ids=ids)
            for record in self._storage.get_event_records(wanted):
                made = record.asset_materialization
                known[record.storage_id] = DataProvenance.from_tags(made.tags or {}) if made else None
        return {shard: known.get(event) for shard, event in self.latest.items()}

    @cached_property
    def attempts(self) -> Mapping[str, Attempt]:
        """The attempts by shard, in progress or not, of those whose latest one has not made it."""
        planned = self._storage.get_latest_asset_partition_materialization_attempts_without_materializations(self.key)
        runs: dict[str, RunRecord] = {}
        for ids in _chunks({run_id for run_id, _ in planned.values()}):
            records = self.instance.get_run_records(dg.RunsFilter(run_ids=ids))
            runs |= {record.dagster_run.run_id: record for record in records}
        return {shard: Attempt(event, runs[run_id]) for shard, (run_id, event) in planned.items() if run_id in runs}

    def times(self, shards: Iterable[str]) -> dict[str, float]:
        """When each of few shards was made or observed last, in seconds since 1970."""
        found: dict[str, float] = {}
        for ids in _chunks([self.latest[shard] for shard in shards if shard in self.latest]):
            for record in self.instance.get_asset_event_summary_records(
                self._event_type, asset_key=self.key, storage_ids=ids
            ):
                found[record.partition or ""] = record.timestamp
        return found

    def attempts_since(self, since: Mapping[str, float], tags: Mapping[str, str]) -> dict[str, int]:
        """How often each of few shards was tried by runs with these tags since it was made last, and since a time."""
        tried: list[tuple[str, str]] = []
        for shards in _chunks(list(since)):
            wanted = EventRecordsFilter(
                dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, asset_key=self.key, asset_partitions=shards
            )
            for record in self._storage.get_event_records(wanted):
                shard = record.partition_key or ""
                if record.storage_id > self.latest.get(shard, 0) and record.timestamp >= since[shard]:
                    tried.append((shard, record.run_id))
        counted: set[str] = set()
        for ids in _chunks({run_id for _, run_id in tried}):
            runs = self.instance.get_runs(dg.RunsFilter(run_ids=list(ids), tags=dict(tags)))
            counted |= {run.run_id for run in runs}
        return {shard: sum(of == shard and run_id in counted for of, run_id in tried) for shard in since}

    @property
    def _storage(self) -> EventLogStorage:
        return self.instance.event_log_storage

    @property
    def _event_type(self) -> AssetEventType:
        return dg.DagsterEventType.ASSET_OBSERVATION if self.is_source else dg.DagsterEventType.ASSET_MATERIALIZATION


def _chunks(values: Collection[T]) -> Iterator[Sequence[T]]:
    listed = list(values)
    for start in range(0, len(listed), _CHUNK):
        yield listed[start : start + _CHUNK]
