"""What a run tells of each of many shards, in a real instance: its checks, and how its backfill gets on."""

import random
from itertools import accumulate

import dagster as dg
import pytest

from caption_assets.defs.backfills import ask_for_backfill, backfill_sentence, in_words
from caption_assets.defs.build import build_defs
from caption_assets_tests.pipelines import QUIET, run_job

MADE = ("clip_windows", "window_previews")


@pytest.fixture(scope="module")
def checked(make_shards, make_pipeline, tmp_path_factory):
    """An instance, a pipeline and the run that has made windows and previews of two shards, one with a bad clip."""
    root = make_shards(tmp_path_factory.mktemp("checks") / "clips")
    (root / "a" / "text.mp4").write_text("not a video")
    pipeline = make_pipeline(root, root.parent / "out")
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(pipeline.shards.name, ["a", "b"])
        yield instance, pipeline, run_job(instance, pipeline, ["a", "b"], MADE)


def evaluations(instance, asset, check):
    """The latest of each shard."""
    key = dg.AssetCheckKey(dg.AssetKey(asset), check)
    found = {}
    for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=20):
        found.setdefault(record.partition, record.event.dagster_event.asset_check_evaluation_data)
    return found


def test_each_shard_of_a_run_has_an_evaluation_that_says_what_is_wrong_with_it(checked):
    instance, _, run = checked
    assert run.is_success  # checks hold nothing up
    of_shard = evaluations(instance, "clip_windows", "clips_without_windows")
    assert {shard: one.passed for shard, one in of_shard.items()} == {"a": False, "b": True}
    bad = of_shard["a"]
    assert bad.severity == dg.AssetCheckSeverity.ERROR
    assert bad.description == "1 of 3 clips have no window (33.3%), and 5.0% may."
    assert bad.metadata["share"].value == pytest.approx(1 / 3, abs=1e-4)
    assert bad.metadata["worst"].value.startswith(r"- a\/text\.mp4\: ")
    assert bad.target_materialization_data.run_id == run.run_id
    for check in ("previews_made", "preview_frames", "preview_files"):
        assert all(one.passed for one in evaluations(instance, "window_previews", check).values())


def test_a_check_is_run_alone_for_all_shards_with_the_thresholds_of_the_run(checked):
    instance, pipeline, _ = checked
    key = dg.AssetCheckKey(dg.AssetKey("clip_windows"), "clips_without_windows")
    defs = dg.Definitions(assets=pipeline.assets, asset_checks=pipeline.checks, resources=pipeline.resources)
    lenient = {"checks": {"config": {"most_clips_without_windows": 0.4}}}
    alone = defs.resolve_implicit_global_asset_job_def().get_subset(asset_check_selection={key})
    # Without shards, as "Execute all" in the UI does it.
    done = alone.execute_in_process(instance=instance, run_config={"resources": lenient, "loggers": QUIET})
    assert {event.step_key for event in done.all_events if event.step_key} == {"clip_windows_checks"}
    of_shard = evaluations(instance, "clip_windows", key.name)
    assert {shard: one.passed for shard, one in of_shard.items()} == {"a": True, "b": True, None: True}
    assert of_shard[None].description == "All shards pass."
    strict = {"checks": {"config": {"most_clips_without_windows": 0.1}}}
    alone.execute_in_process(instance=instance, run_config={"resources": strict, "loggers": QUIET})
    assert evaluations(instance, "clip_windows", key.name)[None].description == "1 of 2 shards do not pass: a."
    described = {spec.name: spec.description for checks in pipeline.checks for spec in checks.check_specs}
    assert described["facts_kept"].startswith("Share of enhanced texts that have lost a number")


def test_a_run_of_a_backfill_says_how_far_all_of_it_is(checked):
    instance, pipeline, run = checked
    asset = dg.AssetKey("clip_windows")
    asked = ask_for_backfill(instance, build_defs(pipeline.settings), [asset], ["a", "b"])
    began = instance.get_run_record_by_id(run.run_id).start_time
    instance.update_backfill(instance.get_backfill(asked)._replace(backfill_timestamp=began))
    of_it = run.with_tags({"dagster/backfill": asked})
    said = "The backfill: clip_windows of 2 of 2 shards is made, about 0 s left."
    assert backfill_sentence(instance, of_it, asset) == said
    assert backfill_sentence(instance, run, asset) == ""
    assert backfill_sentence(instance, of_it, dg.AssetKey("window_previews")) == ""


def test_the_time_left_of_a_backfill_is_right_after_a_tenth_of_it():
    dice = random.Random(0)
    times = {f"s{k}": at for k, at in enumerate(accumulate(dice.uniform(10, 20) for _ in range(200)))}
    made = dict(list(times.items())[:20])
    said = in_words("x", times.keys(), {**made, "another": 1.0}, 0.0, max(made.values()) + 5)
    left = (max(times.values()) - max(made.values()) - 5) / 60
    assert said.startswith("The backfill: x of 20 of 200 shards is made, about ")
    assert int(said.split()[-3]) == pytest.approx(left, rel=0.1)
    assert in_words("x", ["a", "b"], {"a": 5.0}, 0.0, 6.0) == "The backfill: x of 1 of 2 shards is made."
    assert in_words("x", ["a"], {"a": 5.0}, 9.0, 10.0) == "The backfill: x of 0 of 1 shards is made."
