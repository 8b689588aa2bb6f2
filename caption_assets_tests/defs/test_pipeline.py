"""Pipelines side by side in one code location."""

import json

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from caption_assets.defs.build import build_defs
from caption_assets.defs.partitions import registered_shards
from caption_assets.errors import ConfigError
from caption_assets.settings import PipelineSettings
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS
from caption_assets_tests.pipelines import materialize, materialized, metadata


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


def stale(instance, pipeline, shard):
    """Why assets of a shard are not fresh, by asset; nothing of those that are."""
    graph = build_defs(pipeline.settings).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    found = {}
    for asset in (made.definition for made in pipeline.made):
        name = asset.key.to_user_string()
        if resolver.get_status(asset.key, shard).value != "FRESH":
            causes = [cause.reason for cause in resolver.get_stale_causes(asset.key, shard)]
            found[name] = causes or [resolver.get_status(asset.key, shard).value]
    return found


TINY = {"device": "cpu", "max_output_tokens": 4}


def test_two_models_stand_side_by_side_and_a_changed_choice_shows(instance, clips_root, make_pipeline, tmp_path):
    both = [TINY, {**TINY, "caption_key": "second", "prompt_text": "Otherwise."}]
    pipeline = make_pipeline(clips_root, tmp_path / "out", captions=both)
    assert [made.definition.key.to_user_string() for made in pipeline.made] == [
        "clip_windows",
        "window_previews",
        "window_captions_demo",
        "window_captions_second",
        "enhanced_captions_demo_by_demo_lm",
        "enhanced_captions_second_by_demo_lm",
    ]
    assert materialize(instance, pipeline, ["b"]).success
    assert stale(instance, pipeline, "b") == {}
    (row,) = Store(str(tmp_path / "out")).read_rows(CLIP_WINDOWS, "b")
    (window,) = json.loads((tmp_path / "out" / "metas" / "v0" / f"{row.clip_id}.json").read_text())["windows"]
    texts = ("demo_caption", "second_caption", "demo_lm_enhanced_caption", "second+demo_lm_enhanced_caption")
    assert all(window[key] for key in texts)
    told = metadata(instance, pipeline, "window_captions", "b")
    assert (told["caption_key"].value, told["variant"].value, told["prompt"].value) == ("demo", "demo", "default")
    assert told["prompt_text"].value.startswith("Describe this video")
    assert told["settings"].value["max_output_tokens"] == 4
    made_by = {"caption_assets/window_captions_second": "Otherwise.", "caption_assets/text_key": "demo_lm"}
    (run,) = instance.get_runs(dg.RunsFilter(tags=made_by))
    assert run.tags["caption_assets/caption_key"] == "demo, second"
    assert run.tags["caption_assets/prompt"] == "default, Otherwise."

    # A deployment with another prompt for one of them, another window size, or another model.
    def changed(**settings):
        return stale(instance, make_pipeline(clips_root, tmp_path / "out", **{"captions": both, **settings}), "b")

    reason = ["has a new code version"]
    assert changed(captions=[TINY, {**both[1], "prompt_text": "Anew."}]) == {"window_captions_second": reason}
    assert changed(captions=[{**TINY, "batch_size": 3, "in_flight_gib": 1}, both[1]]) == {}
    assert changed(windows={"window_size": 32, "remainder_threshold": 32}) == {"clip_windows": reason}
    assert changed(previews={"quality": 9, "verbose": True}) == {"window_previews": reason}
    missing = {"window_captions_third": ["MISSING"], "enhanced_captions_third_by_demo_lm": ["MISSING"]}
    assert changed(captions=[*both, {**TINY, "caption_key": "third"}]) == missing

    # A run whose config chose another prompt than the deployment's is stale against that.
    config = {"window_captions": {"prompt_text": "Quite otherwise."}}
    assert materialize(instance, pipeline, ["b"], ["window_captions"], config).success
    assert stale(instance, pipeline, "b").keys() >= {"window_captions_demo", "window_captions_second"}


def test_two_models_with_one_key_are_refused():
    with pytest.raises(ConfigError, match="more than one of them is called demo"):
        build_defs(PipelineSettings(captions=[TINY, TINY]))
