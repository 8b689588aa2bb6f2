"""What changes in a dataset is seen, and turns stale what was made of it, and nothing else."""

import os
import shutil
import tarfile

import dagster as dg
import pytest

from caption_assets.dataset import NO_CLIPS
from caption_assets.dataset.choose import ChosenDataset
from caption_assets.dataset.sharding import HashRule
from caption_assets.defs import source
from caption_assets.defs.build import build_defs
from caption_assets.defs.partitions import registered_shards
from caption_assets.defs.source import Look, observed_versions
from caption_assets.settings import DatasetSettings
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, TABLES
from caption_assets_tests.pipelines import QUIET, Sensor, materialize, metadata, stale

ALL = list(TABLES)


def test_the_sensor_registers_new_shards_and_never_removes_one(instance, pipeline, clips_root, make_clip):
    sensor = Sensor(instance, pipeline)
    assert sensor.definition.default_status == dg.DefaultSensorStatus.RUNNING
    sensor.tick()
    assert set(registered_shards(instance, pipeline.shards)) == {"a", "b"}
    assert "0 of them now" in sensor.tick().skip_message
    make_clip(clips_root / "c" / "x.mp4", 24)
    sensor.tick()
    assert registered_shards(instance, pipeline.shards) == ["a", "b", "c"]
    clips_root.rename(clips_root.with_name("gone"))
    assert "does not exist" in sensor.tick().skip_message
    assert registered_shards(instance, pipeline.shards) == ["a", "b", "c"]
    assert NO_CLIPS not in observed_versions(instance, pipeline.source.key).values()


def test_changes_of_other_kinds_of_datasets_are_seen_shard_by_shard(instance, clips_root, tmp_path, make_pipeline):
    """Of a manifest, of a tar, and of a flat folder in shards; each has its own registry of shards."""

    def unplanned(made):
        return {shard for shard, steps in stale(instance, made).items() if "clip_windows" in steps}

    manifest, rows = tmp_path / "list.csv", "path,shard,place\nclips/a/short.mp4,x,Bern\nclips/b/deep/only.mp4,y,Rome\n"
    manifest.write_text(rows)
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(clips_root / "a" / "short.mp4", "short.mp4")
    flat = tmp_path / "flat"
    flat.mkdir()
    for number in range(8):
        shutil.copy(clips_root / "a" / "short.mp4", flat / f"{number}.mp4")
    kinds = {"list": (manifest, {}), "tar": (tmp_path / "t.tar", {}), "flat": (flat, {"shards": 2})}
    expected = {"list": ["x", "y"], "tar": ["t"], "flat": ["hash-0-of-2", "hash-1-of-2"]}
    pipelines, sensors = {}, {}
    for kind, (root, clips) in kinds.items():
        made = pipelines[kind] = make_pipeline(root, tmp_path / "out" / kind, clips=clips)
        sensors[kind] = Sensor(instance, made)
        sensors[kind].tick()
        assert registered_shards(instance, made.shards) == expected[kind]
        assert materialize(instance, made, expected[kind], ["clip_windows"]).success
        assert not unplanned(made)
    assert len({made.shards.name for made in pipelines.values()}) == 3

    manifest.write_text(rows.replace("Bern", "Wien"))
    os.utime(tmp_path / "t.tar")
    shutil.copy(clips_root / "a" / "short.mp4", flat / "new.mp4")
    concerned = {"list": {"x"}, "tar": {"t"}, "flat": {HashRule(2).shard_of("new.mp4")}}
    for kind, made in pipelines.items():
        sensors[kind].tick()
        assert unplanned(made) == concerned[kind]
        assert materialize(instance, made, sorted(concerned[kind]), ["clip_windows"]).success
        assert not unplanned(made)
    (row,) = Store(tmp_path / "out" / "list").read_rows(CLIP_WINDOWS, "x")
    assert row.columns == '{"place": "Wien"}'


def test_exactly_the_shard_whose_clips_change_is_stale_and_only_that_is_made_anew(
    instance, pipeline, clips_root, make_clip
):
    sensor = Sensor(instance, pipeline)
    sensor.tick()
    assert materialize(instance, pipeline, ["a", "b"]).success
    assert stale(instance, pipeline) == {"a": [], "b": []}
    assert materialize(instance, pipeline, ["b"]).success  # what changes nothing leaves everything as it is,
    assert materialize(instance, pipeline, ["a", "b"], ["clip_windows", "window_captions"]).success  # in any form
    sensor.tick()
    assert stale(instance, pipeline) == {"a": [], "b": []}

    make_clip(clips_root / "a" / "new.mp4", 30)
    assert stale(instance, pipeline) == {"a": [], "b": []}  # nobody has looked yet
    assert "listings of 1 " in sensor.tick().skip_message
    assert stale(instance, pipeline) == {"a": ["clip_windows"], "b": []}
    assert materialize(instance, pipeline, ["a", "b"], ["clip_windows"]).success
    assert stale(instance, pipeline) == {"a": ["window_previews", "window_captions"], "b": []}
    assert materialize(instance, pipeline, ["a"]).success
    assert stale(instance, pipeline) == {"a": [], "b": []}
    for step in ALL[1:]:
        found = metadata(instance, pipeline, step, "a")
        assert (found["ok"].value, found["reused"].value) == (4, 3)

    (clips_root / "a" / "short.mp4").unlink()
    sensor.tick()
    assert stale(instance, pipeline)["a"] == ["clip_windows"]
    assert materialize(instance, pipeline, ["a", "b"]).success  # by a run over a range
    assert stale(instance, pipeline) == {"a": [], "b": []}
    assert metadata(instance, pipeline, "enhanced_captions", "a")["ok"].value == 3

    make_clip(clips_root / "a" / "new.mp4", 31)
    sensor.tick()
    assert stale(instance, pipeline)["a"] == ["clip_windows"]
    assert materialize(instance, pipeline, ["a"]).success
    os.utime(clips_root / "a" / "new.mp4")  # the same bytes, written again
    sensor.tick()
    assert stale(instance, pipeline)["a"] == ["clip_windows"]
    assert materialize(instance, pipeline, ["a"], ["clip_windows"]).success
    assert stale(instance, pipeline) == {"a": [], "b": []}


def test_a_step_tells_which_listing_it_has_found_before_anybody_has_looked(instance, pipeline, clips_root, make_clip):
    assert materialize(instance, pipeline, ["a", "b"], ["clip_windows"]).success
    assert set(observed_versions(instance, pipeline.source.key)) == {"a", "b"}
    sensor = Sensor(instance, pipeline)
    assert "listings of 0 " in sensor.tick().skip_message
    assert "clip_windows" not in stale(instance, pipeline)["a"]


def test_a_table_that_was_replaced_while_it_was_read_leaves_what_was_made_of_it_stale(
    instance, pipeline, clips_root, make_clip, monkeypatch
):
    assert materialize(instance, pipeline, ["a", "b"], ["clip_windows"]).success
    read_table, other = Store.read_table, []

    def read_and_replace(self, table, shard, *args, **more):
        found = read_table(self, table, shard, *args, **more)
        if table.name == "clip_windows" and not other:
            other.append(shard)
            make_clip(clips_root / "b" / "new.mp4", 30)
            assert materialize(instance, pipeline, ["b"], ["clip_windows"]).success
        return found

    monkeypatch.setattr(Store, "read_table", read_and_replace)
    assert materialize(instance, pipeline, ["b"], ["window_previews"]).success
    assert other == ["b"]
    assert "window_previews" in stale(instance, pipeline)["b"]


def test_a_shard_that_has_lost_all_its_clips_keeps_what_was_made_of_them(instance, pipeline, clips_root):
    sensor = Sensor(instance, pipeline)
    sensor.tick()
    assert materialize(instance, pipeline, ["a", "b"], ["clip_windows"]).success
    shutil.rmtree(clips_root / "b")
    sensor.tick()
    assert observed_versions(instance, pipeline.source.key)["b"] == NO_CLIPS
    assert "clip_windows" in stale(instance, pipeline)["b"]
    assert not materialize(instance, pipeline, ["b"], ["clip_windows"]).success
    assert len(Store(pipeline.settings.output).read_rows(TABLES["clip_windows"], "b")) == 1


def test_a_look_at_many_shards_is_done_in_parts_and_not_again_at_once(monkeypatch, instance, pipeline, clips_root):
    monkeypatch.setattr(source, "MOST_CHANGES", 3)
    for k in range(8):
        shutil.copytree(clips_root / "b", clips_root / f"c{k}")
    sensor = Sensor(instance, pipeline)
    seen = [len(sensor.tick(pause=True).asset_events) for _ in range(4)]
    assert seen == [3, 3, 3, 1]
    assert len(observed_versions(instance, pipeline.source.key)) == 10

    (clips_root / "c7" / "new.mp4").write_text("new")
    look = Look(pause_until=100.0)
    listed = [pipeline.resources["clips"].dataset(), sorted(registered_shards(instance, pipeline.shards))]
    known = observed_versions(instance, pipeline.source.key)
    assert look.go_on(*listed, known, now=99.0) == ({}, look)
    changed, after = look.go_on(*listed, known, now=101.0)
    assert list(changed) == ["c7"]
    assert after.pause_until > 101.0


def test_of_a_dataset_that_takes_long_to_list_new_shards_are_looked_for_when_the_pause_is_over(pipeline):
    slow = Look().go_on(ChosenDataset(pipeline.settings.dataset, DatasetSettings()), [], {}, now=100.0, listed_s=2.0)[1]
    assert slow.rests(100.0 + 39)
    assert not slow.rests(100.0 + 41)
    assert not Look(pause_until=140.0, listed_s=0.1).rests(100.0)


@pytest.fixture
def stored_instance():
    with dg.instance_for_test() as instance:
        yield instance


def test_to_observe_the_source_is_to_look_at_all_shards(stored_instance, pipeline, clips_root):
    instance = stored_instance
    Sensor(instance, pipeline).tick()
    before = observed_versions(instance, pipeline.source.key)
    (clips_root / "a" / "new.mp4").write_text("new")
    shutil.rmtree(clips_root / "b")
    defs = build_defs(pipeline.settings)
    assert defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=[pipeline.source.key], run_config={"loggers": QUIET}
    )
    after = observed_versions(instance, pipeline.source.key)
    assert after["a"] != before["a"]
    assert after["b"] == NO_CLIPS
