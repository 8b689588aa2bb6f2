"""Shards that are out of date are named, each with its reason, by a check of the dataset."""

import time

import dagster as dg
import pytest

from caption_assets.defs.build import build_defs
from caption_assets.defs.freshness import CHECK, evaluation
from caption_assets_tests.pipelines import QUIET, Sensor, materialize

HOUR = 3600.0


@pytest.fixture
def stored_instance():
    with dg.instance_for_test() as instance:
        yield instance


def test_an_old_or_changed_shard_is_named_and_no_other(stored_instance, make_pipeline, clips_root, tmp_path, make_clip):
    instance = stored_instance
    pipeline = make_pipeline(clips_root, tmp_path / "out", fresh_within_hours=24)
    defs, sensor = build_defs(pipeline.settings), Sensor(instance, pipeline)
    looks = defs.resolve_sensor_def("look_for_old_shards")

    def tick():
        """What Dagster is told."""
        with dg.build_sensor_context(instance, repository_def=defs.get_repository_def()) as context:
            told = looks.evaluate_tick(context).asset_events
        for event in told:
            instance.report_runless_asset_event(event)
        return [event.description for event in told]

    def said(of=pipeline, hours=0.0):
        found = evaluation(of, instance, time.time() + hours * HOUR)
        lists = {asset: of_asset.value for asset, of_asset in found.metadata.items() if asset != "shards_out_of_date"}
        return found.description, lists

    sensor.tick()
    assert materialize(instance, pipeline, ["a", "b"], ["clip_windows"]).success
    assert tick() == ["No shard is out of date."]
    assert tick() == []  # not the same again

    make_clip(clips_root / "b" / "new.mp4", 30)
    sensor.tick()
    changed = {"clip_windows": "- b\\: its clips have changed since it was made"}
    assert said() == ("Out of date: b.", changed)
    assert tick() == ["Out of date: b."]
    assert tick() == []
    assert materialize(instance, pipeline, ["b"], ["clip_windows"]).success
    assert tick() == ["No shard is out of date."]

    assert said(hours=23)[0] == "No shard is out of date."
    description, lists = said(hours=25)
    assert description == "Out of date: a, b."
    assert "a\\: it was made more than 24 hours ago" in lists["clip_windows"]
    assert "a\\: it could have been made more than 24 hours ago\\, and is missing" in lists["window_captions_demo"]
    assert "enhanced_captions_demo_by_demo_lm" not in lists  # what it is made of is missing
    other = make_pipeline(clips_root, tmp_path / "out", windows={"window_size": 32})
    assert "a\\: it was made with other settings" in said(of=other)[1]["clip_windows"]

    key = dg.AssetCheckKey(pipeline.source.key, CHECK)
    run = defs.resolve_implicit_global_asset_job_def().get_subset(asset_check_selection={key})
    assert run.execute_in_process(instance=instance, run_config={"loggers": QUIET}).success
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    assert record.event.dagster_event.asset_check_evaluation_data.passed
