"""What the window settings change: the picks and what depends on them; clips over a limit are outcomes, stored."""

import pytest

from caption_assets.dataset import open_dataset
from caption_assets.errors import ShardError
from caption_assets.settings import (
    CaptionModelSettings,
    CaptionSettings,
    DecodeLimits,
    PreviewSettings,
    WindowSettings,
)
from caption_assets.steps import StepContext, caption_shards, model_session, preview_shard, window_shard
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, TABLES
from caption_assets.workers.local import Workers

SMALL = {"frames": 48, "size": (160, 120)}
LARGE = {"frames": 120, "size": (320, 240)}


@pytest.fixture
def store(tmp_path, make_clip):
    """Of a dataset with a shard of a small and a large clip."""
    make_clip(tmp_path / "clips" / "s" / "small.mp4", **SMALL)
    make_clip(tmp_path / "clips" / "s" / "large.mp4", **LARGE)
    return Store(str(tmp_path / "out"))


@pytest.fixture
def plan(store, tmp_path, workers):
    """Plans the shard; returns the rows by clip."""

    def rows(by=workers, **settings):
        dataset = open_dataset(str(tmp_path / "clips"))
        window_shard(StepContext(store, by), dataset, "s", WindowSettings(**settings))
        return {row.relative_path.removeprefix("s/"): row for row in store.read_rows(CLIP_WINDOWS, "s")}

    return rows


def caption(store, workers):
    with model_session(CaptionModelSettings(device="cpu")) as session:
        given, settings = StepContext(store, workers), CaptionSettings(max_output_tokens=4)
        (ended,) = caption_shards(given, ["s"], session, settings)
    return ended.outcome


def preview(store, workers):
    return preview_shard(StepContext(store, workers), "s", PreviewSettings())


@pytest.mark.parametrize(
    ("name", "limit"),
    [("max_frame_pixels", 160 * 120), ("max_clip_seconds", 3.0), ("max_clip_frames", 60)],
)
def test_a_clip_over_a_limit_is_a_row_that_names_the_limit(plan, name, limit):
    with Workers(1, limits=DecodeLimits(**{name: limit})) as limited:
        rows = plan(limited)
    assert rows["small.mp4"].status == "ok"
    assert (rows["large.mp4"].status, rows["large.mp4"].error_kind) == ("failed", "limit")
    assert name in rows["large.mp4"].error.lower()
    assert {row.status for row in plan().values()} == {"ok"}


def test_planning_has_a_time_limit(plan, store):
    with (
        Workers(1, limits=DecodeLimits(max_decode_seconds=1e-9)) as limited,
        pytest.raises(ShardError, match="Raise max_decode_seconds"),
    ):
        plan(limited)
    assert {row.error_kind for row in store.read_rows(CLIP_WINDOWS, "s")} == {"timeout"}


@pytest.mark.parametrize(
    ("make", "asset", "name", "limit"),
    [
        (caption, "window_captions", "max_frame_pixels", 160 * 120),
        (preview, "window_previews", "max_frame_pixels", 160 * 120),
        (caption, "window_captions", "max_window_bytes", 1_000_000),
        (preview, "window_previews", "max_window_bytes", 1_000_000),
    ],
)
def test_the_limits_of_the_workers_hold_whenever_a_clip_is_read(plan, store, make, asset, name, limit):
    large = plan()["large.mp4"]
    with Workers(1, limits=DecodeLimits(**{name: limit})) as limited:
        report = make(store, limited)
    assert (report.ok, report.failed) == (1, 1)
    key = "demo" if TABLES[asset].keyed else None
    (failed,) = (row for row in store.read_rows(TABLES[asset], "s", key) if row.status == "failed")
    assert (failed.clip_id, failed.error_kind) == (large.clip_id, "limit")
    assert name in failed.error.lower()


@pytest.mark.parametrize("make", [caption, preview])
def test_reading_has_a_time_limit_whenever_a_clip_is_read(plan, store, make):
    plan()
    with Workers(1, limits=DecodeLimits(max_decode_seconds=1e-9)) as limited:
        if make is preview:
            with pytest.raises(ShardError, match="Raise max_decode_seconds"):
                make(store, limited)
        else:
            assert "Raise max_decode_seconds" in str(make(store, limited))


def test_the_bounds_of_sampling_change_the_picks(plan):
    assert [len(row.frame_ids) for row in plan(sampling_fps=4).values()] == [20, 8]
    assert [len(row.frame_ids) for row in plan(sampling_fps=4, max_sampled_frames=13).values()] == [12, 8]
    assert [len(row.frame_ids) for row in plan(sampling_fps=4, min_sampled_frames=15).values()] == [20, 16]
    assert [len(row.frame_ids) for row in plan(min_sampled_frames=16, max_sampled_frames=6).values()] == [6, 6]


def test_other_picks_ask_for_new_captions_and_nothing_else_does(plan, store, workers):
    plan()
    assert caption(store, workers).reused == 0
    preview(store, workers)
    plan(store_window_mp4=True, max_sampled_frames=100)
    assert caption(store, workers).reused == 2
    plan(max_sampled_frames=6)
    report = caption(store, workers)
    assert (report.ok, report.reused) == (2, 1)  # the small clip had no more than four
    assert preview(store, workers).reused == 2
