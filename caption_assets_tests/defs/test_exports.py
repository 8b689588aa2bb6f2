"""Exports as assets: made of captions shard by shard, and stale where these have changed."""

import json
from collections.abc import Collection

import dagster as dg
import pandas as pd
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from caption_assets.defs.build import build_defs
from caption_assets.defs.pipeline import Pipeline
from caption_assets.errors import ConfigError
from caption_assets.settings import PipelineSettings
from caption_assets.store import TABLES
from caption_assets_tests.pipelines import Sensor, run_job

EXPORTS = [
    {"format": "videofolder", "max_characters": 4000},
    {"format": "csv", "name": "lists", "text": "enhanced", "videos": "links"},
]


def test_exports_follow_the_captions_of_each_shard(instance, clips_root, make_clip, make_pipeline, tmp_path):
    (clips_root / "bad").mkdir()
    (clips_root / "bad" / "text.mp4").write_text("not a video")
    pipeline = make_pipeline(clips_root, tmp_path / "out", exports=EXPORTS)
    videos, lists = (asset.key for asset in pipeline.exports)
    assert [key.to_user_string() for key in (videos, lists)] == [
        "export_videofolder_demo",
        "export_lists_demo_by_demo_lm",
    ]
    sensor = Sensor(instance, pipeline)
    sensor.tick()

    def make(*shards: str, steps: Collection[str] = tuple(TABLES), exports: bool = True) -> bool:
        return run_job(instance, pipeline, shards, steps, exports=exports).status == dg.DagsterRunStatus.SUCCESS

    def status(key: dg.AssetKey) -> dict[str, str]:
        graph = build_defs(pipeline.settings).resolve_asset_graph()
        resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        return {shard: resolver.get_status(key, shard).value for shard in ("a", "b", "bad")}

    def latest(key: dg.AssetKey, shard: str) -> dg.AssetMaterialization:
        wanted = dg.AssetRecordsFilter(key, asset_partitions=[shard])
        return instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization

    assert not make("a", "b", "bad")
    assert status(videos) == status(lists) == {"a": "FRESH", "b": "FRESH", "bad": "MISSING"}
    folder = tmp_path / "out" / "exports" / "videofolder" / "demo"
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert sorted(row["shard"] for row in rows) == ["a", "a", "a", "b"]
    assert all((folder / row["file_name"]).is_file() for row in rows)
    listed = pd.read_csv(tmp_path / "out" / "exports" / "lists" / "demo_by_demo_lm" / "metadata.csv")
    assert (len(listed), set(listed["caption_key"])) == (4, {"demo_lm"})

    make_clip(clips_root / "b" / "new.mp4", 30)
    sensor.tick()
    assert make("b", exports=False)
    assert status(videos) == status(lists) == {"a": "FRESH", "b": "STALE", "bad": "MISSING"}
    assert make("b", steps=["window_captions", "enhanced_captions"])  # windows are there from an earlier run
    assert status(videos) == status(lists) == {"a": "FRESH", "b": "FRESH", "bad": "MISSING"}
    told = {name: value.value for name, value in latest(videos, "b").metadata.items()}
    assert (told["samples"], told["files_written"], told["files_unchanged"]) == (2, 1, 1)
    assert told["export"] == str(folder)
    assert len((folder / "metadata.jsonl").read_text().splitlines()) == 5


def test_exports_that_cannot_be_told_apart_or_have_no_texts_are_refused():
    alike = PipelineSettings(exports=[{"format": "csv"}, {"format": "csv", "min_seconds": 2}])
    with pytest.raises(ConfigError, match="two are called export_csv_demo"):
        _ = Pipeline(alike).exports
    other = PipelineSettings(exports=[{"format": "csv", "key": "qwen3"}])
    with pytest.raises(ConfigError, match=r"the pipeline makes no such texts\. There are: demo\."):
        _ = Pipeline(other).exports
