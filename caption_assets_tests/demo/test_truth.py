"""From mp4 files to `metas/v0`: what the documents say is what the clips show, and a defect anywhere shows."""

import json
import shutil
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from caption_assets.dataset import open_dataset
from caption_assets.demo.clips import render_dataset
from caption_assets.demo.world import ATTRIBUTES, sample_scene, score
from caption_assets.models.engines.session import EngineSession
from caption_assets.records import SampledFrames
from caption_assets.settings import (
    CaptionModelSettings,
    CaptionSettings,
    EnhanceSettings,
    TextModelSettings,
    WindowSettings,
)
from caption_assets.steps import (
    ShardReport,
    StepContext,
    caption_shards,
    enhance_shards,
    model_session,
    window_shard,
)
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS
from caption_assets_tests.demo.truth import shares, told

SHARDS = ("some", "more")
SOME = SHARDS[:1]  # enough for a defect to show
TOGETHER = 24  # all windows in a batch


@pytest.fixture(scope="module")
def scenes():
    """Clips of one and of two windows, in sizes and rates that differ; the seed is not one of the training's."""
    rng = np.random.default_rng(20_001)
    rates = [Fraction(24), Fraction(30000, 1001), Fraction(12), Fraction(50)]
    single = [sample_scene(rng, width=w, height=h, frame_rate=r) for w, h in ((320, 240), (240, 400)) for r in rates]
    moving = [sample_scene(rng, width=320, height=180, frame_rate=Fraction(25), kind="one") for _ in range(6)]
    double = [sample_scene(rng, width=256, height=256, frame_rate=Fraction(60), windows=2) for _ in range(4)]
    every = [*single, *moving, *double]
    return {shard: every[k :: len(SHARDS)] for k, shard in enumerate(SHARDS)}


@pytest.fixture(scope="module")
def windows(scenes, tmp_path_factory, workers):
    """The clips, and where their windows are planned."""
    root = tmp_path_factory.mktemp("truth")
    render_dataset(root / "clips", scenes)
    store = Store(str(root / "out"))
    for shard in SHARDS:
        window_shard(StepContext(store, workers), open_dataset(str(root / "clips")), shard, WindowSettings())
    return root / "out"


@pytest.fixture
def planned(windows, tmp_path):
    """A store whose windows are planned and not yet captioned."""
    return Store(str(shutil.copytree(windows, tmp_path / "out")))


def caption(store, workers, shards=SOME, **settings):
    with model_session(CaptionModelSettings(device="cpu"), TOGETHER) as session:
        for ended in caption_shards(StepContext(store, workers), shards, session, CaptionSettings(**settings)):
            assert isinstance(ended.outcome, ShardReport), ended.outcome


def windows_of(store, scenes, shards=SOME):
    """Every window of the documents with its scene."""
    for shard in shards:
        for path, window in told(store, shard):
            yield scenes[shard][int(path[-6:-4])], window


def rates(store, scenes, key="demo_caption", shards=SOME):
    return shares(score(w[key], scene, w["start_s"], w["end_s"]) for scene, w in windows_of(store, scenes, shards))


def test_captions_and_enhanced_captions_tell_the_truth(planned, scenes, workers, tmp_path):
    caption(planned, workers, SHARDS)
    found = rates(planned, scenes, shards=SHARDS)
    assert found["all"] >= 0.97, found
    assert min(found[name] for name in ATTRIBUTES) >= 0.99, found

    with model_session(TextModelSettings(device="cpu"), TOGETHER) as session:
        list(enhance_shards(StepContext(planned, workers), SHARDS, "demo", session, EnhanceSettings()))
    for _, window in windows_of(planned, scenes, SHARDS):
        assert len(window["demo_lm_enhanced_caption"]) > len(window["demo_caption"])
    enhanced = rates(planned, scenes, "demo_lm_enhanced_caption", SHARDS)
    assert enhanced["all"] >= found["all"] - 0.05, (enhanced, found)
    (chunk,) = (tmp_path / "out" / "processed_clip_chunks" / "more").glob("clip-08.mp4_0.json")
    texts = next(iter(json.loads(chunk.read_text())["all_windows"].values()))
    assert len(texts) == 2
    assert len(set(texts.values())) == 2


def swap_red_and_blue(frames):
    return replace(frames, frames=np.ascontiguousarray(frames.frames[..., ::-1]))


def reverse_time(frames):
    return SampledFrames(np.ascontiguousarray(frames.frames[::-1]), frames.picks)


@pytest.fixture
def inject(monkeypatch):
    """Lets a function change the frames of every request on its way to the engine."""

    def change(defect):
        generate = EngineSession.generate

        def generate_with_defect(session, requests):
            return generate(session, (replace(request, frames=defect(request.frames)) for request in requests))

        monkeypatch.setattr(EngineSession, "generate", generate_with_defect)

    return change


@pytest.mark.parametrize(
    ("defect", "attribute", "most"), [(swap_red_and_blue, "colour", 0.6), (reverse_time, "motion", 0.5)]
)
def test_a_defect_in_the_frames_shows(planned, scenes, workers, inject, defect, attribute, most):
    inject(defect)
    caption(planned, workers, max_output_tokens=64)  # what the model has never seen, it does not know how to end
    found = rates(planned, scenes)
    assert found[attribute] <= most, found
    assert found["all"] <= most, found


def test_captions_of_the_wrong_windows_show(planned, scenes, workers, inject):
    held = []

    def late(frames):
        """Gives each window the frames of the one before it; the first keeps its own."""
        held.append(frames)
        return held[-2] if len(held) > 1 else frames

    inject(late)
    caption(planned, workers)
    assert rates(planned, scenes)["all"] <= 0.3


def test_sampling_only_the_first_half_of_a_window_shows(planned, scenes, workers):
    """Where two things happen in turn, the second one is missed."""
    for shard in SHARDS:
        rows = planned.read_rows(CLIP_WINDOWS, shard)
        in_turn = [row for row in rows if "then" in _scene(scenes, shard, row).caption(row.start_s, row.end_s)]
        planned.commit_rows(CLIP_WINDOWS, shard, [_first_half(row) for row in in_turn])
    caption(planned, workers, SHARDS)
    said = list(windows_of(planned, scenes, SHARDS))
    right = [score(w["demo_caption"], scene, w["start_s"], w["end_s"])["all"] for scene, w in said]
    assert len(right) >= 2
    assert sum(right) <= 0.3 * len(right)


def _scene(scenes, shard, row):
    return scenes[shard][int(row.relative_path[-6:-4])]


def _first_half(row):
    ids = tuple(row.start_frame + (i - row.start_frame) // 2 for i in row.frame_ids)
    return replace(row, frame_ids=ids, times_s=tuple(t / 2 for t in row.times_s))
