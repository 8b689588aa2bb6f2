"""Prompt + frames -> model-ready request, per family. Messages only; the chat template is the engine's to apply."""

import math
from typing import Any

from caption_assets.errors import ClipError
from caption_assets.models.engine import Request
from caption_assets.models.variants import FrameLimits
from caption_assets.records import FramePicks, SampledFrames

CLOCK_HZ = 1000
"""Frame times are told to models on a millisecond clock, which also holds for variable frame rates."""


def frame_size(width: int, height: int, num_frames: int, limits: FrameLimits) -> tuple[int, int]:
    """The (width, height) that a model sees frames of `width` x `height` pixels in.

    Qwen's `smart_resize`: both sides rounded to multiples of `limits.factor`, the aspect ratio kept as far as that
    allows, the area within the limits. Raises ClipError where one side is over 200 times the other.
    """
    if max(width, height) > 200 * min(width, height):
        raise ClipError(f"frames of {width}x{height}", "no model takes sides that differ 200 times", "crop the clip")
    factor = limits.factor
    per_frame = max(num_frames, 1) if limits.per_video else 1
    low, high = limits.min_pixels / per_frame, limits.max_pixels / per_frame
    w, h = max(factor, round(width / factor) * factor), max(factor, round(height / factor) * factor)
    if w * h > high:
        scale = math.sqrt(width * height / high)
        w = max(factor, math.floor(width / scale / factor) * factor)
        h = max(factor, math.floor(height / scale / factor) * factor)
    elif w * h < low:
        scale = math.sqrt(low / (width * height))
        w, h = math.ceil(width * scale / factor) * factor, math.ceil(height * scale / factor) * factor
    return w, h


def video_metadata(picks: FramePicks) -> dict[str, Any]:
    """The picks' true times in the keys that Qwen's and Nemotron's processors read.

    `frames_indices` are milliseconds after the window's first frame; `total_num_frames` is chosen so that the mean
    rate n / total * fps, which Qwen2.5-VL reads, is the true rate of the picks.
    """
    indices = [round(time * CLOCK_HZ) for time in picks.times_s]
    n = len(indices)
    total = round(n * CLOCK_HZ / picks.fps) if picks.fps else n
    total = max(total, indices[-1] + 1, n)
    return {
        "fps": float(CLOCK_HZ),
        "frames_indices": indices,
        "total_num_frames": total,
        "duration": total / CLOCK_HZ,
    }


def caption_request(request_id: str, prompt: str, frames: SampledFrames, max_tokens: int) -> Request:
    """A window's video followed by the instruction, as one user turn."""
    content = [{"type": "video"}, {"type": "text", "text": prompt}]
    return Request(request_id, ({"role": "user", "content": content},), frames, max_tokens)


def enhance_request(request_id: str, prompt: str, caption: str, max_tokens: int) -> Request:
    """The instruction followed by the caption to rewrite, as one user turn."""
    return Request(request_id, ({"role": "user", "content": f"{prompt}\n\n{caption}"},), None, max_tokens)
