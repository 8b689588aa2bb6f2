"""Frame counts to windows. Arithmetic only.

The rule is that of NeMo Curator's windowing stage: consecutive full windows; a remainder of at least
`remainder_threshold` frames is a window of its own, a smaller one extends the last full window.

    frames 0 ......... 255 | 256 ......... 511 | 512 ... 719
           window 0          window 1            window 2     (208 left over, threshold 128: a window)

    frames 0 ......... 255 | 256 ............... 600
           window 0          window 1                         (89 left over: they extend window 1)
"""

from caption_assets.errors import ConfigError
from caption_assets.records import Window

# A model cannot be shown less than two pairs of frames, so nothing shorter is a window.
MIN_WINDOW_FRAMES = 4


def compute_windows(num_frames: int, window_size: int, remainder_threshold: int) -> tuple[Window, ...]:
    """Cut `num_frames` frames into windows that cover all of them without overlap.

    `window_size` and `remainder_threshold` are in frames of the clip and at least 4. Fewer than 4 frames give no
    window; at most `window_size` frames give one. The longest window has `window_size + remainder_threshold - 1`
    frames, or `2 * window_size - 1` where the threshold is larger than the size.

    Raises ConfigError for a size or threshold below 4.
    """
    for name, value in (("window_size", window_size), ("remainder_threshold", remainder_threshold)):
        if value < MIN_WINDOW_FRAMES:
            raise ConfigError(
                f"{name}={value}",
                f"a window needs at least {MIN_WINDOW_FRAMES} frames",
                f"use {MIN_WINDOW_FRAMES} or more",
            )
    if num_frames < MIN_WINDOW_FRAMES:
        return ()
    if num_frames <= window_size:
        return (Window(0, num_frames - 1),)
    full, remainder = divmod(num_frames, window_size)
    starts = [k * window_size for k in range(full)]
    if remainder >= remainder_threshold:
        starts.append(full * window_size)
    ends = [start - 1 for start in starts[1:]] + [num_frames - 1]
    return tuple(Window(start, end) for start, end in zip(starts, ends, strict=True))
