"""Frozen records that cross the borders between rooms. Data only: no I/O, no arithmetic beyond unit changes."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np

Status = Literal["ok", "failed", "skipped"]
Verdict = Literal["right", "wrong", "edited", "withdrawn"]
Side = Literal["first", "second"]
Preference = Literal["first", "second", "tie", "both_bad", "withdrawn"]


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

    `location` is what the decoder opens: a local path, an fsspec URL, or a part of either (`names.part_of`);
    `relative_path` is posix, below the dataset root. `stamp` changes whenever the file does (`file_stamp`, or its
    ETag); None where the place does not tell. `columns` is what else the dataset says of the clip, as JSON has it.
    `sidecars` are the locations of files beside it that do, `.json`, `.txt` or `.vtt`: they are not read, nor do their
    changes count, until a prompt names them.
    """

    clip_id: str
    shard: str
    location: str
    relative_path: str
    stamp: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict, hash=False)
    sidecars: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Crop:
    """Pixels at the edges of a stored frame that are not shown."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What probing a clip's first video stream found out.

    `width` and `height` are the pixels that are stored; `display_width` and `display_height` have `crop`, the pixel
    aspect ratio and the rotation (degrees clockwise, 0/90/180/270) applied, and are what frames come as.
    `pts_s` holds one presentation time in seconds for every frame, ascending; frame k is shown at `pts_s[k]`. All are
    multiples of `time_base` seconds. `stamp` is the file's `file_stamp` at that time, None for one of another machine.
    `keyframe_ids` are the frames at which decoding can start; None where the file's packets do not tell its frames
    apart, which are then those that come out of a decoder with one thread, in that order. `problem` is a sentence
    about damage that leaves the frames listed here usable, such as a file that breaks off; `note` is one about a file
    that is sound, and odd.
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
    time_base: Fraction = Fraction(1, 1000)
    stamp: str | None = None
    crop: Crop = Crop()
    problem: str = ""
    note: str = ""

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


def file_stamp(found: os.stat_result) -> str:
    """What tells versions of a file of this machine apart: its size and times. That of the last change moves, too, when
    somebody sets the other one back.

    Without the inode: where the three are the same the file is, and file systems over a network give it another inode
    at every mount, so that all clips would be read again."""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def text_hash(text: str) -> str:
    """Hash of a prompt or caption text, as the tables hold it."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
