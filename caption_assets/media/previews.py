"""Windows of a clip to animated WebP. The only caller of the ffmpeg program."""

import itertools
import logging
import math
import shlex
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import imageio_ffmpeg
import numpy as np

from caption_assets.errors import ClipError, ConfigError, PreviewError
from caption_assets.media.cores import usable_cores
from caption_assets.media.decode import FrameRequest, read_requests
from caption_assets.media.faults import DecodeError
from caption_assets.media.files import ClipFile, location_of
from caption_assets.media.sampling import preview_picks, window_seconds
from caption_assets.media.webp import MAX_SIDE, WebpFormatError, WebpFrame, animate, read_animation, split_stills
from caption_assets.records import FramePicks, Preview, VideoInfo, Window
from caption_assets.settings import DecodeLimits, PreviewSettings

_log = logging.getLogger(__name__)
# A preview takes well under a second; this only ends an encoder that hangs.
_ENCODE_SECONDS = 600.0
_INSTALL = (
    "install imageio-ffmpeg (its ffmpeg has libwebp), or set IMAGEIO_FFMPEG_EXE to an ffmpeg that was built with "
    "--enable-libwebp"
)


class FfmpegError(PreviewError):
    """ffmpeg failed, or made something else than it was asked for."""

    kind = "ffmpeg"

    def __init__(self, asked: str, wrong: str, fix: str = "", command: str = "", output: str = "") -> None:
        """`command` is ffmpeg's command line, `output` what it wrote to standard error."""
        super().__init__(asked, wrong, fix)
        self.command, self.output = command, output

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.asked, self.wrong, self.fix, self.command, self.output)


class PreviewSourceError(PreviewError):
    """The clip broke before the frames of this preview; `kind` is that of the clip's error."""

    def __init__(self, asked: str, wrong: str, fix: str = "", kind: str = "decode") -> None:
        super().__init__(asked, wrong, fix)
        self.kind = kind

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.asked, self.wrong, self.fix, self.kind)


def ffmpeg_exe() -> str:
    """Path of imageio-ffmpeg's program, which IMAGEIO_FFMPEG_EXE can replace. Raises ConfigError when there is none."""
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise ConfigError("previews", "no ffmpeg program was found", _INSTALL) from error


def check_ffmpeg() -> None:
    """Raise ConfigError, saying what to install, where ffmpeg is missing, does not run or lacks libwebp."""
    exe = ffmpeg_exe()
    try:
        done = subprocess.run([exe, "-hide_banner", "-encoders"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"previews with {exe}", f"it does not run ({error})", _INSTALL) from error
    if done.returncode != 0:
        raise ConfigError(f"previews with {exe}", f"it exits with status {done.returncode}", _INSTALL)
    if not any(line.split()[1:2] == ["libwebp"] for line in done.stdout.splitlines()):
        raise ConfigError(f"previews with {exe}", "it cannot encode WebP (libwebp is missing)", _INSTALL)


def preview_size(info: VideoInfo, target_height: int) -> tuple[int, int]:
    """(width, height) in pixels of a preview; the width keeps the display aspect ratio, halves rounded up."""
    return max(1, math.floor(info.display_width * target_height / info.display_height + 0.5)), target_height


def preview_warnings(info: VideoInfo, windows: Sequence[Window], settings: PreviewSettings) -> list[str]:
    """What a viewer of the previews of these windows should know: that frames repeat, are enlarged, or follow each
    other more slowly than asked for."""
    warnings = []
    slowest = min((preview.fps for preview in plan_previews(info, windows, settings)), default=settings.target_fps)
    if slowest < settings.target_fps:
        warnings.append(
            f"a window lasts longer than max_frames={settings.max_frames} pictures at"
            f" target_fps={settings.target_fps:g}: its preview has one every {1 / slowest:.3g} s"
        )
    if float(info.frame_rate) < settings.target_fps:
        warnings.append(
            f"the clip has {float(info.frame_rate):.3g} frames a second, fewer than target_fps={settings.target_fps:g}:"
            " frames repeat"
        )
    if info.display_height < settings.target_height:
        warnings.append(
            f"the clip is {info.display_height} pixels high, lower than target_height={settings.target_height}:"
            " frames are enlarged"
        )
    return warnings


def frame_durations(count: int, fps: float) -> list[int]:
    """Milliseconds for which each of `count` frames is shown, such that frame k starts at round(1000 k / fps)."""
    starts = [round(1000 * k / fps) for k in range(count + 1)]
    return [end - start for start, end in itertools.pairwise(starts)]


def encode_webp(frames: np.ndarray, fps: float, settings: PreviewSettings, name: str = "preview") -> Preview:
    """Encode `frames`, uint8 RGB of shape (T, H, W, 3), as a looping animation of `fps` frames a second.

    `compression_level` 0 is lossless; 1 to 6 are lossy with that effort and `quality`. Every frame stays a frame,
    also where neighbours are equal. `name` is what errors call it.

    Raises FfmpegError where the encoder fails or its output is not what was planned.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise PreviewError(name, f"frames of shape {frames.shape} and type {frames.dtype} cannot be shown")
    count, height, width, _ = frames.shape
    if max(width, height) > MAX_SIDE:
        raise PreviewError(name, f"{width}x{height} pixels, WebP allows {MAX_SIDE} a side", "lower target_height")
    command = _encode_command(width, height, settings)
    shown = shlex.join(command)
    try:
        pixels = np.ascontiguousarray(frames).data.cast("B")
        done = subprocess.run(command, input=pixels, capture_output=True, timeout=_ENCODE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FfmpegError(name, f"ffmpeg did not run ({error})", _INSTALL, shown) from error
    output = done.stderr.decode(errors="replace").strip()
    if settings.verbose:
        _log.info("%s: %s\n%s", name, shown, output)
    if done.returncode != 0:
        last = output.splitlines()[-1] if output else "no output"
        raise FfmpegError(name, f"ffmpeg failed with status {done.returncode} ({last})", command=shown, output=output)
    durations = frame_durations(count, fps)
    try:
        stills = split_stills(done.stdout)
        if len(stills) != count:
            raise WebpFormatError(f"{len(stills)} frames came back, {count} were sent")
        data = animate(stills, durations)
        made = read_animation(data)
    except WebpFormatError as error:
        raise FfmpegError(name, f"ffmpeg's output is unusable ({error})", command=shown, output=output) from error
    planned = tuple(WebpFrame(width, height, ms) for ms in durations)
    if made != planned:
        raise FfmpegError(name, f"it has {made}, planned were {planned}", command=shown, output=output)
    return Preview(data, count, width, height, round(1000 / fps))


def _encode_command(width: int, height: int, settings: PreviewSettings) -> list[str]:
    lossless = settings.compression_level == 0
    command = [ffmpeg_exe(), "-hide_banner", "-nostdin", "-v", "info" if settings.verbose else "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{width}x{height}", "-i", "pipe:0"]
    # bgra: libwebp then makes its own colours of the pixels, for lossless the same ones.
    command += ["-c:v", "libwebp", "-pix_fmt", "bgra", "-fps_mode", "passthrough", "-lossless", str(int(lossless))]
    # Lossless pixels are the same at any effort; this one takes a fifth of the time of the usual 4 and 75, for 5 %
    # more bytes.
    command += ["-compression_level", "1" if lossless else str(settings.compression_level)]
    command += ["-quality", "20" if lossless else str(settings.quality), "-f", "image2pipe", "pipe:1"]
    return command


def encoders_at_once(settings: PreviewSettings) -> int:
    """ffmpeg processes that may run at once: libwebp encodes a frame on one core."""
    return max(1, min(math.ceil(settings.num_cpus_per_worker), usable_cores()))


@dataclass(frozen=True, slots=True)
class PreviewPlan:
    """The frames that a window's preview shows, and how many of them a second."""

    window: Window
    picks: FramePicks
    fps: float


def plan_previews(info: VideoInfo, windows: Sequence[Window], settings: PreviewSettings) -> list[PreviewPlan]:
    """What each window's preview shows: `target_fps` frames a second, and fewer where that were more than
    `max_frames`."""
    end_s = float(info.pts_s[0]) + info.duration_s
    plans = []
    for window in windows:
        fps = preview_fps(window_seconds(window, info.pts_s, end_s), settings)
        plans.append(PreviewPlan(window, preview_picks(window, info.pts_s, end_s, fps), fps))
    return plans


def preview_fps(seconds: float, settings: PreviewSettings) -> float:
    """Frames a second of the preview of a window that lasts so long."""
    fits = seconds * settings.target_fps < settings.max_frames + 0.5
    return settings.target_fps if fits else settings.max_frames / seconds


def preview_request(plan: PreviewPlan, info: VideoInfo, settings: PreviewSettings) -> FrameRequest:
    """The same frames in the size of the preview, as `read_requests` takes them."""
    return FrameRequest(plan.picks, preview_size(info, settings.target_height))


MadePreview = tuple[Window, Preview | PreviewError]


class PreviewEncoders:
    """Encodes previews of one clip's windows in threads, beside the decoder; a context manager."""

    def __init__(
        self, location: str, settings: PreviewSettings, at_once: int | None = None, waiting_bytes: int = 0
    ) -> None:
        """`at_once` encoders, by default as many as the settings and the machine allow.

        As many windows wait as are encoded at once; more, while the frames of all take at most `waiting_bytes`.
        """
        self._location, self._settings, self._waiting_bytes = location, settings, waiting_bytes
        self._at_once = at_once or encoders_at_once(settings)
        self._threads = ThreadPoolExecutor(self._at_once, thread_name_prefix="webp")
        self._pending: deque[tuple[Window, Future[Preview], int]] = deque()

    def __enter__(self) -> "PreviewEncoders":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def name(self, window: Window) -> str:
        """What errors call a window's preview."""
        return f"preview {window} of {self._location}"

    def add(self, plan: PreviewPlan, frames: np.ndarray) -> None:
        """Encode `frames` (see `encode_webp`) as the preview that is planned."""
        window = plan.window
        future = self._threads.submit(encode_webp, frames, plan.fps, self._settings, self.name(window))
        self._pending.append((window, future, frames.nbytes))

    def made(self) -> Iterator[MadePreview]:
        """What is done, in order. Waits where too much waits already."""
        while self._pending and (self._pending[0][1].done() or self._is_full()):
            yield self._take()

    def rest(self) -> Iterator[MadePreview]:
        """Everything that is left, in order."""
        while self._pending:
            yield self._take()

    def _is_full(self) -> bool:
        waiting = sum(num_bytes for _, future, num_bytes in self._pending if not future.done())
        return len(self._pending) > self._at_once and waiting > self._waiting_bytes

    def _take(self) -> MadePreview:
        window, future, _ = self._pending.popleft()
        try:
            return window, future.result()
        except PreviewError as error:
            return window, error

    def broken(self, window: Window, error: ClipError) -> MadePreview:
        """The outcome of a window whose frames are unavailable."""
        wrong = f"{error.asked}: {error.wrong}"
        return window, PreviewSourceError(self.name(window), wrong, error.fix, error.kind)


def render_previews(
    clip: ClipFile | str,
    info: VideoInfo,
    windows: Sequence[Window],
    settings: PreviewSettings,
    *,
    limits: DecodeLimits | None = None,
) -> Iterator[MadePreview]:
    """Make the previews of a clip's windows from one decode, in order; a window that fails has its error instead.

    Encoders run beside the decoder, as many as `num_cpus_per_worker` and the machine allow. A window of which a frame
    cannot be decoded has a PreviewSourceError. `clip` and `limits` are as for `decode_frames`.
    """
    with PreviewEncoders(location_of(clip), settings) as encoders:
        left = deque(plan_previews(info, windows, settings))
        requests = [preview_request(plan, info, settings) for plan in left]
        try:
            for sampled in read_requests(clip, info, requests, threads=encoders_at_once(settings), limits=limits):
                plan = left.popleft()
                if isinstance(sampled, DecodeError):
                    yield from encoders.rest()
                    yield encoders.broken(plan.window, sampled)
                else:
                    encoders.add(plan, sampled.frames)
                del sampled  # the encoder's alone from here on
                yield from encoders.made()
        except ClipError as error:
            yield from encoders.rest()
            yield from (encoders.broken(plan.window, error) for plan in left)
        yield from encoders.rest()
