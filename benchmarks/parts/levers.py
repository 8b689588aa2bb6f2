"""Ways to decode less, or elsewhere: what each costs, and what it does to the pixels that a model sees."""

import dataclasses
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import Any
from unittest import mock

import av
import av.codec.hwaccel
import av.container
import cv2
import imageio_ffmpeg
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from benchmarks.parts.sides import Plan, model_size
from caption_assets.media import decode
from caption_assets.media.decode import decode_frames, read_windows
from caption_assets.media.faults import DecodeError
from caption_assets.media.files import ClipFile
from caption_assets.media.reader import FastReader
from caption_assets.records import SampledFrames

# Processes and threads in each that use the GPU's decoder at once.
_AT_ONCE = ((1, 1), (1, 4), (1, 8), (2, 4), (4, 4), (8, 1), (14, 1))
_CLIPS = 6


def built_in(plan: Plan, threads: int = 1) -> np.ndarray:
    """The model's frames of a clip's only window, (T, H, W, 3), as a run's worker makes them."""
    (planned,) = plan.planned
    size = model_size(plan.info, len(planned.picks.frame_ids))
    (sampled,) = read_windows(plan.path, plan.info, [planned.picks], size=size, threads=threads)
    if not isinstance(sampled, SampledFrames):
        raise sampled
    return sampled.frames


def _unfiltered(plan: Plan, frames: str) -> np.ndarray:
    """Without the decoder's deblocking of these frames, in ffmpeg's words."""

    class Reader(FastReader):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._context.options = {**self._context.options, "skip_loop_filter": frames}

    with mock.patch.object(decode, "FastReader", Reader):
        return built_in(plan)


def _whole_rgb(plan: Plan) -> np.ndarray:
    """Each frame to RGB as it is, then OpenCV's resize."""
    (planned,) = plan.planned
    size = model_size(plan.info, len(planned.picks.frame_ids))
    reformatter, made = VideoReformatter(), []
    for _, frame in decode_frames(plan.path, plan.info, planned.picks.frame_ids, threads=1):
        if isinstance(frame, DecodeError):
            raise frame
        rgb = reformatter.reformat(frame, format="rgb24", dst_color_range=ColorRange.JPEG).to_ndarray()
        made.append(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))
    return np.stack(made)


def _key_frames(plan: Plan) -> np.ndarray:
    """The key frame nearest to each frame that is wanted: a bound, for they are other frames."""
    (planned,) = plan.planned
    keys = plan.info.keyframe_ids
    assert keys is not None
    ids = [int(keys[np.abs(keys - wanted).argmin()]) for wanted in planned.picks.frame_ids]
    near = dataclasses.replace(planned, picks=dataclasses.replace(planned.picks, frame_ids=tuple(sorted(set(ids)))))
    frames = built_in(dataclasses.replace(plan, planned=(near,)))
    return frames[np.searchsorted(sorted(set(ids)), ids)]


def _everything(plan: Plan) -> np.ndarray:
    return built_in(dataclasses.replace(plan, info=dataclasses.replace(plan.info, keyframe_ids=None)))


WAYS: dict[str, Callable[[Plan], np.ndarray]] = {
    "built in": built_in,
    "every frame decoded": _everything,
    "four decoder threads": partial(built_in, threads=4),
    "each frame to RGB in full size, then resized": _whole_rgb,
    "skip_loop_filter=noref": partial(_unfiltered, frames="noref"),
    "skip_loop_filter=all": partial(_unfiltered, frames="all"),
    "nearest key frames instead": _key_frames,
}


def levers(plan: Plan, repeats: int) -> None:
    """Print CPU and wall seconds of each way, in turn, and how far its pixels are from the first one's."""
    cpu: dict[str, list[float]] = {name: [] for name in WAYS}
    wall: dict[str, list[float]] = {name: [] for name in WAYS}
    pixels: dict[str, np.ndarray] = {}
    for _ in range(repeats):
        for name, way in WAYS.items():
            used, started = time.process_time(), time.perf_counter()
            pixels[name] = way(plan)
            cpu[name].append(time.process_time() - used)
            wall[name].append(time.perf_counter() - started)
    for name in WAYS:
        spread = f"{median(cpu[name]):6.2f} ({min(cpu[name]):.2f} to {max(cpu[name]):.2f})"
        apart = _difference(pixels[name], pixels["built in"])
        print(f"  {name:46s} CPU {spread}  wall {median(wall[name]):6.2f}  {apart}")
    _ffmpeg_alone(plan)


def _difference(made: np.ndarray, reference: np.ndarray) -> str:
    apart = np.abs(made.astype(np.int16) - reference)
    if not apart.any():
        return "the same pixels"
    return (
        f"pixels differ by {apart.mean():.2f} on average, {np.percentile(apart, 99):.0f} at 99 %, {apart.max()} at most"
    )


def _ffmpeg_alone(plan: Plan) -> None:
    """Every frame decoded to nothing by the ffmpeg program, which has another build of the decoder."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "info", "-nostdin", "-benchmark", "-threads", "1"]
    done = subprocess.run(
        [*command, "-i", plan.path, "-map", "0:v:0", "-f", "null", "-"], capture_output=True, text=True, check=True
    )
    (line,) = [line for line in done.stderr.splitlines() if "utime=" in line]
    print(f"  {'every frame, by the ffmpeg program':46s} {line.removeprefix('bench: ')}", flush=True)


# --- the GPU's decoder ---------------------------------------------------------------------------------------------


@contextmanager
def _on_gpu(clip: ClipFile) -> Iterator[av.container.InputContainer]:
    # Frames stay on the GPU until they are converted: only those that are wanted come down.
    accelerator = av.codec.hwaccel.HWAccel("cuda", allow_software_fallback=False, is_hw_owned=True)
    with av.open(clip.local, hwaccel=accelerator) as container:
        yield container


def _decode_on_gpu(plan: Plan, threads: int) -> tuple[float, float, float, np.ndarray]:
    """When a process began with its clips and ended, its CPU seconds a clip, and the frames of one."""
    with mock.patch.object(ClipFile, "container", _on_gpu), ThreadPoolExecutor(threads) as pool:
        pixels, *_ = pool.map(built_in, [plan] * threads)
        began, used = time.time(), time.process_time()
        for _ in pool.map(built_in, [plan] * threads * _CLIPS):
            pass
        return began, time.time(), (time.process_time() - used) / (threads * _CLIPS), pixels


def nvdec(plan: Plan) -> None:
    """Print the windows a second of the GPU's decoder by processes and threads, and how far its pixels are off."""
    reference = built_in(plan)
    for processes, threads in _AT_ONCE:
        before = _gpu_memory()
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            runs = [pool.submit(_decode_on_gpu, plan, threads) for _ in range(processes)]
            try:
                done = [run.result() for run in runs]
            except Exception as error:
                print(f"  {processes} processes of {threads} threads: {type(error).__name__}: {error}", flush=True)
                continue
            held = _gpu_memory() - before
        seconds = max(ended for _, ended, _, _ in done) - min(began for began, _, _, _ in done)
        rate, cpu = processes * threads * _CLIPS / seconds, median(cpu for _, _, cpu, _ in done)
        apart = _difference(done[0][3], reference)
        print(
            f"  {processes} processes of {threads} threads: {rate:6.2f} windows/s, CPU {cpu:5.2f} s a window, "
            f"{held} MiB of the GPU held after; {apart}",
            flush=True,
        )


def _gpu_memory() -> int:
    """MiB of the first GPU that are in use."""
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0])
