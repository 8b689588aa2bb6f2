"""Picks: the reference's count and frames at constant rate, true times at any rate."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from caption_assets.errors import ConfigError
from caption_assets.media.sampling import preview_picks, sample_window
from caption_assets.records import Window

VECTORS = Path(__file__).parents[3] / "shared" / "golden" / "vectors.json"


def constant(frames: int, rate: Fraction | int, start_s: float = 0.0) -> np.ndarray:
    return start_s + np.arange(frames) / float(rate)


# (first, last, rate, asked) -> picks
CASES = {
    (0, 3, Fraction(24), 2.0): [0, 1, 2, 3],
    (0, 4, Fraction(24), 2.0): [0, 1, 3, 4],
    (0, 47, Fraction(24), 2.0): [0, 16, 31, 47],
    (0, 60, Fraction(24), 2.0): [0, 12, 24, 36, 48, 60],
    (0, 127, Fraction(24), 2.0): [0, 14, 28, 42, 56, 71, 85, 99, 113, 127],
    (0, 255, Fraction(60), 2.0): [0, 36, 73, 109, 146, 182, 219, 255],
}


@pytest.mark.parametrize(("case", "ids"), CASES.items(), ids=str)
def test_constant_rate_picks(case: tuple[int, int, Fraction, float], ids: list[int]) -> None:
    first, last, rate, asked = case
    picks = sample_window(Window(first, last), constant(last + 1, rate), rate, asked)
    assert list(picks.frame_ids) == ids
    assert picks.times_s == pytest.approx([(k - first) / float(rate) for k in ids])


def test_reference_vectors() -> None:
    if not VECTORS.exists():
        pytest.skip(f"the reference vectors are not there ({VECTORS})")
    for vector in json.loads(VECTORS.read_text())["sampling"]:
        rate = Fraction(*vector["video_fps"])
        window = Window(vector["start_frame"], vector["end_frame"])
        for start_s in (0.0, 1.7):
            pts_s = constant(window.end_frame + 20, rate, start_s)
            picks = sample_window(window, pts_s, rate, vector["sampling_fps"])
            assert list(picks.frame_ids) == vector["frame_ids"], vector
            assert picks.times_s[-1] == pytest.approx(vector["true_last_s"], abs=1e-4)


def test_times_rounded_to_milliseconds_are_still_constant_rate() -> None:
    rate = Fraction(30000, 1001)
    exact, rounded = constant(300, rate), constant(300, rate).round(3)
    window = Window(20, 280)
    assert sample_window(window, rounded, rate, 2.0).frame_ids == sample_window(window, exact, rate, 2.0).frame_ids


def test_the_rate_of_the_picks_is_the_true_one() -> None:
    picks = sample_window(Window(0, 47), constant(48, 24), Fraction(24), 2.0)
    assert picks.fps == pytest.approx(3 * 24 / 47)


def test_variable_rate_picks_are_even_in_time() -> None:
    # 5 s at 60 frames a second, then 5 s at 10: even frame numbers would look at the first half almost only.
    pts_s = np.concatenate([np.arange(300) / 60, 5 + np.arange(50) / 10])
    picks = sample_window(Window(0, 349), pts_s, Fraction(35), 2.0)
    assert len(picks.frame_ids) == 20
    assert np.diff(picks.times_s) == pytest.approx(np.full(19, 9.9 / 19), abs=0.1)
    assert (picks.frame_ids[0], picks.frame_ids[-1]) == (0, 349)
    assert picks.times_s == pytest.approx(pts_s[list(picks.frame_ids)])


def test_a_long_still_frame_is_picked_once() -> None:
    pts_s = np.concatenate([np.arange(10) / 10, 9 + np.arange(10) / 10])
    picks = sample_window(Window(0, 19), pts_s, Fraction(2), 2.0)
    assert len(set(picks.frame_ids)) == len(picks.frame_ids) == 20
    assert list(picks.frame_ids) == sorted(picks.frame_ids)


def test_caps_are_settings() -> None:
    pts_s = constant(300, 25)
    assert len(sample_window(Window(0, 299), pts_s, Fraction(25), 25.0, max_frames=16).frame_ids) == 16
    assert len(sample_window(Window(0, 299), pts_s, Fraction(25), 0.1, min_frames=8).frame_ids) == 8
    assert len(sample_window(Window(0, 299), pts_s, Fraction(25), 0.1).frame_ids) == 4


@pytest.mark.parametrize("window", [Window(0, 0), Window(0, 10), Window(3, 2)])
def test_windows_without_two_frames_in_the_clip_are_refused(window: Window) -> None:
    with pytest.raises(ConfigError):
        sample_window(window, constant(10, 25), Fraction(25), 2.0)


def test_previews_show_the_last_frame_before_the_middle_of_each_interval() -> None:
    picks = preview_picks(Window(0, 249), constant(250, 25), 10.0, 1.0)
    assert picks.frame_ids == (12, 37, 62, 87, 112, 137, 162, 187, 212, 237)
    assert picks.times_s == pytest.approx([k / 25 for k in picks.frame_ids])


@pytest.mark.parametrize(
    ("window", "count"), [(Window(0, 255), 11), (Window(256, 511), 11), (Window(512, 719), 9), (Window(0, 3), 1)]
)
def test_preview_frame_counts_round_half_up(window: Window, count: int) -> None:
    assert len(preview_picks(window, constant(720, 24, 0.3), 30.3, 1.0).frame_ids) == count


def test_a_frame_that_starts_at_the_middle_comes_too_late() -> None:
    assert preview_picks(Window(0, 47), constant(48, 24), 2.0, 1.0).frame_ids == (11, 35)


def test_slow_clips_repeat_frames_in_previews() -> None:
    picks = preview_picks(Window(0, 3), constant(4, 1), 4.0, 2.0)
    assert picks.frame_ids == (0, 0, 1, 1, 2, 2, 3, 3)
