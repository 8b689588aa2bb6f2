"""What is done with one clip in a worker process: plan it, decode its windows, preview them.

Kept apart from whoever asks, so that a worker imports the decoder and little else.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

from caption_assets.errors import ClipError, PreviewError
from caption_assets.media.decode import read_windows
from caption_assets.media.mp4 import cut_window_mp4
from caption_assets.media.previews import preview_warnings, render_previews
from caption_assets.media.probe import probe
from caption_assets.media.sampling import sample_window
from caption_assets.media.windows import compute_windows
from caption_assets.records import FramePicks, Preview, SampledFrames, VideoInfo, Window
from caption_assets.settings import DecodeLimits, PreviewSettings, WindowSettings


@dataclass(frozen=True, slots=True)
class PlanJob:
    """A clip to cut into windows."""

    source: str
    settings: WindowSettings
    work: int = 0  # not known yet
    limits: DecodeLimits = field(default_factory=DecodeLimits)

    def __str__(self) -> str:
        return f"clip {self.source}"


@dataclass(frozen=True, slots=True)
class PlannedWindow:
    """A window with the frames that a model is to see.

    It is shown from `start_s` to `end_s`, in seconds after the clip's first frame. `mp4` is its file, or why there is
    none, where asked for.
    """

    window: Window
    start_s: float
    end_s: float
    picks: FramePicks
    mp4: bytes | ClipError | None


@dataclass(frozen=True, slots=True)
class WantedFrames:
    """The frames of one window, and the (width, height) that they are wanted in."""

    window: Window
    picks: FramePicks
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """A clip's windows to decode. `content_hash` is the one that the clip had when it was planned.

    `threads` is the decoder's. Where there are as many clips as cores, one each is best.
    """

    source: str
    content_hash: str
    wanted: tuple[WantedFrames, ...]
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    threads: int = 1

    @property
    def work(self) -> int:
        """Roughly the pixels to decode: clips are worked on from the largest to the smallest."""
        return max((w.window.end_frame * math.prod(w.size) for w in self.wanted), default=0)

    def __str__(self) -> str:
        return f"clip {self.source}"


@dataclass(frozen=True, slots=True)
class PreviewJob:
    """A clip's windows to preview."""

    source: str
    windows: tuple[Window, ...]
    settings: PreviewSettings
    limits: DecodeLimits = field(default_factory=DecodeLimits)

    @property
    def work(self) -> int:
        """Frames to decode."""
        return self.windows[-1].end_frame

    def __str__(self) -> str:
        return f"clip {self.source}"


def plan_clip(job: PlanJob) -> Iterator[VideoInfo | PlannedWindow]:
    """First what the clip is, then its windows in order. Raises ClipError."""
    settings = job.settings
    info = probe(job.source, job.limits)
    yield info
    for window in compute_windows(info.num_frames, settings.window_size, settings.remainder_threshold):
        picks = sample_window(
            window,
            info.pts_s,
            info.frame_rate,
            settings.sampling_fps,
            min_frames=settings.min_sampled_frames,
            max_frames=settings.max_sampled_frames,
        )
        yield PlannedWindow(window, *_span(info, window), picks, _mp4(job, info, window))


def _span(info: VideoInfo, window: Window) -> tuple[float, float]:
    first, following = info.pts_s[0], window.end_frame + 1
    end = info.pts_s[following] - first if following < info.num_frames else info.duration_s
    return float(info.pts_s[window.start_frame] - first), float(end)


def _mp4(job: PlanJob, info: VideoInfo, window: Window) -> bytes | ClipError | None:
    if not job.settings.store_window_mp4:
        return None
    try:
        return cut_window_mp4(job.source, info, window, limits=job.limits)
    except ClipError as error:
        return error


def decode_clip(job: DecodeJob) -> Iterator[tuple[Window, SampledFrames]]:
    """Each window's frames in the wanted size, in order. Raises ClipError where the file breaks or has changed."""
    info = probe(job.source, job.limits)
    if info.content_hash != job.content_hash:
        raise ClipError(f"clip {job.source}", "its file has changed since its windows were planned", "plan them again")
    # Some models bound the pixels of a whole video: windows of equal size share a pass over the file.
    for size, group in groupby(job.wanted, key=lambda wanted: wanted.size):
        wanted = list(group)
        picks = [item.picks for item in wanted]
        sampled = read_windows(job.source, info, picks, size=size, threads=job.threads, limits=job.limits)
        for item in wanted:
            yield item.window, next(sampled)  # and nothing else here holds on to them


def preview_clip(job: PreviewJob) -> Iterator[list[str] | tuple[Window, Preview | PreviewError]]:
    """First the warnings about the clip, then each window's preview or why there is none. Raises ClipError."""
    info = probe(job.source, job.limits)
    yield preview_warnings(info, job.settings)
    yield from render_previews(job.source, info, job.windows, job.settings, limits=job.limits)


def preview_workers(settings: PreviewSettings) -> int:
    """Clips to preview at once: as many as the machine has times `num_cpus_per_worker` cores, at least one."""
    return max(1, int((os.cpu_count() or 1) // settings.num_cpus_per_worker))
