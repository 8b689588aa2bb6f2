"""The sides that are compared: ours, NeMo Curator's own functions, and ffmpeg alone. Workers import this module."""

import math
import os
import subprocess
import sys
import tempfile
import types
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imageio_ffmpeg

from benchmarks.parts.measure import CORES
from caption_assets.media.decode import probe, read_windows
from caption_assets.media.previews import plan_previews, preview_size, read_windows_and_previews
from caption_assets.media.sampling import sample_window
from caption_assets.media.windows import compute_windows
from caption_assets.records import Preview, VideoInfo, Window
from caption_assets.settings import PreviewSettings
from caption_assets.workers.local import Workers

SETTINGS = PreviewSettings(num_cpus_per_worker=1)

# --- ours ----------------------------------------------------------------------------------------------------------


def model_size(info: VideoInfo) -> tuple[int, int]:
    """(width, height) that Qwen2.5-VL's processor takes frames to: multiples of 28, 128 to 768 patches of 28x28."""
    width, height = info.display_width, info.display_height
    low, high = 128 * 28 * 28, 768 * 28 * 28
    scale = min(1.0, math.sqrt(high / (width * height))) * max(1.0, math.sqrt(low / (width * height)))
    steps = math.floor if scale < 1 else math.ceil if scale > 1 else round
    return max(28, steps(width * scale / 28) * 28), max(28, steps(height * scale / 28) * 28)


def planned(path: str) -> tuple[VideoInfo, tuple[Window, ...], list[Any]]:
    info = probe(path)
    windows = compute_windows(info.num_frames, 256, 128)
    return info, windows, [sample_window(w, info.pts_s, info.frame_rate, 2.0) for w in windows]


def ours_captions(path: str, threads: int = 1) -> Iterator[Any]:
    """Caption inputs of a clip, at the model's size."""
    info, _, picks = planned(path)
    yield from read_windows(path, info, picks, size=model_size(info), threads=threads)


def ours_both(path: str, threads: int = 1, settings: PreviewSettings = SETTINGS) -> Iterator[Any]:
    """Caption inputs and previews of a clip."""
    info, windows, picks = planned(path)
    yield from read_windows_and_previews(path, info, windows, picks, settings, size=model_size(info), threads=threads)


def drain(workers: Workers, function: Callable[[str], Any], paths: Sequence[str]) -> Counter[str]:
    """Run the workers to their end and count what came."""
    counts: Counter[str] = Counter()
    for _, result in workers.map_unordered(function, paths):
        if isinstance(result, Exception):
            raise result
        counts["windows"] += 1
        if isinstance(result, tuple):
            assert isinstance(result[-1], Preview)
    return counts


def in_sequence(function: Callable[[str], Any], paths: Sequence[str]) -> None:
    for path in paths:
        result = function(path)
        if not isinstance(result, int):
            for _ in result:
                pass


# --- NeMo Curator --------------------------------------------------------------------------------------------------


def peer_functions(folder: str) -> tuple[Any, Any, Any]:
    """NeMo Curator's windowing module, preview stage and window class."""
    if folder not in sys.path:
        sys.path.append(folder)
        # Its package asks cosmos-xenna for a limit of Ray's; neither takes part in these functions.
        for name in ("cosmos_xenna", "cosmos_xenna.ray_utils", "cosmos_xenna.ray_utils.cluster"):
            sys.modules.setdefault(name, types.ModuleType(name))
        sys.modules["cosmos_xenna.ray_utils.cluster"].API_LIMIT = 1  # type: ignore[attr-defined]
        tools = Path(tempfile.mkdtemp(prefix="bench-ffmpeg-"))
        (tools / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
        os.environ["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"
    from nemo_curator.stages.video.preview.preview import PreviewStage
    from nemo_curator.tasks.video import _Window
    from nemo_curator.utils import windowing_utils

    PreviewStage._validate_worker_sizing = lambda self: None  # asks Ray about the cluster
    return windowing_utils, PreviewStage, _Window


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


def ready_frames(paths: Sequence[str]) -> list[tuple[bytes, str]]:
    """Raw preview frames of every window, and their size."""
    ready = []
    for path in paths:
        info, windows, _ = planned(path)
        size = preview_size(info, SETTINGS.target_height)
        for sampled in read_windows(path, info, plan_previews(info, windows, SETTINGS), size=size):
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


def largest_first(paths: Sequence[str]) -> list[str]:
    """By the pixels to decode."""
    infos = {path: probe(path) for path in paths}
    return sorted(paths, key=lambda p: -infos[p].num_frames * infos[p].width * infos[p].height)


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
