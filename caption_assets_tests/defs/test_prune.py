"""The job that removes what belongs to no clip any more, partitions too."""

import shutil

import dagster as dg

from caption_assets.defs.build import build_defs
from caption_assets.defs.partitions import registered_shards
from caption_assets.store import CLIP_WINDOWS, Store
from caption_assets_tests.pipelines import materialize


def test_the_job_shows_and_where_told_to_removes_what_belongs_to_no_clip(instance, pipeline, clips_root, tmp_path):
    materialize(instance, pipeline, ["a", "b"], ["clip_windows"])
    store = Store(tmp_path / "out")
    shutil.rmtree(clips_root / "b")
    job = build_defs(pipeline.settings).resolve_job_def("prune")

    def run(apply):
        config = {"ops": {"find_and_prune": {"config": {"apply": apply}}}}
        result = job.execute_in_process(run_config=config, instance=instance)
        (event,) = [event for event in result.all_events if event.event_type == dg.DagsterEventType.STEP_OUTPUT]
        figures = {name: value.value for name, value in event.step_output_data.metadata.items()}
        return figures["tables"], figures["partitions"]

    assert run(apply=False) == (1, 1)
    assert store.shards(CLIP_WINDOWS) == registered_shards(instance, pipeline.shards) == ["a", "b"]
    assert run(apply=True) == (1, 1)
    assert store.shards(CLIP_WINDOWS) == registered_shards(instance, pipeline.shards) == ["a"]
