"""What a shard took: comparable from shard to shard, and in all what the run took."""

import time
from collections import defaultdict

import pytest

from caption_assets.dataset import open_dataset
from caption_assets.settings import (
    CaptionModelSettings,
    CaptionSettings,
    EnhanceSettings,
    PreviewSettings,
    TextModelSettings,
    WindowSettings,
)
from caption_assets.steps import StepContext, caption_shards, enhance_shards, model_session, window_shard
from caption_assets.store import CLIP_WINDOWS, Store

SHARDS = ["one", "two", "three"]
# Of shards that are alike, on a machine that does other things, too; without a rule it is hundreds.
MOST_APART = 20


@pytest.fixture
def alike(tmp_path, clips_root, workers):
    """Three shards with the same windows."""
    given = StepContext(Store(tmp_path / "out"), workers)
    window_shard(given, open_dataset(str(clips_root)), "a", WindowSettings(window_size=16, remainder_threshold=8))
    for shard in SHARDS:
        given.store.commit_rows(CLIP_WINDOWS, shard, given.store.read_rows(CLIP_WINDOWS, "a"))
    return given


def reports(outcomes):
    by_asset = defaultdict(list)
    for ended in outcomes:
        by_asset[ended.asset].append(ended.outcome)
    return by_asset


@pytest.mark.parametrize("batch_size", [1, 8])
def test_shards_that_are_alike_take_alike_and_together_what_the_run_took(alike, batch_size):
    with model_session(CaptionModelSettings(device="cpu"), batch_size) as session:
        asked = CaptionSettings(max_output_tokens=16, batch_size=batch_size)
        made = reports(caption_shards(alike, SHARDS, session, asked, PreviewSettings(target_height=16)))
        took = time.perf_counter() - (session.ready_at or 0.0)
    for asset in ("window_captions", "window_previews"):
        seconds = [report.seconds for report in made[asset]]
        assert len(seconds) == 3
        assert max(seconds) < MOST_APART * min(seconds)
        assert 0.3 * took < sum(seconds) < took
    for report in made["window_captions"]:
        assert report.figures["windows_per_second"] == pytest.approx(report.rows / report.seconds, rel=0.01)

    with model_session(TextModelSettings(device="cpu"), batch_size) as session:
        asked = EnhanceSettings(max_output_tokens=16, batch_size=batch_size)
        enhanced = reports(enhance_shards(alike, SHARDS, "demo", session, asked))["enhanced_captions"]
    assert max(r.seconds for r in enhanced) < MOST_APART * min(r.seconds for r in enhanced)
    assert sum("engine_start_seconds" in report.figures for report in enhanced) == 1


def test_a_shard_with_nothing_to_do_has_no_speed(alike):
    for _ in range(2):
        with model_session(CaptionModelSettings(device="cpu"), 8) as session:
            made = reports(caption_shards(alike, SHARDS, session, CaptionSettings(max_output_tokens=2)))
    for report in made["window_captions"]:
        assert report.reused == report.ok
        assert report.seconds > 0
        assert "windows_per_second" not in report.figures
