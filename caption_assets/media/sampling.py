"""Windows and true presentation times to frame picks. Arithmetic only."""

import math
from fractions import Fraction

import numpy as np

from caption_assets.errors import ConfigError
from caption_assets.records import FramePicks, Window

# Matroska and WebM round times to a millisecond, each end of an interval by up to half of one.
_JITTER_S = 1.05e-3
# "Before" in preview_picks: times are sums of floats, equal ones may differ in the last bits.
_EPSILON_S = 1e-6


def is_constant_rate(pts_s: np.ndarray, frame_rate: Fraction) -> bool:
    """Whether frame k of `pts_s` (seconds, ascending) is shown at k / `frame_rate` after the first, within 1.05 ms."""
    if len(pts_s) == 0 or frame_rate <= 0:
        return False
    expected = np.arange(len(pts_s)) / float(frame_rate)
    return bool(np.abs(pts_s - pts_s[0] - expected).max() <= _JITTER_S)


def count_picks(
    seconds: float, num_frames: int, sampling_fps: float, min_frames: int = 4, max_frames: int = 768
) -> int:
    """How many of `num_frames` frames that last `seconds` are picked to see `sampling_fps` frames a second.

    NeMo Curator's rule, bit for bit: `seconds * sampling_fps`, at least `min_frames`, at most `max_frames` and the
    frames there are (both rounded down to even), then rounded to the nearest even number, ties to a multiple of 4.
    """
    low, high = 2 * math.ceil(min_frames / 2), 2 * (min(max_frames, num_frames) // 2)
    return 2 * round(min(max(seconds * sampling_fps, low), high) / 2)


def _check_within(window: Window, pts_s: np.ndarray) -> None:
    if not 0 <= window.start_frame <= window.end_frame < len(pts_s):
        raise ConfigError(f"window {window}", f"the clip has {len(pts_s)} frames", "plan its windows again")


def _window_times(window: Window, pts_s: np.ndarray) -> np.ndarray:
    """Times of the window's frames in seconds after its first one."""
    _check_within(window, pts_s)
    times = pts_s[window.start_frame : window.end_frame + 1]
    return times - times[0]


def sample_window(
    window: Window,
    pts_s: np.ndarray,
    frame_rate: Fraction,
    sampling_fps: float,
    *,
    min_frames: int = 4,
    max_frames: int = 768,
) -> FramePicks:
    """Pick the frames of `window` that a model is to see, evenly spaced in time, first and last frame included.

    `pts_s` has the presentation time in seconds of every frame of the clip, `frame_rate` is the clip's. Where the
    window's frames come at that constant rate, picks are evenly spaced frame numbers, rounded half to even.
    Where they do not, `n` moments are spaced evenly over the window's true time and each takes the frame nearest to
    it that no earlier moment has taken. Frame numbers never repeat. Times are true ones, so that
    `FramePicks.fps` is the rate to declare to a model.

    Raises ConfigError for a window of a single frame, one outside the clip, or a rate that is not positive.
    """
    if sampling_fps <= 0:
        raise ConfigError(f"sampling_fps={sampling_fps}", "the rate must be above 0")
    times = _window_times(window, pts_s)
    length = window.num_frames
    if length < 2:
        raise ConfigError(f"window {window}", "a window of one frame cannot be sampled")
    if is_constant_rate(times, frame_rate):
        n = count_picks(length / float(frame_rate), length, sampling_fps, min_frames, max_frames)
        offsets = np.linspace(window.start_frame, window.end_frame, n).round().astype(np.int64) - window.start_frame
    else:
        follows = window.end_frame + 1 < len(pts_s)
        last_s = pts_s[window.end_frame + 1] - pts_s[window.end_frame] if follows else times[-1] / (length - 1)
        n = count_picks(float(times[-1] + last_s), length, sampling_fps, min_frames, max_frames)
        offsets = _nearest_distinct(times, np.linspace(0.0, times[-1], n))
    return FramePicks(tuple(int(window.start_frame + k) for k in offsets), tuple(float(t) for t in times[offsets]))


def _nearest_distinct(times: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Index of the time nearest to each moment, moved by as little as makes the indices strictly ascend."""
    right = np.searchsorted(times, moments).clip(1, len(times) - 1)
    nearest = np.where(moments - times[right - 1] <= times[right] - moments, right - 1, right)
    rank = np.arange(len(moments))
    # ids[k] - k must not fall from left to right, and must leave room for those that follow.
    ascending = np.maximum.accumulate(nearest - rank)
    return np.minimum(ascending, len(times) - len(moments)) + rank


def window_seconds(window: Window, pts_s: np.ndarray, end_s: float) -> float:
    """How long `window` is shown, in seconds; `end_s` is when the clip's last frame ends, on the clock of `pts_s`.

    Raises ConfigError for a window outside the clip.
    """
    _check_within(window, pts_s)
    follows = window.end_frame + 1 < len(pts_s)
    return (float(pts_s[window.end_frame + 1]) if follows else end_s) - float(pts_s[window.start_frame])


def preview_picks(window: Window, pts_s: np.ndarray, end_s: float, target_fps: float) -> FramePicks:
    """Pick the frames of `window` that its preview shows, `target_fps` a second; a slower clip's frames repeat.

    `end_s` is when the clip's last frame ends, on the clock of `pts_s` (seconds). There are `seconds * target_fps`
    frames, halves rounded up, at least one; frame k is the last one before `(k + 0.5) / target_fps` seconds, as
    ffmpeg's fps filter picks it.

    Raises ConfigError for a window outside the clip or a rate that is not positive.
    """
    if target_fps <= 0:
        raise ConfigError(f"target_fps={target_fps}", "the rate must be above 0")
    times = _window_times(window, pts_s)
    seconds = window_seconds(window, pts_s, end_s)
    count = max(1, math.floor(seconds * target_fps + 0.5 + _EPSILON_S))
    moments = (np.arange(count) + 0.5) / target_fps
    offsets = (np.searchsorted(times, moments - _EPSILON_S) - 1).clip(0)
    return FramePicks(tuple(int(window.start_frame + k) for k in offsets), tuple(float(t) for t in times[offsets]))
