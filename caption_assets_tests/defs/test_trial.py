"""A run about the first clips of each shard leaves the shard as missing as it was."""

import pytest

from caption_assets.defs.tags import LIMIT_TAG, trial_of
from caption_assets.errors import ConfigError
from caption_assets.store import CLIP_WINDOWS, WINDOW_CAPTIONS, Store
from caption_assets_tests.pipelines import materialize


def test_a_trial_makes_rows_and_no_shard(instance, pipeline, tmp_path):
    steps = ["clip_windows", "window_captions"]
    assert materialize(instance, pipeline, ["a"], steps, tags={LIMIT_TAG: "1"}).success
    assert len({row.clip_id for row in Store(tmp_path / "out").read_rows(CLIP_WINDOWS, "a")}) == 1
    assert all(not instance.get_materialized_partitions(asset.key) for asset in pipeline.assets)
    observed = instance.fetch_observations(pipeline.made[0].definition.key, limit=1).records[0]
    assert observed.asset_event.metadata["only_first_clips"].value == 1
    assert materialize(instance, pipeline, ["a"], steps).success
    assert instance.get_materialized_partitions(pipeline.made[0].definition.key) == {"a"}
    rows = Store(tmp_path / "out").read_rows(WINDOW_CAPTIONS, "a", "demo")
    assert len(rows) == 3


def test_a_tag_that_is_no_number_of_clips_is_refused():
    with pytest.raises(ConfigError, match="no number of clips"):
        trial_of({LIMIT_TAG: "few"})
