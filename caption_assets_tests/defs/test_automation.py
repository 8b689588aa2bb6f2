"""What the schedule and automation ask for, through the days of a dataset."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
import yaml
from dagster._core.events import AssetMaterializationPlannedData
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.test_utils import create_run_for_test

from caption_assets.defs.backfills import ask_for_backfill
from caption_assets.defs.build import build_defs
from caption_assets.defs.pipeline import Pipeline
from caption_assets.defs.tags import LIMIT_TAG
from caption_assets.defs.work import SETTINGS_TAG
from caption_assets.settings.environment import deployed_settings
from caption_assets.store.tables import SHARD_REVIEW, TABLES
from caption_assets_tests.pipelines import Sensor, asset_key, materialization, materialize, metadata, run_job

WINDOWS, PREVIEWS, CAPTIONS, ENHANCED = TABLES
EVERYTHING = [*TABLES, SHARD_REVIEW.name]


class Automation:
    """Dagster's daemon, which asks what to do; what it asks for is done by the tests."""

    def __init__(self, instance, pipeline):
        self.instance, self.pipeline, self._cursor = instance, pipeline, None
        self.sensor = Sensor(instance, pipeline)

    def asks(self, after=timedelta(0), pipeline=None):
        """What it asks for, by asset, so long after now."""
        pipeline = pipeline or self.pipeline
        found = dg.evaluate_automation_conditions(
            build_defs(pipeline.settings),
            self.instance,
            asset_selection=dg.AssetSelection.assets(*pipeline.assets),
            evaluation_time=datetime.now(UTC) + after,
            cursor=self._cursor,
        )
        self._cursor = found.cursor
        asked = {step: set(found.get_requested_partitions(asset_key(pipeline, step))) for step in TABLES}
        return {step: shards for step, shards in asked.items() if shards}


@pytest.fixture
def stored_instance():
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def automation(stored_instance, clips_root, tmp_path, make_pipeline):
    return Automation(stored_instance, make_pipeline(clips_root, tmp_path / "out", automation=True))


DAY = timedelta(days=1)


def test_shards_are_made_as_they_come_each_asset_after_those_that_it_reads(
    automation, clips_root, make_clip, make_pipeline, tmp_path
):
    instance, pipeline = automation.instance, automation.pipeline
    assert automation.asks() == {}
    automation.sensor.tick()
    assert automation.asks() == {WINDOWS: {"a", "b"}}
    assert materialize(instance, pipeline, ["a", "b"], [WINDOWS]).success
    assert automation.asks() == {PREVIEWS: {"a", "b"}, CAPTIONS: {"a", "b"}}
    assert materialize(instance, pipeline, ["a", "b"], [PREVIEWS, CAPTIONS]).success
    assert automation.asks() == {ENHANCED: {"a", "b"}}
    assert materialize(instance, pipeline, ["a", "b"], [ENHANCED]).success
    assert automation.asks() == automation.asks() == automation.asks(after=100 * DAY) == {}

    make_clip(clips_root / "c" / "x.mp4", 24)  # a new shard
    make_clip(clips_root / "b" / "new.mp4", 30)  # and a clip in an old one
    assert automation.asks() == {}
    automation.sensor.tick()
    assert automation.asks() == {WINDOWS: {"b", "c"}}
    assert materialize(instance, pipeline, ["b", "c"], [WINDOWS]).success
    assert automation.asks() == {PREVIEWS: {"b", "c"}, CAPTIONS: {"b", "c"}}
    assert materialize(instance, pipeline, ["b", "c"]).success
    assert automation.asks() == {}

    prompted = [{"device": "cpu", "max_output_tokens": 3, "prompt_text": "Anew."}]
    other = make_pipeline(clips_root, tmp_path / "out", automation=True, captions=prompted)
    assert automation.asks(pipeline=other) == {CAPTIONS: {"a", "b", "c"}}
    (clips_root / "c" / "x.mp4").write_text("no video")
    tags = {SETTINGS_TAG: other.settings_hash}
    assert not materialize(instance, other, ["a", "b", "c"], [CAPTIONS], tags=tags).success
    enhanced = {ENHANCED: {"a", "b"}}
    assert automation.asks(pipeline=other) == automation.asks(pipeline=other, after=0.9 * DAY) == enhanced
    assert automation.asks(pipeline=other, after=DAY) == {CAPTIONS: {"c"}, **enhanced}


def test_a_bad_shard_is_asked_for_again_after_growing_pauses_and_at_once_when_it_has_changed(
    automation, clips_root, make_clip
):
    instance, pipeline = automation.instance, automation.pipeline
    bad = clips_root / "bad" / "x.mp4"
    bad.parent.mkdir()
    bad.write_text("no video")
    automation.sensor.tick()
    tags = {SETTINGS_TAG: pipeline.settings_hash}
    assert automation.asks() == {WINDOWS: {"a", "b", "bad"}}
    assert not materialize(instance, pipeline, ["a", "b", "bad"], [WINDOWS], tags=tags).success
    good = {PREVIEWS: {"a", "b"}, CAPTIONS: {"a", "b"}}
    assert automation.asks() == automation.asks() == good
    assert automation.asks(after=0.9 * DAY) == good
    assert automation.asks(after=1.0 * DAY) == {WINDOWS: {"bad"}, **good}

    assert not materialize(instance, pipeline, ["bad"], [WINDOWS], tags=tags).success  # twice, on one day here
    assert (automation.asks(after=1.9 * DAY), automation.asks(after=2 * DAY)) == (good, {WINDOWS: {"bad"}, **good})
    assert not materialize(instance, pipeline, ["bad"], [WINDOWS], tags=tags).success
    assert (automation.asks(after=3.9 * DAY), automation.asks(after=4 * DAY)) == (good, {WINDOWS: {"bad"}, **good})

    bad.write_text("still no video")
    automation.sensor.tick()
    assert automation.asks() == {WINDOWS: {"bad"}, **good}
    for _ in range(2):  # what people try is a day's pause, however often
        assert not materialize(instance, pipeline, ["bad"], [WINDOWS]).success
    assert (automation.asks(), automation.asks(after=1.0 * DAY)) == (good, {WINDOWS: {"bad"}, **good})
    bad.unlink()
    automation.sensor.tick()
    assert automation.asks(after=50 * DAY) == good  # a shard without clips is left alone


def test_what_failed_with_other_settings_is_asked_for_at_once(automation, clips_root, tmp_path, make_pipeline):
    instance, pipeline = automation.instance, automation.pipeline
    automation.sensor.tick()
    tags = {SETTINGS_TAG: pipeline.settings_hash}
    assert materialize(instance, pipeline, ["a"], [WINDOWS]).success
    (clips_root / "a" / "short.mp4").write_text("no video")
    (clips_root / "a" / "long.mp4").write_text("no video")
    automation.sensor.tick()
    assert not materialize(instance, pipeline, ["a"], [WINDOWS], tags=tags).success
    assert automation.asks() == {WINDOWS: {"b"}}
    other = make_pipeline(clips_root, tmp_path / "out", automation=True, windows={"window_size": 40})
    assert automation.asks(pipeline=other) == {WINDOWS: {"a", "b"}}


def test_what_is_in_progress_is_not_asked_for_twice_nor_what_reads_it(automation):
    instance, pipeline = automation.instance, automation.pipeline
    automation.sensor.tick()
    assert materialize(instance, pipeline, ["a", "b"], [WINDOWS]).success
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    for step in (CAPTIONS, WINDOWS):
        instance.report_dagster_event(planned(pipeline, step, "a"), run.run_id)
    assert automation.asks() == {PREVIEWS: {"b"}}  # an engine that is at work waits for more than one shard,
    assert automation.asks(after=0.01 * DAY) == {PREVIEWS: {"b"}, CAPTIONS: {"b"}}  # though not for long
    instance.report_run_canceled(run)
    assert automation.asks() == {PREVIEWS: {"a", "b"}, CAPTIONS: {"b"}}
    assert automation.asks(after=DAY)[CAPTIONS] == {"a", "b"}


def planned(pipeline, step, shard):
    """That a run is going to make a shard's asset."""
    return dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value,
        job_name="caption_shards",
        event_specific_data=AssetMaterializationPlannedData(asset_key(pipeline, step), partition=shard),
    )


def test_what_a_backfill_is_going_to_make_is_not_asked_for(automation):
    instance, pipeline = automation.instance, automation.pipeline
    automation.sensor.tick()
    asked = ask_for_backfill(instance, build_defs(pipeline.settings), [asset_key(pipeline, WINDOWS)], ["a"])
    assert automation.asks(after=0.01 * DAY) == {WINDOWS: {"b"}}
    instance.update_backfill(instance.get_backfill(asked).with_status(BulkActionStatus.CANCELED))
    assert automation.asks() == {WINDOWS: {"a", "b"}}


def test_without_the_setting_nothing_is_made_by_itself(pipeline, instance):
    assert Automation(instance, pipeline).asks() == {}
    names = [sensor.name for sensor in build_defs(pipeline.settings).sensors]
    assert names == ["register_new_shards", "look_for_old_shards"]


class Schedule:
    """The schedule, evaluated as Dagster's daemon does it."""

    def __init__(self, instance, pipeline):
        self.instance, self.pipeline = instance, pipeline
        self.defs = build_defs(pipeline.settings)
        self.definition = self.defs.resolve_schedule_def("missing_shards")

    def asks(self, after=timedelta(0)):
        """The runs that it asks for so long after now: shards, and assets."""
        context = dg.build_schedule_context(
            instance=self.instance,
            scheduled_execution_time=datetime.now(UTC) + after,
            repository_def=self.defs.get_repository_def(),
        )
        return [
            (
                request.tags["dagster/asset_partition_range_start"],
                request.tags["dagster/asset_partition_range_end"],
                [step for step in EVERYTHING if asset_key(self.pipeline, step) in request.asset_selection],
            )
            for request in self.definition.evaluate_tick(context).run_requests or []
        ]


def test_the_schedule_asks_for_ranges_of_what_is_missing_or_out_of_date(
    stored_instance, pipeline, clips_root, make_clip
):
    instance, schedule, sensor = stored_instance, Schedule(stored_instance, pipeline), Sensor(stored_instance, pipeline)
    assert schedule.definition.default_status == dg.DefaultScheduleStatus.STOPPED
    bad = clips_root / "bad" / "x.mp4"
    bad.parent.mkdir()
    bad.write_text("no video")
    make_clip(clips_root / "c" / "x.mp4", 24)
    sensor.tick()
    assert schedule.asks() == [("a", "c", EVERYTHING)]
    assert materialize(instance, pipeline, ["a"], [WINDOWS], tags={LIMIT_TAG: "1"}).success  # a trial makes no shard
    assert schedule.asks() == [("a", "c", EVERYTHING)]
    assert run_job(instance, pipeline, ["a", "b", "bad", "c"], EVERYTHING).status == dg.DagsterRunStatus.FAILURE
    assert schedule.asks() == schedule.asks(after=0.9 * DAY) == []
    assert schedule.asks(after=DAY) == [("bad", "bad", EVERYTHING)]

    make_clip(clips_root / "a" / "new.mp4", 24)
    sensor.tick()
    tags = {**materialization(instance, pipeline, WINDOWS, "c").tags, "dagster/data_version": "other"}
    windows = dg.AssetMaterialization(asset_key(pipeline, WINDOWS), partition="c", tags=tags)
    instance.report_runless_asset_event(windows)
    assert schedule.asks() == [("a", "a", EVERYTHING), ("c", "c", EVERYTHING[1:])]
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    instance.report_dagster_event(planned(pipeline, ENHANCED, "a"), run.run_id)
    assert schedule.asks() == [("c", "c", EVERYTHING[1:])]  # of which nothing is in progress


def test_a_run_that_the_schedule_asks_for_makes_what_it_names_as_the_settings_file_says(
    stored_instance, pipeline, tmp_path, monkeypatch
):
    settings = pipeline.settings.model_dump(mode="json", exclude_defaults=True)
    settings["captions"][0]["prompt_text"] = "From the file."
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("CAPTION_ASSETS_SETTINGS", str(tmp_path / "settings.yaml"))
    pipeline = Pipeline(deployed_settings(), {"workers": pipeline.resources["workers"]})
    instance, schedule = stored_instance, Schedule(stored_instance, pipeline)
    Sensor(instance, pipeline).tick()
    assert materialize(instance, pipeline, ["a", "b"], [WINDOWS, PREVIEWS]).success
    ((start, end, steps),) = schedule.asks()
    assert (start, end, steps) == ("a", "b", EVERYTHING[2:])
    assert run_job(instance, pipeline, ["a", "b"], steps=steps).status == dg.DagsterRunStatus.SUCCESS
    assert schedule.asks(after=100 * DAY) == []
    for _ in ("by the schedule's run", "by one that somebody asks for"):
        made = metadata(instance, pipeline, CAPTIONS, "a")
        assert made["prompt_text"].value == "From the file."
        assert materialize(instance, pipeline, ["a", "b"], [CAPTIONS]).success
