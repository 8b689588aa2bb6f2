"""How fast media code is: against NeMo Curator's own functions, and against what ffmpeg can do at best.

    python benchmarks/media.py [--runs 5] [--only captions] [--explore] [--memory] [--fuzz 3000]

Clips are bikes, city_10s, bottles, cars and nasa of ../shared/videos, where that folder is, and two generated ones
of 1280x720. The comparison needs NeMo Curator 1.4.0 in a folder of its own (it is not installed with the project):

    pip install --no-deps --target .bench/peer nemo-curator==1.4.0 loguru

and that folder as --peer (default .bench/peer). Its other imports (torch, av, numpy, cv2) are the project's. Both
sides use imageio-ffmpeg's ffmpeg. Start-up (imports, worker processes) is in no figure. The runs of a row are made in
turn, so that a machine that gets slower does so for all sides; ratios are medians of the ratios of each turn.
"""

import argparse
import dataclasses
import io
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
if str(REPOSITORY) not in sys.path:
    sys.path.insert(0, str(REPOSITORY))

import imageio_ffmpeg  # noqa: E402
import numpy as np  # noqa: E402

from caption_assets.media.decode import decode_frames, probe, read_windows  # noqa: E402
from caption_assets.media.pixels import RgbConverter  # noqa: E402
from caption_assets.media.previews import (  # noqa: E402
    plan_previews,
    preview_size,
    read_windows_and_previews,
    render_previews,
)
from caption_assets.media.sampling import sample_window  # noqa: E402
from caption_assets.media.windows import compute_windows  # noqa: E402
from caption_assets.media.workers import WorkerPool  # noqa: E402
from caption_assets.records import Preview, VideoInfo, Window  # noqa: E402
from caption_assets.settings import PreviewSettings  # noqa: E402

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
REAL = ("bikes", "city_10s", "bottles", "cars", "nasa")
SETTINGS = PreviewSettings(num_cpus_per_worker=1)


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


def ours_two_passes(path: str) -> Iterator[Any]:
    """The same with a decode of its own for each."""
    yield from ours_captions(path)
    info, windows, _ = planned(path)
    yield from render_previews(path, info, windows, SETTINGS)


def ours_previews(path: str) -> Iterator[Any]:
    info, windows, _ = planned(path)
    yield from render_previews(path, info, windows, SETTINGS)


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


# --- measuring -----------------------------------------------------------------------------------------------------


def spread(times: Sequence[float]) -> str:
    return f"{median(times):7.2f} s  ({min(times):.2f} to {max(times):.2f})"


def compare(title: str, sides: dict[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Run all sides in turn, after one turn that does not count; print times, and ratios to the first."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(runs + 1):
        for name, side in sides.items():
            start, used = time.perf_counter(), _tree_cpu_s(os.getpid())
            side()
            if turn:
                times[name].append(time.perf_counter() - start)
                cpu[name].append(_tree_cpu_s(os.getpid()) - used)
        print(f"  {turn} of {runs} runs of {title.split(':')[0]}", file=sys.stderr, flush=True)
    print(f"\n{title}: median of {runs} runs (least to most), CPU seconds of all processes, wall time by the first's")
    first, *_ = sides
    for name, values in times.items():
        ratios = [a / b for a, b in zip(values, times[first], strict=True)]
        ratio = f"x {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"  {name:54s} {spread(values)}   CPU {median(cpu[name]):6.2f} s   {ratio}")
    sys.stdout.flush()
    return times


def drain(pool: WorkerPool, function: Callable[[str], Any], paths: Sequence[str]) -> Counter[str]:
    """Run the pool to its end, longest clips first, and count what came."""
    counts: Counter[str] = Counter()
    for _, result in pool.run(function, sorted(paths, key=lambda p: -os.path.getsize(p))):
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


def in_threads(function: Callable[[str], Any], paths: Sequence[str]) -> None:
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda path: sum(1 for _ in function(path)), paths))


def speed(paths: Sequence[str], peer: str, runs: int, only: str, peer_in_sequence: bool) -> None:
    with WorkerPool(CORES) as pool, WorkerPool(CORES) as peers:
        pool.start()
        windows = drain(pool, ours_both, paths)["windows"]
        print(f"  {len(paths)} clips, {windows} windows, {CORES} cores")
        has_peer = (Path(peer) / "nemo_curator").is_dir()
        if has_peer:
            peers.start()
        else:
            print(f"  NeMo Curator is not in {peer}: it is left out. See the head of this file for how to install it.")
        if only in ("all", "both"):
            sides: dict[str, Callable[[], object]] = {"ours": lambda: drain(pool, ours_both, paths)}
            if has_peer:
                both = partial(peer_both, folder=peer)
                sides["NeMo Curator"] = lambda: in_sequence(both, paths)
                if not peer_in_sequence:
                    sides["NeMo Curator, a clip a core"] = lambda: list(peers.run(both, paths))
            compare("1. caption inputs and previews", sides, runs)
        if only in ("all", "captions"):
            sides = {"ours, resized": lambda: drain(pool, ours_captions, paths)}
            if has_peer:
                captions = partial(peer_captions, folder=peer)
                sides["NeMo Curator, not resized"] = lambda: in_sequence(captions, paths)
                if not peer_in_sequence:
                    sides["NeMo Curator, not resized, a clip a core"] = lambda: list(peers.run(captions, paths))
            compare("2. caption inputs", sides, runs)
        if only in ("all", "limit"):
            ready = ready_frames(paths)
            sides = {
                "ffmpeg, a clip after the other": lambda: limit(paths, ready, 1),
                "ffmpeg, a clip a core": lambda: limit(paths, ready, CORES),
                "ours": lambda: drain(pool, ours_both, paths),
            }
            compare("3. the limit: decode to nothing, then encode what is ready", sides, runs)


# --- what was tried ------------------------------------------------------------------------------------------------


def _decode_only(path: str, *, threads: int = 1, skip: bool = True) -> int:
    info, _, picks = planned(path)
    if not skip:
        info = dataclasses.replace(info, frames_in_order=True)
    ids = sorted({frame_id for pick in picks for frame_id in pick.frame_ids})
    return sum(1 for _ in decode_frames(path, info, ids, threads=threads))


def explore(paths: Sequence[str], runs: int) -> None:
    """Alternatives to what is built in."""
    decode = {
        "one thread": partial(_decode_only, threads=1),
        "one thread, unreferenced frames decoded": partial(_decode_only, threads=1, skip=False),
        "threads as decoders like": partial(_decode_only, threads=0),
        "as decoders like, unreferenced decoded": partial(_decode_only, threads=0, skip=False),
    }
    compare("decoding alone", {n: partial(in_sequence, f, paths) for n, f in decode.items()}, runs)
    with WorkerPool(CORES) as pool:
        pool.start()
        ways: dict[str, Callable[[], object]] = {
            "processes, one decoder thread each": lambda: drain(pool, ours_both, paths),
            "processes, decoder threads as they like": lambda: drain(pool, partial(ours_both, threads=0), paths),
            "threads, one decoder thread each": lambda: in_threads(ours_both, paths),
            "one clip at a time, all threads": lambda: in_sequence(
                partial(ours_both, threads=0, settings=PreviewSettings(num_cpus_per_worker=CORES)), paths
            ),
            "processes, a decode for captions and one for previews": lambda: drain(pool, ours_two_passes, paths),
            "processes, caption inputs alone": lambda: drain(pool, ours_captions, paths),
            "processes, previews alone": lambda: drain(pool, ours_previews, paths),
        }
        compare("how work is spread", ways, runs)
    conversions(paths, runs)


def conversions(paths: Sequence[str], runs: int) -> None:
    """Ways from a decoded frame to RGB at the model's size."""
    import cv2
    from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

    work = []
    for path in paths:
        info, _, picks = planned(path)
        work.append((model_size(info), [f for _, f in decode_frames(path, info, picks[0].frame_ids)]))
    exact = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

    def swscale(flags: int) -> None:
        for (width, height), frames in work:
            reformatter = VideoReformatter()
            for frame in frames:
                reformatter.reformat(
                    frame, width, height, "rgb24", interpolation=flags, dst_color_range=ColorRange.JPEG
                ).to_ndarray()

    def rgb_first() -> None:
        for size, frames in work:
            reformatter = VideoReformatter()
            for frame in frames:
                rgb = reformatter.reformat(frame, format="rgb24", dst_color_range=ColorRange.JPEG).to_ndarray()
                shrinks = size[0] <= frame.width
                cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)

    def built_in() -> None:
        for size, frames in work:
            converter, out = RgbConverter(size), np.empty((size[1], size[0], 3), np.uint8)
            for frame in frames:
                converter.into(frame, out)

    ways = {
        "scaled by swscale, colours by a matrix (built in)": built_in,
        "swscale all the way, area": lambda: swscale(Interpolation.AREA),
        "swscale all the way, area, exact": lambda: swscale(Interpolation.AREA | exact),
        "swscale all the way, bicubic, exact": lambda: swscale(Interpolation.BICUBIC | exact),
        "swscale to RGB, then OpenCV's resize": rgb_first,
    }
    compare(f"{sum(len(frames) for _, frames in work)} frames to RGB at the model's size", ways, runs)


# --- memory --------------------------------------------------------------------------------------------------------


class PeakMemory:
    """Peak of the resident memory of this process and its children together, sampled; as a context manager."""

    def __enter__(self) -> "PeakMemory":
        self.peak_mib = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.peak_mib = max(self.peak_mib, _tree_mib(os.getpid()))


def _tree_cpu_s(pid: int) -> float:
    """CPU time of a process, its children that have ended, and its living descendants; 0 where /proc is missing."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(_tree_cpu_s(int(child)) for child in (task / "children").read_text().split())
    except OSError:
        return 0.0
    return total


def _tree_mib(pid: int) -> float:
    # PSS, not RSS: pages that parent and workers share count once.
    total = 0.0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) / 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(_tree_mib(int(child)) for child in (task / "children").read_text().split())
    except OSError:
        pass
    return total


def memory(folder: Path) -> None:
    """Peak memory by number of clips and by length of a clip; needs Linux."""
    short = generated(folder, 1, 12)[0]
    long = generated(folder, 1, 120)[0]
    print("\nmemory, caption inputs and previews of 1280x720 clips")
    for label, paths in (
        ("4 clips of 12 s", [short] * 4),
        ("16 clips of 12 s", [short] * 16),
        ("2 clips of 12 s", [short] * 2),
        ("2 clips of 120 s", [long] * 2),
    ):
        with PeakMemory() as peak, WorkerPool(CORES) as pool:
            windows = drain(pool, ours_both, paths)["windows"]
        print(f"  {label:20s} {windows:4d} windows   peak {peak.peak_mib:6.0f} MiB")


# --- clips ---------------------------------------------------------------------------------------------------------


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


def fuzz(cases: int, folder: Path) -> None:
    """Every generated clip of the tests cut at 20 places and changed at random, `cases` in all."""
    from caption_assets_tests.media import fuzz as damage
    from caption_assets_tests.media.coded import CLIPS

    paths = [clip.make(folder) for clip in CLIPS]
    seeds = max(1, math.ceil(cases / len(paths)) - damage.CUTS)
    ends: Counter[str] = Counter()
    start, slowest = time.perf_counter(), 0.0
    with WorkerPool(CORES, memory_limit_bytes=4 << 30) as pool, PeakMemory() as peak:
        last = time.perf_counter()
        for case, result in pool.run(damage.survive, damage.damages(paths, seeds), time_limit_s=60):
            slowest, last = max(slowest, time.perf_counter() - last), time.perf_counter()
            if isinstance(result, Exception):
                ends[f"NOT SURVIVED: {result}"] += 1
                print(f"  {case}: {result}")
            else:
                ends[result[2] or ("frames of a file that is cut off" if result[3] else "frames")] += 1
    print(f"\nfuzz: {sum(ends.values())} damaged files of {len(paths)} clips in {time.perf_counter() - start:.0f} s,")
    print(f"  longest wait for a result {slowest:.1f} s, peak memory of all processes {peak.peak_mib:.0f} MiB")
    for name, count in ends.most_common():
        print(f"  {count:6d}  {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--videos", default=str(REPOSITORY.parent / "shared" / "videos"))
    parser.add_argument("--peer", default=str(REPOSITORY / ".bench" / "peer"))
    parser.add_argument("--peer-in-sequence", action="store_true", help="leave out NeMo Curator with a clip a core")
    parser.add_argument("--only", choices=("all", "both", "captions", "limit"), default="all")
    parser.add_argument("--clips", choices=("all", "real", "generated"), default="all")
    parser.add_argument("--explore", action="store_true", help="compare what was tried instead")
    parser.add_argument("--memory", action="store_true", help="peak memory by number and length of clips instead")
    parser.add_argument("--fuzz", type=int, metavar="CASES", help="damaged files instead")
    arguments = parser.parse_args()
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, line_buffering=True)
    with tempfile.TemporaryDirectory(prefix="bench-media-") as name:
        folder = Path(name)
        if arguments.fuzz:
            fuzz(arguments.fuzz, folder)
            return
        if arguments.memory:
            memory(folder)
            return
        sets: dict[str, list[str]] = {}
        if arguments.clips != "generated":
            real = [str(Path(arguments.videos) / f"{clip}.mp4") for clip in REAL]
            if all(Path(path).exists() for path in real):
                sets["real clips"] = real
            else:
                print(f"The real clips are not in {arguments.videos}: they are left out.")
        if arguments.clips != "real":
            sets["generated clips, 1280x720"] = generated(folder, 2, 14)
        for title, paths in sets.items():
            print(f"\n== {title}")
            if arguments.explore:
                explore(paths, arguments.runs)
            else:
                speed(paths, arguments.peer, arguments.runs, arguments.only, arguments.peer_in_sequence)


if __name__ == "__main__":
    # Workers import this module by its name; run as a script it would have none that they know.
    from benchmarks import media

    media.main()
