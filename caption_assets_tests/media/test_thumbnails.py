"""Thumbnails against the previews that they are made of, frame by frame."""

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from caption_assets.media.previews import encode_webp
from caption_assets.media.thumbnails import thumbnail
from caption_assets.media.webp import read_animation
from caption_assets.settings import PreviewSettings

HEIGHT = 96


def moving(count=12, size=(320, 240)):
    """A bright square that jumps over a ground of soft noise: what it leaves is where traces would stay."""
    width, height = size
    ground = 90 + np.random.default_rng(0).normal(0, 6, (height, width, 3))
    frames = np.repeat(ground[None], count, axis=0)
    for k in range(count):
        left = 10 + 23 * k
        frames[k, 80:130, left : left + 50] = (230, 120, 40)
    return np.clip(frames, 0, 255).astype(np.uint8)


def decoded(webp):
    with Image.open(io.BytesIO(webp)) as picture:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(picture)]


@pytest.fixture(scope="module")
def preview():
    return encode_webp(moving(), 1.0, PreviewSettings()).data


def test_every_frame_shows_what_the_preview_shows_and_no_trace_of_the_frames_before(preview):
    small = thumbnail(preview, HEIGHT, 1 << 20)
    wanted = [frame.resize((128, HEIGHT), Image.Resampling.LANCZOS) for frame in decoded(preview)]
    shown = decoded(small)
    assert len(shown) == len(wanted) == 12
    for want, got in zip(wanted, shown, strict=True):
        alone = io.BytesIO()
        want.save(alone, "WEBP", quality=40, method=4)
        # No further off than the same picture encoded by itself.
        (still,) = decoded(alone.getvalue())
        assert np.array_equal(np.asarray(got), np.asarray(still))
        assert np.abs(np.asarray(got, int) - np.asarray(want, int)).mean() < 5


def test_where_all_frames_are_too_much_fewer_stand_for_the_whole_of_it(preview):
    all_of_it = thumbnail(preview, HEIGHT, 1 << 20)
    small = thumbnail(preview, HEIGHT, len(all_of_it) // 2)
    frames, before = read_animation(small), read_animation(preview)
    assert len(small) <= len(all_of_it) // 2
    assert 1 < len(frames) < len(before)
    assert sum(frame.duration_ms for frame in frames) == sum(frame.duration_ms for frame in before)
    last, wanted = decoded(small)[-1], decoded(all_of_it)[-(12 // len(frames))]
    assert np.abs(np.asarray(last, int) - np.asarray(wanted, int)).mean() < 5
    assert thumbnail(preview, HEIGHT, 100) is None


def test_a_preview_is_never_enlarged(preview):
    assert {frame.size for frame in decoded(thumbnail(preview, 1000, 1 << 20))} == {(320, 240)}


@pytest.mark.parametrize("keep", [0, 20, 200, -40])
def test_a_preview_that_somebody_has_damaged_has_no_thumbnail(preview, keep):
    assert thumbnail(preview[:keep], HEIGHT, 1 << 20) is None
    assert thumbnail(b"GIF89a" + preview, HEIGHT, 1 << 20) is None
