"""Frozen records that cross the borders between rooms. Data only: no I/O, no arithmetic beyond unit changes."""

import hashlib
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np

Status = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one item ended. `kind` and `message` are empty where `status` is "ok"."""

    status: Status = "ok"
    kind: str = ""
    message: str = ""

    @property
    def ok(self) -> bool:
        return self.status == "ok"


OK = Outcome()


@dataclass(frozen=True, slots=True)
class Clip:
    """One video file of a shard.

    `path` is what the decoder opens (local path or fsspec URL); `relative_path` is posix, below the dataset root.
    """

    clip_id: str
    shard: str
    path: str
    relative_path: str


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What probing a clip's first video stream found out.

    `width` and `height` are the pixels that are stored; `display_width` and `display_height` have the pixel
    aspect ratio and the rotation (degrees clockwise, 0/90/180/270) applied, and are what frames come as.
    `pts_s` holds one presentation time in seconds for every frame, ascending; frame k is shown at `pts_s[k]`.
    `keyframe_ids` are the frames at which decoding can start, None where that is not known. `frames_in_order` says
    that the file's times do not identify frames, which are then told apart by the order they decode in. `problem`
    is a sentence about damage that leaves the frames listed here usable, such as a file that breaks off.
    """

    width: int
    height: int
    display_width: int
    display_height: int
    rotation: int
    frame_rate: Fraction
    duration_s: float
    codec: str
    pixel_format: str
    audio_codec: str | None
    num_bytes: int
    content_hash: str
    pts_s: np.ndarray = field(repr=False)
    keyframe_ids: np.ndarray | None = field(default=None, repr=False)
    frames_in_order: bool = False
    problem: str = ""

    @property
    def num_frames(self) -> int:
        return len(self.pts_s)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A run of consecutive frames of a clip, both ends inclusive, numbered from 0."""

    start_frame: int
    end_frame: int

    @property
    def num_frames(self) -> int:
        return self.end_frame - self.start_frame + 1

    def __str__(self) -> str:
        return f"{self.start_frame}_{self.end_frame}"


@dataclass(frozen=True, slots=True)
class FramePicks:
    """Frames of a window that a model or a preview is to see.

    `frame_ids` ascend (repeats allowed in previews) and are frame numbers of the clip. `times_s` are their true
    presentation times in seconds after the window's first frame.
    """

    frame_ids: tuple[int, ...]
    times_s: tuple[float, ...]

    @property
    def fps(self) -> float:
        """True rate of the picks, frames a second; 0.0 where a single time leaves it undefined."""
        span = self.times_s[-1] - self.times_s[0] if self.times_s else 0.0
        return (len(self.times_s) - 1) / span if span > 0 else 0.0


@dataclass(frozen=True, slots=True)
class SampledFrames:
    """Decoded picks of one window: `frames` is uint8 RGB of shape (T, H, W, 3), upright, square pixels."""

    frames: np.ndarray = field(repr=False)
    picks: FramePicks


@dataclass(frozen=True, slots=True)
class Preview:
    """An animated WebP and what it must decode back to; `frame_ms` is each frame's duration in milliseconds."""

    data: bytes = field(repr=False)
    num_frames: int
    width: int
    height: int
    frame_ms: int


# Rows of the tables. One row a window; a clip without a window has one row whose frames are None.
# `status` is "ok", "failed" or "skipped"; `error_kind` and `error` are empty where it is "ok".


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRow:
    """One planned window of a clip, or why there is none. Written by `clip_windows`.

    Video fields are None where the clip could not be probed. `frame_ids` are the caption model's picks (frame
    numbers of the clip), `times_s` their true times after the window's first frame. `window_hash` covers the
    clip's content, the window and the picks: it changes whenever the model would see something else.
    """

    clip_id: str
    relative_path: str
    source: str
    width: int | None = None
    height: int | None = None
    display_width: int | None = None
    display_height: int | None = None
    rotation: int | None = None
    frame_rate: float | None = None
    duration_s: float | None = None
    clip_frames: int | None = None
    codec: str | None = None
    pixel_format: str | None = None
    audio_codec: str | None = None
    num_bytes: int | None = None
    content_hash: str | None = None
    window_size: int
    remainder_threshold: int
    sampling_fps: float
    max_frame_pixels: int | None = None
    max_clip_seconds: float | None = None
    max_clip_frames: int | None = None
    max_decode_seconds: float | None = None
    max_window_bytes: int | None = None
    start_frame: int | None = None
    end_frame: int | None = None
    start_s: float | None = None
    end_s: float | None = None
    frame_ids: tuple[int, ...] = ()
    times_s: tuple[float, ...] = ()
    window_hash: str | None = None
    mp4_path: str | None = None
    status: Status = "ok"
    error_kind: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewRow:
    """One window's preview, or why there is none. Written by `window_previews`.

    `path` is relative to the output root.
    """

    clip_id: str
    start_frame: int
    end_frame: int
    content_hash: str | None = None
    path: str | None = None
    num_frames: int | None = None
    width: int | None = None
    height: int | None = None
    frame_ms: int | None = None
    num_bytes: int | None = None
    fingerprint: str = ""
    seconds: float = 0.0
    status: Status = "ok"
    error_kind: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionRow:
    """One window's caption by one variant, or why there is none. Written by `window_captions`.

    `key` is the variant's name in the output. `content_hash` and `window_hash` are those of the window that was
    captioned. `fingerprint` covers everything the text depends on; equal fingerprints need no new caption.
    `first_text` is the text before a second pass, None where there was none. The window's time line, in seconds:
    `decode_s` (with resizing), `render_s` (into the engine's input), `wait_s` (until the model began), `prefill_s`
    (to the first token) and `generate_s` (to the last one); None where that is not known.
    """

    key: str
    clip_id: str
    start_frame: int
    end_frame: int
    content_hash: str | None = None
    window_hash: str | None = None
    text: str | None = None
    first_text: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    model_id: str = ""
    model_revision: str = ""
    precision: str = ""
    engine: str = ""
    engine_version: str = ""
    prompt_hash: str = ""
    fingerprint: str = ""
    seconds: float = 0.0
    decode_s: float | None = None
    render_s: float | None = None
    wait_s: float | None = None
    prefill_s: float | None = None
    generate_s: float | None = None
    status: Status = "ok"
    error_kind: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnhancedRow:
    """One caption rewritten by a text model, or why there is none. Written by `enhanced_captions`.

    `key` is the enhancer's name in the output, `caption_key` the variant whose caption it rewrote, `caption_hash`
    the hash of that caption's text: where the caption has changed since, the row no longer counts.
    """

    key: str
    caption_key: str
    caption_hash: str
    clip_id: str
    start_frame: int
    end_frame: int
    text: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    model_id: str = ""
    model_revision: str = ""
    precision: str = ""
    engine: str = ""
    engine_version: str = ""
    prompt_hash: str = ""
    fingerprint: str = ""
    seconds: float = 0.0
    status: Status = "ok"
    error_kind: str = ""
    error: str = ""


Row = WindowRow | PreviewRow | CaptionRow | EnhancedRow


def text_hash(text: str) -> str:
    """Hash of a prompt or caption text, as the tables hold it."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
