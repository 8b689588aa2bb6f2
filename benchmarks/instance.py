"""What a Dagster instance of many shards costs: one pipeline, several caption keys, SQLite on disk.

    python -m benchmarks.instance [--shards 10000] [--keys 4] [--event-kib 4] [--folder /data]

Seconds of one core for: loading the definitions in a new process; registering the shards; ticks of the sensor; the
schedule and automation, with everything made, with nothing made, and with every shard failed once; and what the UI
asks for to show an asset's page and the graph, also where the assets are plain ones with the same history. The shards
are real folders with a file each; their history is written into the event log directly, as events of the kind that runs
write, for making it would take days. Needs no GPU.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.events import AssetMaterializationPlannedData
from dagster._core.test_utils import create_run_for_test
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster_graphql.test.utils import execute_dagster_graphql

from benchmarks.parts.history import FIRST, History
from caption_assets.defs.build import build_defs
from caption_assets.defs.lineage import event_pointer
from caption_assets.defs.pipeline import Pipeline
from caption_assets.settings.environment import deployed_settings

_RUN_OFFIRST = "00000000-0000-4000-8000-000000000000"
_SHARDS_PER_RUN = 32
"""Of a failed run of the schedule."""
_ASSET = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  partitionKeys staleStatus assetPartitionStatuses { ... on DefaultPartitionStatuses {
    materializedPartitions failedPartitions unmaterializedPartitions materializingPartitions } }
  partitionStats { numMaterialized numFailed numPartitions } } } }"""
_SHARD = """query($key: AssetKeyInput!, $shard: String!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  staleStatus(partition: $shard) staleCauses(partition: $shard) { reason }
  assetMaterializations(partitions: [$shard], limit: 1) { metadataEntries { label } } } } }"""
_GRAPH = (
    """{ assetNodes { assetKey { path } staleStatus partitionStats { numMaterialized numFailed numPartitions } } }"""
)


class Bench:
    def __init__(self, folder: Path, shards: int, keys: int, event_kib: float) -> None:
        self.shards = [f"shard-{number:05d}" for number in range(shards)]
        for shard in self.shards:
            (folder / "clips" / shard).mkdir(parents=True)
            (folder / "clips" / shard / "clip.mp4").touch()
        captions = "\n".join(f"  - {{caption_key: key{number}, device: cpu}}" for number in range(keys))
        (folder / "settings.yaml").write_text(f"dataset: clips\noutput: out\nautomation: true\ncaptions:\n{captions}\n")
        (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        os.environ |= {"CAPTION_ASSETS_SETTINGS": str(folder / "settings.yaml"), "DAGSTER_HOME": str(folder)}
        self.text = "x" * int(event_kib * 1024)
        self.pipeline = Pipeline(deployed_settings())
        self.defs = build_defs(self.pipeline.settings)

    def load(self) -> None:
        """In a new process."""
        subprocess.run([sys.executable, "-c", "from caption_assets.definitions import defs"], check=True)

    def run(self, instance: dg.DagsterInstance) -> None:
        timed("load the definitions in a new process", self.load)
        add = instance.add_dynamic_partitions
        timed("register all shards", lambda: add(self.pipeline.shards.name or "", self.shards))
        cursor = timed("tick of the sensor that finds 500 new listings", lambda: self.sensor(instance, None))
        timed("tick of the schedule, nothing made", lambda: self.schedule(instance, len(self.shards)))
        timed("tick of automation, nothing made", lambda: self.automation(instance))
        self.make(instance)
        timed("tick of the sensor that looks at all", lambda: self.sensor(instance, None))
        timed("tick of the sensor in its pause", lambda: self.sensor(instance, cursor))
        for how in ("first in a process", "again"):
            timed(f"tick of the schedule, all made, {how}", lambda: self.schedule(instance, 0))
        timed("tick of automation, all made", lambda: self.automation(instance))
        self.ask(instance)
        self.fail(instance)
        timed("tick of the schedule, all failed", lambda: self.schedule(instance, 0))
        timed("tick of automation, all failed", lambda: self.automation(instance))

    def sensor(self, instance: dg.DagsterInstance, cursor: str | None) -> str | None:
        definition = self.defs.resolve_sensor_def("register_new_shards")
        clips = {name: self.pipeline.resources[name] for name in definition.required_resource_keys}
        with dg.build_sensor_context(instance, cursor=cursor, resources=clips) as context:
            return definition.evaluate_tick(context).cursor

    def schedule(self, instance: dg.DagsterInstance, wanted: int) -> None:
        definition = self.defs.resolve_schedule_def("missing_shards")
        repository = self.defs.get_repository_def()
        context = dg.build_schedule_context(instance, datetime.now(UTC), repository_def=repository)
        asked = definition.evaluate_tick(context).run_requests or []
        if bool(wanted) != bool(asked):
            raise SystemExit(f"the schedule asked for {len(asked)} runs")

    def automation(self, instance: dg.DagsterInstance) -> None:
        chosen = dg.AssetSelection.assets(*self.pipeline.assets)
        dg.evaluate_automation_conditions(self.defs, instance, asset_selection=chosen)

    def make(self, instance: dg.DagsterInstance) -> None:
        """Writes that everything is made of every shard, as runs report it."""
        history, source = History(instance, self.shards), self.pipeline.source.key
        versions = dict(self.pipeline.resources["clips"].dataset().versions(self.shards))  # type: ignore[attr-defined]
        first = versions[FIRST]
        tags = {"dagster/data_version": first}
        instance.report_runless_asset_event(dg.AssetObservation(source, partition=FIRST, tags=tags))
        observed = instance.fetch_observations(source, limit=1).records[0].storage_id
        history.copy(observed, lambda shard: {first: versions[shard]})
        read = {source: (True, first)}
        for asset in self.pipeline.assets:
            key, version = asset.key, f"{asset.key.path[-1]}-version"
            tags = {"dagster/code_version": asset.code_versions_by_key[key] or "", "dagster/data_version": version}
            for parent in asset.dependency_keys:
                is_source, of_parent = read[parent]
                tags[f"dagster/input_data_version/{parent.to_user_string()}"] = of_parent
                pointer = event_pointer(instance, parent, is_source, FIRST, of_parent)
                tags[f"dagster/input_event_pointer/{parent.to_user_string()}"] = pointer
            tags["dagster/data_version_is_user_provided"] = "true"
            event = dg.AssetMaterialization(key, partition=FIRST, metadata={"samples": self.text}, tags=tags)
            instance.report_runless_asset_event(event)
            record = instance.fetch_materializations(key, limit=1).records[0].storage_id
            history.copy(record, lambda shard: {first: versions[shard]})
            read[key] = (False, version)

    def ask(self, instance: dg.DagsterInstance) -> None:
        """What the UI asks for: of this project's assets, and of plain ones with the same history, in turn, since what
        the instance has been asked first it keeps for the next."""
        for turn in range(1, 4):
            self._ask(instance, f"UI, turn {turn}", "caption_assets.definitions")
            self._ask(instance, f"UI, plain, turn {turn}", "benchmarks.parts.plain")

    def _ask(self, instance: dg.DagsterInstance, of: str, module: str) -> None:
        key = {"path": list(self.pipeline.made[2].definition.key.path)}
        target = ModuleTarget(module, None, os.getcwd(), "caption_assets")
        with WorkspaceProcessContext(instance, target) as process:

            def asked(query: str, **variables: Any) -> None:
                found = execute_dagster_graphql(process.create_request_context(), query, variables)
                if found.errors:
                    raise SystemExit(found.errors)

            timed(f"{of}: an asset's page, first", lambda: asked(_ASSET, key=key))
            timed(f"{of}: an asset's page, again", lambda: asked(_ASSET, key=key))
            timed(f"{of}: one shard of an asset", lambda: asked(_SHARD, key=key, shard=self.shards[-1]))
            timed(f"{of}: the graph", lambda: asked(_GRAPH))

    def fail(self, instance: dg.DagsterInstance) -> None:
        """Writes that all of each shard was to be made once more, and that each run has failed."""
        history = History(instance, self.shards)
        runs = {}
        for start in range(0, len(self.shards), _SHARDS_PER_RUN):
            run_id = _RUN_OFFIRST if not start else None
            run = create_run_for_test(instance, run_id=run_id, status=dg.DagsterRunStatus.STARTED)
            runs |= dict.fromkeys(self.shards[start : start + _SHARDS_PER_RUN], run)
        for asset in self.pipeline.assets:
            planned = dg.DagsterEvent(
                event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value,
                job_name="caption_shards",
                event_specific_data=AssetMaterializationPlannedData(asset.key, partition=FIRST),
            )
            instance.report_dagster_event(planned, _RUN_OFFIRST)
            wanted = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, asset_key=asset.key)
            (record,) = instance.event_log_storage.get_event_records(wanted, limit=1)
            history.copy(record.storage_id, lambda shard: {_RUN_OFFIRST: runs[shard].run_id})
        for run in {run.run_id: run for run in runs.values()}.values():
            instance.report_run_failed(run)


def timed(what: str, work: Callable[[], Any]) -> Any:
    wall, own = time.monotonic(), time.process_time()
    result = work()
    print(f"{what:52s} {time.monotonic() - wall:8.2f} s, {time.process_time() - own:8.2f} s of this core", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--keys", type=int, default=4)
    parser.add_argument("--event-kib", type=float, default=4)
    parser.add_argument("--folder", help="where to work; by default a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as work:
        bench = Bench(Path(work), options.shards, options.keys, options.event_kib)
        print(f"{options.shards} shards, {len(bench.pipeline.assets)} assets, events of {options.event_kib} KiB")
        with dg.DagsterInstance.get() as instance:
            bench.run(instance)


if __name__ == "__main__":
    main()
