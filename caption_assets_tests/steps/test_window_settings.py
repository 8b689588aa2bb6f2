"""What the window settings change: the picks and what depends on them; clips over a limit are outcomes, stored."""

from dataclasses import replace

import pytest

from caption_assets.dataset import Dataset
from caption_assets.defs.resources import CaptionModel
from caption_assets.errors import ShardError
from caption_assets.settings import CaptionSettings, PreviewSettings, WindowSettings
from caption_assets.steps import caption_shards, preview_shard, window_shard
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS

SMALL = {"frames": 48, "size": (160, 120)}
LARGE = {"frames": 120, "size": (320, 240)}


@pytest.fixture
def plan(tmp_path, make_clip, workers):
    """Plans a shard of a small and a large clip anew; returns the rows by clip."""
    make_clip(tmp_path / "clips" / "s" / "small.mp4", **SMALL)
    make_clip(tmp_path / "clips" / "s" / "large.mp4", **LARGE)
    store = Store(str(tmp_path / "out"))

    def rows(**settings):
        window_shard(store, Dataset(str(tmp_path / "clips")), "s", WindowSettings(**settings), workers)
        return {row.relative_path.removeprefix("s/"): row for row in store.read_rows(CLIP_WINDOWS, "s")}

    rows.store = store
    return rows


@pytest.fixture
def caption(plan, workers):
    def report():
        with CaptionModel(device="cpu").session(8) as session:
            ((_, outcome),) = caption_shards(plan.store, ["s"], session, CaptionSettings(max_output_tokens=4), workers)
        return outcome

    return report


@pytest.mark.parametrize(
    ("name", "limit"),
    [("max_frame_pixels", 160 * 120), ("max_clip_seconds", 3.0), ("max_clip_frames", 60)],
)
def test_a_clip_over_a_limit_is_a_row_that_names_the_limit(plan, name, limit):
    rows = plan(**{name: limit})
    assert rows["small.mp4"].status == "ok"
    assert (rows["large.mp4"].status, rows["large.mp4"].error_kind) == ("failed", "limit")
    assert name in rows["large.mp4"].error.lower()
    assert {row.status for row in plan().values()} == {"ok"}


def test_planning_has_a_time_limit(plan):
    with pytest.raises(ShardError, match="Raise max_decode_seconds"):
        plan(max_decode_seconds=1e-9)
    assert {row.error_kind for row in plan.store.read_rows(CLIP_WINDOWS, "s")} == {"timeout"}


@pytest.mark.parametrize(
    ("name", "limit", "kind"),
    [("max_decode_seconds", 1e-9, "timeout"), ("max_frame_pixels", 100, "limit"), ("max_window_bytes", 1000, "limit")],
)
def test_what_a_clip_was_planned_under_holds_when_it_is_read(plan, caption, workers, name, limit, kind):
    rows = plan()
    limited = replace(rows["large.mp4"], **{name: limit})
    plan.store.commit_rows(CLIP_WINDOWS, "s", [limited, rows["small.mp4"]])
    for asset, report in (
        ("window_captions", caption()),
        ("window_previews", preview_shard(plan.store, "s", PreviewSettings(), workers)),
    ):
        assert (report.ok, report.failed) == (1, 1)
        key = "demo" if asset == "window_captions" else None
        (failed,) = (row for row in plan.store.read_rows(asset, "s", key) if row.status == "failed")
        assert failed.clip_id == limited.clip_id
        assert name in failed.error.lower()
        assert failed.error_kind == kind


def test_the_bounds_of_sampling_change_the_picks(plan):
    assert [len(row.frame_ids) for row in plan(sampling_fps=4).values()] == [20, 8]
    assert [len(row.frame_ids) for row in plan(sampling_fps=4, max_sampled_frames=13).values()] == [12, 8]
    assert [len(row.frame_ids) for row in plan(sampling_fps=4, min_sampled_frames=15).values()] == [20, 16]
    assert [len(row.frame_ids) for row in plan(min_sampled_frames=16, max_sampled_frames=6).values()] == [6, 6]


def test_other_picks_ask_for_new_captions_and_nothing_else_does(plan, caption, workers):
    plan()
    assert caption().reused == 0
    preview_shard(plan.store, "s", PreviewSettings(), workers)
    plan(
        store_window_mp4=True,
        max_sampled_frames=100,
        max_clip_seconds=100,
        max_decode_seconds=100,
        max_frame_pixels=10**6,
        max_clip_frames=1000,
        max_window_bytes=10**8,
    )
    assert caption().reused == 2
    plan(max_sampled_frames=6)
    report = caption()
    assert (report.ok, report.reused) == (2, 1)  # the small clip had no more than four
    assert preview_shard(plan.store, "s", PreviewSettings(), workers).reused == 2
