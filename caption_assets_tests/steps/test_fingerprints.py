"""What is made is good as long as what it depends on is the same, also in later versions, and no longer."""

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from caption_assets.dataset.base import Listing
from caption_assets.errors import ModelError
from caption_assets.records import Clip, Crop, FramePicks, VideoInfo, Window
from caption_assets.settings import (
    CaptionModelSettings,
    CaptionSettings,
    EnhanceSettings,
    PreviewSettings,
    TextModelSettings,
    WindowSettings,
)
from caption_assets.steps import (
    StepContext,
    caption_shards,
    enhance_shards,
    model_session,
    preview_shard,
    window_shard,
)
from caption_assets.steps.versions import data_version
from caption_assets.store import CLIP_WINDOWS, ENHANCED_CAPTIONS, WINDOW_CAPTIONS, WINDOW_PREVIEWS, Store
from caption_assets.workers.tasks import PlannedWindow
from caption_assets_tests.rows import caption, enhanced, preview, window

WINDOW = window(window_hash="a window", end=47, end_s=2.0)
CAPTION = caption(WINDOW, "A bike.")


class _WorkError(Exception):
    """Something is to be made."""


class Workers:
    """They do nothing, and say so."""

    processes, start_seconds = 1, 0.0

    def run(self, work, tasks, **_):
        if list(tasks):
            raise _WorkError
        return iter(())


@pytest.fixture
def given(tmp_path):
    return StepContext(Store(tmp_path / "out"), Workers())


def is_good(make):
    """Whether all that `make` would make is there. Weights of its model are not."""
    try:
        report = make()
    except _WorkError:
        return False
    except ModelError as error:
        return "cannot be downloaded" not in str(error)
    assert report.reused == report.ok == 1
    return True


def outcome(ends):
    (ended,) = ends
    return ended.outcome


# Captions

CAPTIONED_AS = "55e120a56eb628fb5bf781963cc37aa1"
ON_CPU = {"model_variant": "qwen", "device": "cpu", "engine": "transformers"}


def is_captioned(given, row, fingerprint, model=(), made=(), **settings):
    given.store.commit_rows(CLIP_WINDOWS, "s", [replace(WINDOW, **row)])
    known = replace(CAPTION, fingerprint=fingerprint, **dict(made))
    given.store.commit_rows(WINDOW_CAPTIONS, "s", [known], "qwen")
    with model_session(CaptionModelSettings(**{**ON_CPU, **dict(model)})) as session:
        return is_good(lambda: outcome(caption_shards(given, ["s"], session, CaptionSettings(**settings))))


@pytest.mark.parametrize(
    ("settings", "fingerprint"),
    [
        ({}, CAPTIONED_AS),
        ({"prompt_text": "What is it?", "max_output_tokens": 9}, "ba3a1c913797b0735281ebcd09c8fae2"),
        ({"generate_stage2_caption": True}, "c5c4f9db297d8686c1e4058f8b965a2a"),
        ({"generate_stage2_caption": True, "stage2_prompt_text": "Shorter."}, "0f570126e41666fe17df5b3aa5c0eb5c"),
    ],
)
def test_captions_of_earlier_versions_stay(given, settings, fingerprint):
    assert is_captioned(given, {}, fingerprint, **settings)


@pytest.mark.parametrize(
    "change",
    [
        {"row": {"window_hash": "another"}},
        {"row": {"end_frame": 48}},
        {"row": {"clip_id": "another"}},
        {"prompt_text": "What is it?"},
        {"prompt_variant": "av"},
        {"max_output_tokens": 511},
        {"generate_stage2_caption": True},
        {"model": {"temperature": 0.5}},
        {"made": {"status": "failed"}},
    ],
    ids=str,
)
def test_a_caption_is_made_again_when_what_it_depends_on_is_another(given, change):
    assert not is_captioned(given, **{"row": {}, "fingerprint": CAPTIONED_AS, **change})


def test_what_a_caption_does_not_depend_on_changes_nothing(given):
    moved = {"location": "elsewhere", "relative_path": "b.mp4", "fingerprint": "other settings", "start_s": 1.0}
    model = {"in_flight_gib": 1.0, "engine_timeout_s": 9.0, "engine": "auto"}
    assert is_captioned(given, moved, CAPTIONED_AS, model, batch_size=3)


# Enhanced captions

REWRITTEN_AS = "4b126075bdbb26b8f91326e0541ab4f2"


def is_enhanced(given, row, fingerprint, key="qwen", model=(), made=(), **settings):
    given.store.commit_rows(WINDOW_CAPTIONS, "s", [replace(CAPTION, **row)], key)
    known = enhanced(replace(CAPTION, key=key), fingerprint=fingerprint, **dict(made))
    given.store.commit_rows(ENHANCED_CAPTIONS, "s", [known], f"{key}/qwen_lm")
    with model_session(TextModelSettings(**{**ON_CPU, **dict(model)})) as session:
        return is_good(lambda: outcome(enhance_shards(given, ["s"], key, session, EnhanceSettings(**settings))))


@pytest.mark.parametrize(
    ("settings", "fingerprint"),
    [
        ({}, REWRITTEN_AS),
        ({"prompt_variant": "av-surveillance", "max_output_tokens": 9}, "e1715de5119ffe9691a53ed437aadfde"),
    ],
)
def test_enhanced_captions_of_earlier_versions_stay(given, settings, fingerprint):
    assert is_enhanced(given, {}, fingerprint, **settings)


@pytest.mark.parametrize(
    "change",
    [
        {"row": {"text": "Two bikes."}},
        {"row": {"end_frame": 48}},
        {"row": {"clip_id": "another"}},
        {"row": {"key": "qwen3"}, "key": "qwen3"},
        {"prompt_text": "Shorten it."},
        {"prompt_variant": "av-surveillance"},
        {"max_output_tokens": 511},
        {"model": {"seed": 1}},
        {"model": {"model_variant": "qwen3"}},
        {"made": {"status": "failed"}},
    ],
    ids=str,
)
def test_a_text_is_rewritten_again_when_what_it_depends_on_is_another(given, change):
    assert not is_enhanced(given, **{"row": {}, "fingerprint": REWRITTEN_AS, **change})


def test_how_a_caption_came_about_changes_nothing_for_its_rewriting(given):
    again = dict.fromkeys(("fingerprint", "prompt_hash", "content_hash", "first_text", "error"), "another")
    assert is_enhanced(given, again, REWRITTEN_AS, batch_size=3)


# Previews

PREVIEWED_AS = "ee1e0c76b0e37a7c6488fbd3cfcbfb59"


def is_previewed(given, row, fingerprint, made=(), **settings):
    given.store.commit_rows(CLIP_WINDOWS, "s", [replace(WINDOW, **row)])
    known = preview(WINDOW, **{"fingerprint": fingerprint, "num_bytes": 3, **dict(made)})
    given.store.write_bytes(known.path, b"...")
    given.store.commit_rows(WINDOW_PREVIEWS, "s", [known])
    return is_good(lambda: preview_shard(given, "s", PreviewSettings(**settings)))


@pytest.mark.parametrize(
    ("settings", "fingerprint"),
    [
        ({}, PREVIEWED_AS),
        (
            {"target_fps": 2.0, "target_height": 96, "compression_level": 0, "quality": 9},
            "9bccf5be72b1da6437275a6aa0f52e69",
        ),
    ],
)
def test_previews_of_earlier_versions_stay(given, settings, fingerprint):
    assert is_previewed(given, {}, fingerprint, **settings)


@pytest.mark.parametrize(
    "change",
    [
        {"row": {"content_hash": "another"}},
        {"row": {"start_frame": 1}},
        {"row": {"end_frame": 48}},
        {"row": {"clip_id": "another"}},
        {"target_fps": 2.0},
        {"target_height": 96},
        {"compression_level": 5},
        {"quality": 9},
        {"max_frames": 1},  # which the window has more of
        {"made": {"status": "failed"}},
        {"made": {"num_bytes": 4}},
    ],
    ids=str,
)
def test_a_preview_is_made_again_when_what_it_depends_on_is_another(given, change):
    assert not is_previewed(given, **{"row": {}, "fingerprint": PREVIEWED_AS, **change})


def test_what_a_preview_does_not_depend_on_changes_nothing(given):
    picked = {"frame_ids": (0, 1), "times_s": (0.0, 0.04), "window_hash": "another", "fingerprint": "another"}
    assert is_previewed(given, picked, PREVIEWED_AS, max_frames=3, num_cpus_per_worker=1.0, verbose=True)


# Windows, whose hash stands for all that a model sees of them

WINDOW_HASH = "cdda756b865aa2dc6ba4741e38a2cd63"
INFO = VideoInfo(
    width=640,
    height=272,
    display_width=640,
    display_height=272,
    rotation=0,
    frame_rate=Fraction(25),
    duration_s=2.0,
    codec="h264",
    pixel_format="yuv420p",
    audio_codec=None,
    num_bytes=9,
    content_hash="bikes",
    pts_s=np.arange(50) / 25,
)
CLIP = Clip("id", "s", "/clips/a.mp4", "a.mp4", "its size and time")
PLANNED = PlannedWindow(Window(0, 49), 0.0, 2.0, FramePicks((0, 24), (0.0, 0.96)), None)


def hash_of(
    given, info=(), window=PLANNED.window, ids=PLANNED.picks.frame_ids, times=PLANNED.picks.times_s, clip="a.mp4"
):
    of_clip = replace(INFO, **dict(info))
    planned = replace(PLANNED, window=window, picks=FramePicks(ids, times))

    def run(_, tasks, **__):
        for task in tasks:
            yield task, of_clip
            yield task, planned

    workers = SimpleNamespace(processes=1, start_seconds=0.0, run=run)
    plan(replace(given, workers=workers), replace(CLIP, relative_path=clip))
    (row,) = given.store.read_rows(CLIP_WINDOWS, "s")
    return row.window_hash


def plan(given, clip, **settings):
    dataset = SimpleNamespace(listing=lambda _: Listing([clip], []))
    return window_shard(given, dataset, "s", WindowSettings(**settings))


def test_a_window_has_the_hash_that_it_had_in_earlier_versions(given):
    assert hash_of(given) == WINDOW_HASH
    assert hash_of(given, clip="b.mp4") == WINDOW_HASH
    other = {"codec": "hevc", "num_bytes": 10, "duration_s": 3.0, "audio_codec": "aac"}
    assert hash_of(given, other) == WINDOW_HASH


@pytest.mark.parametrize(
    "change",
    [
        {"info": {"content_hash": "another"}},
        {"window": Window(1, 49)},
        {"window": Window(0, 48)},
        {"ids": (0, 25)},
        {"times": (0.0, 0.97)},
        {"info": {"crop": Crop(right=8)}},
        {"info": {"note": "Its clock starts anew."}},
        {"info": {"pixel_format": "pal8"}},
    ],
    ids=str,
)
def test_a_window_of_which_a_model_would_see_something_else_has_another_hash(given, change):
    assert hash_of(given, **change) != WINDOW_HASH


@pytest.mark.parametrize(
    "change",
    [
        {"stamp": "another"},
        {"stamp": None},
        {"location": "/elsewhere/a.mp4"},
        {"relative_path": "b.mp4"},
        {"clip_id": "another"},
        {"window_size": 100},
        {"remainder_threshold": 100},
        {"sampling_fps": 3.0},
        {"min_sampled_frames": 6},
        {"max_sampled_frames": 6},
        {"store_window_mp4": True},
    ],
    ids=str,
)
def test_a_clip_is_planned_again_when_it_or_its_settings_are_others(given, change):
    hash_of(given)
    assert plan(given, CLIP).reused == 1
    of_clip = {name: change[name] for name in change if hasattr(CLIP, name)}
    with pytest.raises(_WorkError):
        plan(given, replace(CLIP, **of_clip), **{name: change[name] for name in change.keys() - of_clip.keys()})


def test_a_clip_of_which_nobody_tells_whether_it_has_changed_is_always_planned_again(given):
    hash_of(given)
    rows = [replace(row, stamp=None, fingerprint="") for row in given.store.read_rows(CLIP_WINDOWS, "s")]
    given.store.commit_rows(CLIP_WINDOWS, "s", rows)
    with pytest.raises(_WorkError):
        plan(given, replace(CLIP, stamp=None))


# Tables, whose version tells others whether to make theirs again

ENHANCED = enhanced(CAPTION)
PREVIEW = preview(WINDOW)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        *((WINDOW, name) for name in ("clip_id", "location", "content_hash", "window_hash", "mp4_path")),
        *((PREVIEW, name) for name in ("clip_id", "path", "fingerprint")),
        *((CAPTION, name) for name in ("clip_id", "key", "window_hash", "text")),
        *((ENHANCED, name) for name in ("clip_id", "key", "caption_key", "caption_hash", "text")),
        *((row, "start_frame") for row in (WINDOW, PREVIEW, CAPTION, ENHANCED)),
        *((row, "end_frame") for row in (WINDOW, PREVIEW, CAPTION, ENHANCED)),
        (PREVIEW, "num_bytes"),
    ],
)
def test_what_others_take_from_a_row_is_part_of_its_table_s_version(row, name):
    other = 7 if isinstance(getattr(row, name), int) else "another"
    assert data_version([replace(row, **{name: other})]) != data_version([row])


@pytest.mark.parametrize("row", [WINDOW, PREVIEW, CAPTION, ENHANCED], ids=lambda row: type(row).__name__)
def test_how_and_in_which_order_rows_came_about_is_no_part_of_their_table_s_version(row):
    failed = replace(row, clip_id="another", status="failed", error="It took too long.")
    assert data_version([row, failed]) == data_version([replace(failed, error="It is broken."), row])
    assert data_version([row]) != data_version([replace(row, status="failed")]) != data_version([])
    if row is not WINDOW:
        assert data_version([replace(row, seconds=9.0)]) == data_version([row])
