"""How many cores keep a GPU busy: CPU seconds a window from a camera's file to the model's input.

    python -m benchmarks.cores [--sizes 720p 1080p 4k] [--codecs h264 hevc] [--kinds camera edited] [--levers] [--nvdec]

Clips of 1280x720, 1920x1080 and 3840x2160 at 8, 20 and 60 Mbit a second, H.264 of 8 bits and HEVC of 10, 240 frames and
one window of 16 frames each: city_10s of ../shared/videos, enlarged, under noise, or a generated picture where that
folder is not. They are made once and kept in --work; 4K in HEVC takes a core about three minutes. `camera` has a key
frame a second and refers back only; `edited` has x264's and x265's usual B-frames and distances of key frames.

Two tables, a row a clip:

- where the CPU time of a window goes, in one thread: hash, probe and plan are `clip_windows`'; decode, resize and
  render are `window_captions`'. The model is Qwen2.5-VL-7B's shape at 1036x588; render is vLLM's own processing code,
  where vLLM is there, else left out. Median (least to most) of --repeats.
- what a run does: the tasks that it gives its workers, with one worker and with one for each core, until all results
  are here. `cores a GPU` is the CPU time of all processes a window with all workers at work, plans too, times --rate:
  the windows a second that the GPU does (4.15: an H100, that shape). The engine's own processes take about two more.

--levers compares ways to decode one clip of each row, with the difference in the model's pixels. --nvdec has the GPU's
decoder do it, where there is one. Needs no network; about four minutes on 16 cores, the clips included.
"""

import argparse
import importlib.util
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.parts.camera_clips import CODECS, KINDS, SIZES, camera_clip, mbit
from benchmarks.parts.levers import levers, nvdec
from benchmarks.parts.measure import CORES, tree_cpu_s
from benchmarks.parts.sides import Plan, caption_tasks, model_size, plans_of
from caption_assets.errors import CaptionAssetsError
from caption_assets.media.decode import decode_frames
from caption_assets.media.faults import DecodeError
from caption_assets.media.files import Reading, open_clip
from caption_assets.media.packed import pack
from caption_assets.media.pixels import RgbConverter
from caption_assets.media.probe import probe
from caption_assets.models.prompts import caption_prompt
from caption_assets.models.requests import Prepare, caption_request
from caption_assets.records import SampledFrames
from caption_assets.settings import WindowSettings
from caption_assets.workers.local import Workers
from caption_assets.workers.tasks import CaptionTask, PlanTask, Prepared, caption_clip, plan_clip

REPOSITORY = Path(__file__).resolve().parents[1]
STAGES = ("hash", "probe", "plan", "decode", "resize", "render")


def stages(plan: Plan, prepare: Prepare | None) -> dict[str, float]:
    """CPU seconds of each stage, of a clip's only window, in this thread."""
    spent = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def at(stage: str) -> Iterator[None]:
        before = time.process_time()
        yield
        spent[stage] += time.process_time() - before

    (planned,) = plan.planned
    picks, (width, height) = planned.picks, model_size(plan.info, len(planned.picks.frame_ids))
    with open_clip(plan.path) as clip:
        with at("hash"):
            clip.content_hash  # noqa: B018
        with at("probe"):
            info = probe(clip)
        frames = decode_frames(clip, info, picks.frame_ids, threads=1)
        converter, out = RgbConverter((width, height)), np.empty((len(picks.frame_ids), height, width, 3), np.uint8)
        for slot in range(len(out)):
            with at("decode"):
                _, frame = next(frames)
            if isinstance(frame, DecodeError):
                raise frame
            with at("resize"):
                converter.into(frame, out[slot])
    with at("plan"):  # as a whole, less what was there before
        list(plan_clip(PlanTask(plan.path, WindowSettings()), Reading()))
    spent["plan"] = max(0.0, spent["plan"] - spent["hash"] - spent["probe"])
    if prepare is not None:
        with at("render"):
            prepare(caption_request(plan.path, caption_prompt("default"), SampledFrames(out, picks), 200))
    return spent


def run(workers: Workers, tasks: Sequence[CaptionTask]) -> tuple[float, float]:
    """What a run has its workers do with these clips, one task after the other: wall and CPU seconds of all."""
    started, used = time.perf_counter(), tree_cpu_s(os.getpid())
    plans = [PlanTask(task.location, WindowSettings()) for task in tasks]
    for _, planned in workers.run(plan_clip, plans):
        if isinstance(planned, CaptionAssetsError):
            raise planned
    for _, made in workers.run(caption_clip, tasks):
        if not isinstance(made, Prepared) or isinstance(made.request, CaptionAssetsError):
            raise RuntimeError(f"not made: {made}")
        del made  # as whoever asks an engine does
    return time.perf_counter() - started, tree_cpu_s(os.getpid()) - used


def tasks_of(plan: Plan, folder: Path, count: int, prepare: Prepare | None) -> list[CaptionTask]:
    """So many clips like this one, a worker each, as a run has them done."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}-{Path(plan.path).name}" for number in range(count)]
    for path in paths:
        if not path.exists():
            os.link(plan.path, path)
    (task,) = caption_tasks([plan], previews=False)
    probed = pack(probe(str(paths[0])))  # after the last link, which is a change of the file that all of them are
    return [replace(task, location=str(path), threads=1, prepare=prepare, probed=probed) for path in paths]


def renderer(work: Path) -> Prepare | None:
    """vLLM's processing code for Qwen2.5-VL-7B's shape; None without vLLM."""
    if importlib.util.find_spec("vllm") is None:
        return None
    from benchmarks.parts.shapes import save_shape
    from caption_assets.models.engines.base import EngineOptions
    from caption_assets.models.engines.vllm.inputs import VllmPrepare
    from caption_assets.models.engines.vllm.launch import launch_args
    from caption_assets.models.variants import CAPTION_VARIANTS
    from caption_assets.models.weights.checkpoints import checkpoint_frame_limits

    variant = CAPTION_VARIANTS["qwen2.5"]
    folder = save_shape("qwen2.5-vl-7b", work / "qwen2.5-vl-7b", 1036 * 588)
    limits = checkpoint_frame_limits(folder, variant.family)
    options = EngineOptions(trust_remote_code=True)
    return VllmPrepare(launch_args(variant, options, folder, variant.family, limits), variant.family)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--codecs", nargs="+", choices=CODECS, default=list(CODECS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["camera"])
    parser.add_argument("--rate", type=float, default=4.15, help="windows a second of a GPU")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--videos", type=Path, default=REPOSITORY.parent / "shared" / "videos")
    parser.add_argument("--work", type=Path, default=REPOSITORY / ".bench" / "cores", help="where clips are kept")
    parser.add_argument("--no-render", action="store_true", help="leave vLLM's processing out")
    parser.add_argument("--stages-only", action="store_true", help="leave out the runs with workers")
    parser.add_argument("--levers", action="store_true", help="compare ways to decode instead")
    parser.add_argument("--nvdec", action="store_true", help="the GPU's decoder instead, by so many processes")
    options = parser.parse_args()
    print(f"{platform.machine()}, {CORES} cores, load {os.getloadavg()[0]:.1f}")
    clips = {}
    for size in options.sizes:
        for codec in options.codecs:
            for kind in options.kinds:
                path = camera_clip(options.work, options.videos, SIZES[size], codec, kind)
                clips[f"{SIZES[size]} {codec} {kind}"] = path
                print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {mbit(path):.1f} Mbit/s", flush=True)
    plans = {name: plans_of([str(path)])[0] for name, path in clips.items()}
    if options.levers or options.nvdec:
        for name, plan in plans.items():
            print(f"\n{name}", flush=True)
            levers(plan, options.repeats) if options.levers else nvdec(plan)
        return
    prepare = None if options.no_render else renderer(options.work)
    print_stages(plans, prepare, options.repeats)
    if not options.stages_only:
        print_runs(plans, prepare, options.work, options.rate)


def print_stages(plans: dict[str, Plan], prepare: Prepare | None, repeats: int) -> None:
    print(f"\nCPU seconds a window, one thread, median (least to most) of {repeats}", flush=True)
    print(f"{'':24s}" + "".join(f"{stage:>9s}" for stage in STAGES) + "      all")
    if prepare is not None:  # which imports vLLM at its first call
        stages(next(iter(plans.values())), prepare)
    for name, plan in plans.items():
        measured = [stages(plan, prepare) for _ in range(repeats)]
        sums = [sum(each.values()) for each in measured]
        columns = "".join(f"{median(each[stage] for each in measured):9.3f}" for stage in STAGES)
        print(f"{name:24s}{columns}{median(sums):9.2f} ({min(sums):.2f} to {max(sums):.2f})", flush=True)


def print_runs(plans: dict[str, Plan], prepare: Prepare | None, work: Path, rate: float) -> None:
    print(f"\nwindows a second of a run's workers{' and' if prepare else ', without'} rendering", flush=True)
    print(f"{'':24s}{'one worker':>11s}{f'{CORES} workers':>12s}{'CPU s':>8s}{'cores a GPU':>13s}")
    with Workers(1) as one, Workers(CORES) as all_of_them:
        for number, (name, plan) in enumerate(plans.items()):
            tasks = tasks_of(plan, work / "copies", 2 * CORES, prepare)
            if number == 0:
                run(one, tasks[:1])
                run(all_of_them, tasks)  # each worker imports what it needs
            alone = [run(one, tasks[:1])[0] for _ in range(2)]
            wall, used = run(all_of_them, tasks)
            cpu = used / len(tasks)
            figures = f"{1 / min(alone):11.2f}{len(tasks) / wall:12.2f}{cpu:8.2f}{cpu * rate:13.1f}"
            print(f"{name:24s}{figures}", flush=True)


if __name__ == "__main__":
    main()
