"""Pipelines side by side in one code location."""

import dagster as dg

from caption_assets.defs.build import build_defs
from caption_assets.defs.partitions import registered_shards
from caption_assets_tests.pipelines import materialize, materialized


def test_two_pipelines_stand_side_by_side_and_keep_their_shards_apart(
    instance, clips_root, make_clip, make_pipeline, tmp_path
):
    make_clip(tmp_path / "others" / "z" / "other.mp4", 24)
    cars = make_pipeline(clips_root, tmp_path / "cars", name="cars")
    boats = make_pipeline(tmp_path / "others", tmp_path / "boats", name="boats")
    defs = dg.Definitions.merge(build_defs(cars.settings), build_defs(boats.settings))
    dg.Definitions.validate_loadable(defs)
    repository = defs.get_repository_def()
    for kind in (repository.sensor_defs, repository.schedule_defs):
        assert {definition.name.partition("_")[0] for definition in kind} == {"cars", "boats"}
    assert materialize(instance, cars, ["a", "b"], ["clip_windows"]).success
    assert materialize(instance, boats, ["z"], ["clip_windows"]).success
    assert materialized(instance, cars, "clip_windows") == {"a", "b"}
    assert materialized(instance, boats, "clip_windows") == {"z"}
    assert registered_shards(instance, boats.shards) == ["z"]
    assert (tmp_path / "boats" / "tables" / "clip_windows" / "z.parquet").is_file()
