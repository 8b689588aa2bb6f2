"""What is done with one clip in a worker process: plan it, preview its windows, make requests of them.

Kept apart from whoever asks, so that a worker imports the decoder and little else.
"""

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from caption_assets.errors import CaptionAssetsError, ClipError, RequestError
from caption_assets.media.decode import FrameRequest, read_requests
from caption_assets.media.faults import ChangedError, DecodeError
from caption_assets.media.files import ClipFile, Reading, open_clip
from caption_assets.media.mp4 import cut_window_mp4
from caption_assets.media.packed import unpack
from caption_assets.media.previews import (
    MadePreview,
    PreviewEncoders,
    PreviewPlan,
    plan_previews,
    preview_request,
    preview_warnings,
    render_previews,
)
from caption_assets.media.probe import probe
from caption_assets.media.sampling import sample_window
from caption_assets.media.windows import compute_windows
from caption_assets.models.requests import Prepare, Request
from caption_assets.records import FramePicks, SampledFrames, VideoInfo, Window
from caption_assets.settings import PreviewSettings, WindowSettings

_MOST_PREPARING = 8
# Frames that wait for an encoder while requests go on: some twenty windows at 240 pixels of height.
_WAITING_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class PlanTask:
    """A clip to cut into windows."""

    location: str
    settings: WindowSettings

    @property
    def work(self) -> int:
        return 0  # not known yet

    def __str__(self) -> str:
        return f"clip {self.location}"


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
class PreviewTask:
    """A clip's windows to preview. `content_hash` is the one that the clip had when it was planned, and `probed` what
    was found out about it then (see `media.packed`), where that was kept."""

    location: str
    content_hash: str
    windows: tuple[Window, ...]
    settings: PreviewSettings
    probed: bytes | None = None

    @property
    def work(self) -> int:
        """Frames to decode."""
        return self.windows[-1].end_frame

    def __str__(self) -> str:
        return f"clip {self.location}"


class PlannedTask(Protocol):
    """Work on a clip that was planned before: see `PreviewTask`."""

    @property
    def content_hash(self) -> str: ...

    @property
    def probed(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class WantedFrames:
    """The frames of one window, and the (width, height) that they are wanted in."""

    window: Window
    picks: FramePicks
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class CaptionTask:
    """A clip's windows to ask a model about and, in `previews`, those to preview from the same decode.

    `content_hash` and `probed` are as for `PreviewTask`. `questions` has the request of each wanted window, without
    its frames, `prepare` is the engine's. `threads` are the decoder's, and as many encoders run beside it: where there
    are as many clips as cores, one is best.
    """

    location: str
    content_hash: str
    wanted: tuple[WantedFrames, ...]
    questions: Mapping[Window, Request]
    prepare: Prepare | None
    previews: tuple[Window, ...] = ()
    preview_settings: PreviewSettings | None = None
    threads: int = 1
    probed: bytes | None = None

    @property
    def work(self) -> int:
        """Roughly the pixels to decode."""
        asked = max((item.window.end_frame * math.prod(item.size) for item in self.wanted), default=0)
        height = self.preview_settings.target_height if self.preview_settings else 0
        return max([asked, *(window.end_frame * height**2 for window in self.previews)])

    def __str__(self) -> str:
        return f"clip {self.location}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """One window's request, or why there is none, and what it took: to decode and resize, and to render it."""

    request_id: str
    request: Request | CaptionAssetsError
    decode_s: float
    render_s: float


def plan_clip(task: PlanTask, reading: Reading) -> Iterator[VideoInfo | PlannedWindow]:
    """First what the clip is, then its windows in order. Raises ClipError."""
    settings = task.settings
    with open_clip(task.location, reading, anew=True) as clip:  # whoever plans it has seen that it is new or changed
        info = probe(clip)
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
            mp4 = _mp4(clip, info, window) if settings.store_window_mp4 else None
            yield PlannedWindow(window, *_span(info, window), picks, mp4)


def _span(info: VideoInfo, window: Window) -> tuple[float, float]:
    first, following = info.pts_s[0], window.end_frame + 1
    end = info.pts_s[following] - first if following < info.num_frames else info.duration_s
    return float(info.pts_s[window.start_frame] - first), float(end)


def _mp4(clip: ClipFile, info: VideoInfo, window: Window) -> bytes | ClipError:
    try:
        return cut_window_mp4(clip, info, window)
    except ClipError as error:
        return error


def preview_clip(task: PreviewTask, reading: Reading) -> Iterator[list[str] | MadePreview]:
    """First the warnings about the clip, then each window's preview or why there is none.

    Raises ClipError where the clip cannot be used or has changed.
    """
    with open_clip(task.location, reading) as clip:
        info = planned_info(clip, task)
        yield preview_warnings(info, task.windows, task.settings)
        yield from render_previews(clip, info, task.windows, task.settings)


def planned_info(clip: ClipFile, task: PlannedTask) -> VideoInfo:
    """What the clip is, if it is what was planned; should it change from now on, its readers notice.

    Of a file with the stamp that it had then, nothing is read for that; one with the same bytes is not probed again.
    """
    known = unpack(task.probed) if task.probed else None
    if known is not None and known.stamp is not None and known.stamp == clip.stamp:
        clip.trust(known.content_hash)
    if clip.content_hash != task.content_hash:
        wrong = "its file has changed since its windows were planned"
        raise ChangedError(f"clip {clip.location}", wrong, "plan them again")
    limits = clip.limits  # which may be others by now
    if known is None or known.num_frames > limits.max_clip_frames or known.duration_s > limits.max_clip_seconds:
        return probe(clip)
    return known


@dataclass(frozen=True, slots=True)
class _Part:
    """Frames of one window that are wanted: to ask about, or to preview."""

    window: Window
    frames: FrameRequest
    preview: PreviewPlan | None = None


def caption_clip(task: CaptionTask, reading: Reading) -> Iterator[Prepared | list[str] | MadePreview]:
    """Each wanted window's request, or why there is none, as soon as it is decoded, in order; where asked for, previews
    as they are encoded.

    Where there are previews to make, the warnings about the clip come first. Raises ClipError where the clip cannot be
    used, has changed or cannot be read any further, when everything else that can be read is out.
    """
    settings = task.preview_settings or PreviewSettings()
    with (
        open_clip(task.location, reading) as clip,
        PreviewEncoders(task.location, settings, task.threads, _WAITING_BYTES) as encoders,
    ):
        info = planned_info(clip, task)
        if task.previews:
            yield preview_warnings(info, task.previews, settings)
        parts = [_Part(item.window, FrameRequest(item.picks, item.size)) for item in task.wanted]
        for plan in plan_previews(info, task.previews, settings):
            parts.append(_Part(plan.window, preview_request(plan, info, settings), plan))
        parts.sort(key=lambda part: (part.window, part.preview is not None))
        yield from _decoded(task, clip, info, parts, encoders)


def _decoded(
    task: CaptionTask, clip: ClipFile, info: VideoInfo, parts: Sequence[_Part], encoders: PreviewEncoders
) -> Iterator[Prepared | MadePreview]:
    """What becomes of all parts, from one pass. A frame that only one of them needs does not cost the others."""
    left, clock = deque(parts), time.perf_counter()
    try:
        for sampled in read_requests(clip, info, [part.frames for part in parts], threads=task.threads):
            part = left.popleft()
            if part.preview is None:
                yield _prepared(task, part.window, sampled, clock)
            elif isinstance(sampled, DecodeError):
                yield from encoders.rest()
                yield encoders.broken(part.window, sampled)
            else:
                encoders.add(part.preview, sampled.frames)
            del sampled  # before the next window's frames are there
            yield from encoders.made()
            clock = time.perf_counter()
    except ClipError as error:
        yield from encoders.rest()
        yield from (encoders.broken(part.window, error) for part in left if part.preview is not None)
        if any(part.preview is None for part in left):
            raise
    yield from encoders.rest()


def _prepared(task: CaptionTask, window: Window, frames: SampledFrames | DecodeError, clock: float) -> Prepared:
    decoded = time.perf_counter()
    asked = task.questions[window]
    request_id = asked.request_id
    if isinstance(frames, DecodeError):
        return Prepared(request_id, frames, decoded - clock, 0.0)
    request = _request(request_id, replace(asked, frames=frames), task.prepare)
    return Prepared(request_id, request, decoded - clock, time.perf_counter() - decoded)


def _request(request_id: str, request: Request, prepare: Prepare | None) -> Request | CaptionAssetsError:
    try:
        if prepare is None:
            return replace(request, prepared_at=time.monotonic())
        return prepare(request)
    except CaptionAssetsError as error:
        return error
    except Exception as error:  # of the model's own processing code
        return RequestError(f"request {request_id}", f"it cannot be prepared ({type(error).__name__}: {error})")


def preview_workers(settings: PreviewSettings, processes: int) -> int:
    """Clips to preview at once: as many as `num_cpus_per_worker` goes into so many processes, at least one."""
    return max(1, int(processes // settings.num_cpus_per_worker))


def caption_workers(processes: int, engines: int = 1) -> int:
    """Clips to prepare at once for so many engines, of so many processes: no engine needs more than eight.

    A window of 16 frames takes a worker about a second, and each holds some 0.4 GB of its own once it renders for vLLM.
    """
    return min(processes, engines * _MOST_PREPARING)
