"""Prompt + frames -> model-ready request, per family. Messages only; the chat template is the engine's to apply."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from caption_assets.errors import ClipError
from caption_assets.models.engines.base import Request
from caption_assets.models.prompts import with_caption
from caption_assets.models.variants import Family, FrameLimits
from caption_assets.records import FramePicks, SampledFrames

CLOCK_HZ = 1000
"""Frame times are told to models on a millisecond clock, which also holds for variable frame rates."""


def frame_size(width: int, height: int, num_frames: int, limits: FrameLimits) -> tuple[int, int]:
    """The (width, height) that a model sees frames of `width` x `height` pixels in.

    Within bounds, Qwen's `smart_resize`: both sides rounded to multiples of `limits.factor`, the aspect ratio kept as
    far as that allows. Filled and square, as vLLM resizes for Nemotron. Raises ClipError where one side is over 200
    times the other.
    """
    if max(width, height) > 200 * min(width, height):
        raise ClipError(f"frames of {width}x{height}", "no model takes sides that differ 200 times", "crop the clip")
    factor, low, high = limits.factor, limits.min_pixels, limits.max_pixels
    if limits.shape == "square":
        side = max(factor, math.floor(math.sqrt(high) / factor) * factor)
        return side, side
    if limits.shape == "filled":
        return _filled_size(width / height, factor, high)
    frames = 2 * math.ceil(max(num_frames, 1) / 2) if limits.per_video else 1  # models see frames in pairs
    w, h = max(factor, round(width / factor) * factor), max(factor, round(height / factor) * factor)
    if frames * w * h > high:
        scale = math.sqrt(frames * width * height / high)
        w = max(factor, math.floor(width / scale / factor) * factor)
        h = max(factor, math.floor(height / scale / factor) * factor)
    elif frames * w * h < low:
        scale = math.sqrt(low / (frames * width * height))
        w, h = math.ceil(width * scale / factor) * factor, math.ceil(height * scale / factor) * factor
    return w, h


def _filled_size(aspect: float, factor: int, area: float) -> tuple[int, int]:
    # In patches, two to a factor: rounded, then both sides made even upwards if the area allows it, else downwards.
    patch, patches = factor // 2, area / (factor // 2) ** 2
    w, h = max(1, round(math.sqrt(patches * aspect))), max(1, round(math.sqrt(patches / aspect)))
    if (w + w % 2) * (h + h % 2) <= patches:
        w, h = w + w % 2, h + h % 2
    else:
        w, h = max(2, w - w % 2), max(2, h - h % 2)
    return w * patch, h * patch


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


# What makes templates leave out the model's thinking. Others have no such switch.
_THINKING_OFF: Mapping[Family, dict[str, Any]] = {
    "text": {"enable_thinking": False},
    "nemotron-3-omni": {"enable_thinking": False},
}


def without_thinking(
    family: Family, messages: Sequence[dict[str, Any]]
) -> tuple[Sequence[dict[str, Any]], dict[str, Any]]:
    """The messages, and the options of the family's chat template, that switch off the model's thinking."""
    if family == "nemotron-v2-vl":
        # Its template looks for this word in the messages, and removes it.
        messages = [{"role": "system", "content": "/no_think"}, *messages]
    return messages, dict(_THINKING_OFF.get(family, {}))


def chat_text(tool: Any, family: Family, messages: Sequence[dict[str, Any]], **options: Any) -> str:
    """The messages in the model's chat template, ready for its answer, thinking switched off.

    `tool` is the checkpoint's processor or tokenizer; `options` go to its `apply_chat_template`.
    """
    messages, switches = without_thinking(family, messages)
    options |= switches
    text: str = tool.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True, **options)
    return text


def video_options(processor: Any) -> dict[str, Any]:
    """Options by which a processor of transformers takes frames as they are: sampled and resized already."""
    known = getattr(getattr(processor.video_processor, "valid_kwargs", None), "__annotations__", {})
    options = {"do_sample_frames": False, "do_resize": False}
    # Newer processors ask whether they may shrink frames; these have been shrunk.
    return options | ({"cap_pixels_per_frame": False} if "cap_pixels_per_frame" in known else {})


def caption_request(request_id: str, prompt: str, frames: SampledFrames, max_tokens: int) -> Request:
    """A window's video followed by the instruction, as one user turn."""
    content = [{"type": "video"}, {"type": "text", "text": prompt}]
    return Request(request_id, ({"role": "user", "content": content},), frames, max_tokens)


def enhance_request(request_id: str, prompt: str, caption: str, max_tokens: int) -> Request:
    """The instruction followed by the caption to rewrite, as one user turn."""
    return Request(request_id, ({"role": "user", "content": with_caption(prompt, caption)},), None, max_tokens)
