"""Asset checks in a real instance: one evaluation for each shard of a run, with what it found."""

import dagster as dg
import pytest

from caption_assets.defs.partitions import range_tags
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


def test_a_check_is_run_alone_with_the_thresholds_of_the_run(checked):
    instance, pipeline, _ = checked
    key = dg.AssetCheckKey(dg.AssetKey("clip_windows"), "clips_without_windows")
    defs = dg.Definitions(assets=pipeline.assets, asset_checks=pipeline.checks, resources=pipeline.resources)
    lenient = {"checks": {"config": {"most_clips_without_windows": 0.4}}}
    done = (
        defs.resolve_implicit_global_asset_job_def()
        .get_subset(asset_check_selection={key})
        .execute_in_process(
            instance=instance, run_config={"resources": lenient, "loggers": QUIET}, tags=range_tags(("a", "b"))
        )
    )
    assert {event.step_key for event in done.all_events if event.step_key} == {"clip_windows_checks"}
    assert all(one.passed for one in evaluations(instance, "clip_windows", key.name).values())
    described = {spec.name: spec.description for checks in pipeline.checks for spec in checks.check_specs}
    assert described["facts_kept"].startswith("Share of enhanced texts that have lost a number")
