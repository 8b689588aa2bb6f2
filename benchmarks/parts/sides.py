"""The sides that are compared: ours, NeMo Curator's own functions, and ffmpeg alone. Workers import this module."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import imageio_ffmpeg

from benchmarks.parts.measure import CORES
from caption_assets.media.decode import read_windows
from caption_assets.media.files import Reading
from caption_assets.media.previews import plan_previews, preview_size
from caption_assets.models.prompts import caption_prompt
from caption_assets.models.requests import Request, caption_request, frame_size
from caption_assets.models.variants import caption_variant
from caption_assets.records import Preview, VideoInfo, Window
from caption_assets.settings import CaptionSettings, PreviewSettings, WindowSettings
from caption_assets.workers.base import ClipTask
from caption_assets.workers.local import Workers
from caption_assets.workers.tasks import (
    CaptionTask,
    PlannedWindow,
    PlanTask,
    Prepared,
    PreviewTask,
    WantedFrames,
    caption_clip,
    caption_workers,
    plan_clip,
    preview_clip,
    preview_workers,
)

PREVIEWS, CAPTIONS = PreviewSettings(), CaptionSettings()

# --- ours: the tasks that a run gives its workers, as `caption_assets.steps` makes them ----------------------------


@dataclass(frozen=True)
class Plan:
    """What `clip_windows` says of a clip, of which each of our tasks is made."""

    path: str
    info: VideoInfo
    planned: tuple[PlannedWindow, ...]

    @property
    def windows(self) -> tuple[Window, ...]:
        return tuple(item.window for item in self.planned)


def plans_of(paths: Sequence[str]) -> list[Plan]:
    """The plan of every clip, in the order of the paths."""
    plans = {}
    for path in set(paths):
        info, *planned = plan_clip(PlanTask(path, WindowSettings()), Reading())
        plans[path] = Plan(path, info, tuple(planned))
    return [plans[path] for path in paths]


def model_size(info: VideoInfo, frames: int) -> tuple[int, int]:
    """(width, height) in which the default model, Qwen2.5-VL, sees so many frames of a clip."""
    limits = caption_variant("qwen").frames
    assert limits is not None
    return frame_size(info.display_width, info.display_height, frames, limits)


def caption_tasks(plans: Sequence[Plan], *, previews: bool) -> list[CaptionTask]:
    """What `window_captions` has its workers do, for an engine that prepares nothing; with previews made beside it."""
    threads = max(1, caption_workers(CORES) // len(plans))
    return [_caption_task(each, previews, threads) for each in plans]


def _caption_task(plan: Plan, previews: bool, threads: int) -> CaptionTask:
    wanted = [
        WantedFrames(item.window, item.picks, model_size(plan.info, len(item.picks.frame_ids))) for item in plan.planned
    ]
    prompt = caption_prompt(CAPTIONS.prompt_variant)
    return CaptionTask(
        location=plan.path,
        content_hash=plan.info.content_hash,
        wanted=tuple(wanted),
        questions={
            window: caption_request(f"{plan.path}/{window}", prompt, None, CAPTIONS.max_output_tokens)
            for window in plan.windows
        },
        prepare=None,
        previews=plan.windows if previews else (),
        preview_settings=PREVIEWS if previews else None,
        threads=threads,
    )


def preview_tasks(plans: Sequence[Plan]) -> list[PreviewTask]:
    """What `window_previews` has its workers do where captions are made in another run."""
    return [PreviewTask(plan.path, plan.info.content_hash, plan.windows, PREVIEWS) for plan in plans]


def ours(workers: Workers, tasks: Sequence[CaptionTask]) -> None:
    """Have the workers do what `window_captions` asks of them, and take all results, as it does."""
    in_flight = 2 * CAPTIONS.batch_size
    results = workers.run(caption_clip, tasks, at_once=caption_workers(workers.processes), in_flight=in_flight)
    _check(tasks, (made for _, made in results))


def ours_here(task: CaptionTask) -> None:
    """The same of one clip, in this process."""
    _check([task], caption_clip(task, Reading()))


def our_previews(workers: Workers, tasks: Sequence[PreviewTask]) -> None:
    """The same for what `window_previews` asks of them."""
    at_once = preview_workers(PREVIEWS, workers.processes)
    results = workers.run(preview_clip, tasks, at_once=at_once)
    _check(tasks, (made for _, made in results))


def _check(tasks: Sequence[ClipTask], made: Iterable[Any]) -> None:
    """Take all that was made. Raises where that is not a request and a preview for every window that wants them."""
    requests = previews = 0
    for item in made:
        match item:
            case Prepared(request=Request(frames=frames)) if frames is not None:
                requests += 1
            case (Window(), Preview()):
                previews += 1
            case list():  # warnings
                pass
            case _:
                raise RuntimeError(f"not made: {item}")
        del item  # as whoever asks an engine does
    asked = sum(len(task.wanted) for task in tasks if isinstance(task, CaptionTask))
    shown = sum(len(task.previews if isinstance(task, CaptionTask) else task.windows) for task in tasks)
    assert (requests, previews) == (asked, shown), f"{requests} of {asked} requests, {previews} of {shown} previews"


def in_sequence(function: Callable[[Any], object], items: Sequence[Any]) -> None:
    for item in items:
        function(item)


# --- NeMo Curator --------------------------------------------------------------------------------------------------


def has_peer(folder: str) -> bool:
    return (Path(folder) / "nemo_curator").is_dir()


def put_ffmpeg_on_path(folder: Path) -> None:
    """NeMo Curator starts `ffmpeg` by its name; workers that are started from now on find it, too."""
    (folder / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


@cache
def peer_functions(folder: str) -> tuple[Any, Any, Any]:
    """NeMo Curator's windowing module, preview stage and window class."""
    # Its package asks cosmos-xenna for a limit of Ray's; neither takes part in these functions.
    for name in ("cosmos_xenna", "cosmos_xenna.ray_utils", "cosmos_xenna.ray_utils.cluster"):
        sys.modules[name] = ModuleType(name)
    sys.modules["cosmos_xenna.ray_utils.cluster"].API_LIMIT = 1  # type: ignore[attr-defined]
    sys.path.append(folder)
    from nemo_curator.stages.video.preview.preview import PreviewStage
    from nemo_curator.tasks.video import _Window
    from nemo_curator.utils import windowing_utils

    PreviewStage._validate_worker_sizing = lambda self: None  # asks Ray about the cluster
    return windowing_utils, PreviewStage, _Window


def a_clip_a_core(workers: Workers, function: Callable[[str], int], paths: Sequence[str]) -> None:
    """NeMo Curator's functions in worker processes like ours."""
    for _, result in workers.map_unordered(function, paths):
        if isinstance(result, Exception):
            raise result


def peer_captions(path: str, folder: str) -> int:
    """NeMo Curator's caption inputs; returns the number of windows, as its results stay in its process."""
    windowing, _, _ = peer_functions(folder)
    _, frames, _ = windowing.split_video_into_windows(
        Path(path).read_bytes(), sampling_fps=2.0, return_bytes=False, num_threads=CORES
    )
    return len(frames)


def peer_both(path: str, folder: str) -> int:
    """NeMo Curator's caption inputs and previews."""
    windowing, stage_class, window_class = peer_functions(folder)
    stage = stage_class(num_cpus_per_worker=float(CORES))
    parts, frames, windows = windowing.split_video_into_windows(
        Path(path).read_bytes(), sampling_fps=2.0, return_bytes=True, num_threads=CORES
    )
    for part, window in zip(parts, windows, strict=True):
        made = window_class(window.start, window.end, mp4_bytes=part)
        stage._generate_preview(made)
        assert made.webp_bytes
    return len(frames)


# --- the limit: ffmpeg alone ---------------------------------------------------------------------------------------


def ffmpeg(*arguments: str, data: bytes | None = None) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", *arguments]
    subprocess.run(command, input=data, check=True, stdout=subprocess.DEVNULL)


def decode_to_nothing(path: str) -> None:
    ffmpeg("-i", path, "-map", "0:v:0", "-f", "null", "-")


def ready_frames(plans: Sequence[Plan]) -> list[tuple[bytes, str]]:
    """Raw preview frames of every window, and their size."""
    ready = []
    for plan in plans:
        size = preview_size(plan.info, PREVIEWS.target_height)
        shown = [preview.picks for preview in plan_previews(plan.info, plan.windows, PREVIEWS)]
        for sampled in read_windows(plan.path, plan.info, shown, size=size):
            ready.append((sampled.frames.tobytes(), f"{size[0]}x{size[1]}"))
    return ready


def encode_ready(item: tuple[bytes, str]) -> None:
    data, size = item
    with tempfile.NamedTemporaryFile(suffix=".webp") as file:
        source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", "1", "-i", "-")
        options = ("-c:v", "libwebp", "-lossless", "0", "-compression_level", "6", "-q:v", "50", "-loop", "0")
        ffmpeg(*source, *options, "-y", file.name, data=data)


def limit(paths: Sequence[str], ready: Sequence[tuple[bytes, str]], workers: int) -> None:
    """Decode everything to nothing, then encode the frames that are ready, each with all cores."""
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(decode_to_nothing, paths))
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(encode_ready, ready))


# --- clips ---------------------------------------------------------------------------------------------------------


def largest_first(plans: Sequence[Plan]) -> list[Plan]:
    """By the pixels to decode."""
    return sorted(plans, key=lambda each: -each.info.num_frames * each.info.width * each.info.height)


def generated(folder: Path, count: int, seconds: int) -> list[str]:
    """Clips of 1280x720 at 30 frames a second: moving shapes and a little noise, as x264 makes them by default."""
    paths = []
    for number in range(count):
        path = folder / f"made_{seconds}s_{number}.mp4"
        if not path.exists():
            source = f"testsrc2=s=1280x720:r=30:d={seconds},noise=alls=2:allf=t:all_seed={number}"
            ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "fast", "-pix_fmt", "yuv420p", str(path))
        paths.append(str(path))
    return paths


def looped(path: str, times: int) -> str:
    """A clip that shows `path` so many times over, without encoding it again."""
    target = f"{path.removesuffix('.mp4')}_x{times}.mp4"
    ffmpeg("-stream_loop", str(times - 1), "-i", path, "-c", "copy", target)
    return target
