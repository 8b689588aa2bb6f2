"""A shard that fails harms no other, whoever asks for it, and is asked for again now and then."""

import dagster as dg
import pytest
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

from caption_assets.store.tables import TABLES
from caption_assets_tests.pipelines import asset_key, materialized, metadata, run_job


@pytest.fixture
def stored_instance():
    """On disk: runs of a job reach for their instance by reference."""
    with dg.instance_for_test() as instance:
        yield instance


def failures(instance, pipeline, run):
    """What each step that failed has said, by step."""
    steps = {made.definition.op.name: made.step.name for made in pipeline.made}
    events = [entry.dagster_event for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)]
    return {steps[event.step_key]: event.step_failure_data.user_failure_data for event in events}


def test_a_shard_that_fails_takes_nobody_with_it_and_is_done_alone_when_the_run_is_resumed(
    stored_instance, pipeline, clips_root, make_clip
):
    instance, bad = stored_instance, clips_root / "bad" / "text.mp4"
    bad.parent.mkdir()
    bad.write_text("no video")
    instance.add_dynamic_partitions(pipeline.shards.name, ["a", "bad", "b"])

    run = run_job(instance, pipeline, ["a", "bad", "b"])
    assert run.status == dg.DagsterRunStatus.FAILURE
    said = failures(instance, pipeline, run)
    assert set(said) == set(TABLES)
    for step in TABLES:
        assert materialized(instance, pipeline, step) == {"a", "b"}
        status = instance.get_status_by_partition(asset_key(pipeline, step), ["a", "bad", "b"], pipeline.shards)
        assert status["bad"] == AssetPartitionStatus.FAILED
        assert said[step].description.startswith("1 of 3 shards failed: bad.")
        (reason,) = said[step].metadata["failed_shards"].value.values()
        assert reason.startswith(f"{step} of shard 'bad': ")
        assert "not one of 1 items worked" in reason  # also where it is the reason of a step before

    bad.unlink()
    make_clip(bad.with_name("good.mp4"), 40)
    resumed = run_job(instance, pipeline, ["a", "bad", "b"], resumed=run.run_id)
    assert resumed.status == dg.DagsterRunStatus.SUCCESS
    for step in TABLES:
        assert materialized(instance, pipeline, step) == {"a", "bad", "b"}
        reused = {shard: metadata(instance, pipeline, step, shard)["reused"].value for shard in ("a", "bad", "b")}
        assert reused == {"a": 3, "bad": 0, "b": 1}


def test_an_older_table_is_not_taken_where_the_run_has_failed_to_make_a_new_one(
    stored_instance, pipeline, clips_root, make_clip
):
    instance = stored_instance
    instance.add_dynamic_partitions(pipeline.shards.name, ["a", "b"])
    assert run_job(instance, pipeline, ["a", "b"]).status == dg.DagsterRunStatus.SUCCESS
    for clip in (clips_root / "b").rglob("*.mp4"):
        clip.write_text("no video")
    run = run_job(instance, pipeline, ["a", "b"])
    assert {
        step: list(said.metadata["failed_shards"].value) for step, said in failures(instance, pipeline, run).items()
    } == {step: ["b"] for step in TABLES}
