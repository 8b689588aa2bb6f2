"""How fast windows are captioned on a GPU: through the assets, against the bare engine and NeMo Curator's feeding.

    python -m benchmarks.captions [--shape qwen2.5-vl-7b] [--windows 256] [--rows curator bare assets assets-fp8]

Workload: clips of 1280x720 (H.264 of about 4 Mbit and 30 frames a second, 240 frames, one window each, every one
different; `--easy-clips` for some that are decoded five times as fast), 16 frames a window in the model's size (about
6,000 prompt tokens), 200 output tokens, a model in its real shape with dummy weights, prefix and multimodal caches off.
The rows, each in a process of its own:

- curator: raw frames of 1280x720, decoded beforehand, `LLM.generate` on chunks of 8, as NeMo Curator feeds vLLM;
- bare: requests rendered beforehand, all of them handed to vLLM's own `LLM` at once: what the engine can do at best;
- assets: from mp4 files to `metas/v0` through `clip_windows` and `window_captions`, engine start not counted;
- assets-previews: the same with `window_previews`, from the same decoding;
- assets-fp8: as assets, with weights quantized to FP8 on load;
- assets-unscored: as assets, without asking for log-probabilities, as no run of the package does: what they cost;
- bare-scored: as bare, with them;
- assets-short: as assets, with one more caption of 40 tokens from the same visit;
- assets-three: with one of 40 and one of 400; assets-long: one caption alone, of all these 640 tokens;
- assets-again: as assets, with a second pass over each window;
- assets-two: two such runs at once, each with a shard of as many windows and a GPU of its own, into one output.

`gpu busy` is NVML's utilization between the first and the last moment that the GPU works on windows.

Needs Linux, vLLM and an NVIDIA GPU, two for assets-two; it has been run on H100s and H200s with 16 cores for each.
Downloads nothing.
"""

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.parts.assets import materialize
from benchmarks.parts.shapes import SHAPES, save_shape
from caption_assets.media.decode import probe, read_windows
from caption_assets.media.mp4 import write_mp4
from caption_assets.media.sampling import sample_window
from caption_assets.media.windows import compute_windows
from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.vllm.engine import VllmEngine
from caption_assets.models.engines.vllm.inputs import VllmPrepare, engine_input
from caption_assets.models.engines.vllm.launch import launch_args
from caption_assets.models.families import FrameLimits
from caption_assets.models.gpus import visible_gpus
from caption_assets.models.prompts import caption_prompt
from caption_assets.models.requests import Request, caption_request, frame_size
from caption_assets.models.variants import CAPTION_VARIANTS, Variant
from caption_assets.models.weights.checkpoints import checkpoint_frame_limits
from caption_assets.records import SampledFrames

WIDTH, HEIGHT, FRAMES, RATE = 1280, 720, 240, Fraction(30)
OUTPUT_TOKENS = 200
CHUNK = 8
PIXELS = 1036 * 588
VARIANTS = {
    "qwen2.5-vl-7b": "qwen2.5",
    "qwen3-vl-8b": "qwen3",
    "nemotron-12b-v2-vl": "nemotron",
    "nemotron-12b-v2-vl-fp8": "nemotron-fp8",
    "nemotron-12b-v2-vl-nvfp4": "nemotron-nvfp4",
}
DUMMY = {"load_format": "dummy"}
SHARDS = ("shard-0", "shard-1")
ROWS = (
    "curator",
    "bare",
    "bare-scored",
    "assets",
    "assets-unscored",
    "assets-previews",
    "assets-fp8",
    "assets-short",
    "assets-three",
    "assets-long",
    "assets-again",
    "assets-two",
)
# What captions are asked of a window in the rows of several, by the names of prompts, with the tokens of each.
_SHORT = {"short": {"max_output_tokens": 40}}
ASKED: dict[str, dict[str, Any]] = {
    "assets-short": {"prompts": _SHORT},
    "assets-three": {"prompts": {**_SHORT, "dense": {"max_output_tokens": 400}}},
    "assets-long": {"max_output_tokens": 640},
    "assets-again": {"generate_stage2_caption": True},
}


def make_clip(path: Path, seed: int, easy: bool) -> None:
    """A clip like an ordinary one for a decoder, or an easy one."""
    if easy:
        write_mp4(str(path), easy_frames(seed), RATE, preset="ultrafast")
    else:
        write_mp4(str(path), ordinary_frames(seed), RATE, preset="veryfast")


def ordinary_frames(seed: int) -> Iterator[np.ndarray]:
    """A picture of soft and sharp shapes that moves, under the noise of a camera."""
    import cv2

    rng, width = np.random.default_rng(seed), WIDTH + FRAMES * 2
    picture = np.full((HEIGHT, width, 3), 120.0, np.float32)
    for scale, contrast in ((90, 70), (24, 40), (6, 18)):
        small = rng.normal(0, contrast, (HEIGHT // scale + 2, width // scale + 2, 3)).astype(np.float32)
        picture += cv2.resize(small, (width, HEIGHT), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(picture, 0, 255).astype(np.int16)
    noise = [rng.normal(0, 7, (HEIGHT, WIDTH, 1)).astype(np.int16) for _ in range(8)]
    for k in range(FRAMES):
        frame = picture[:, 2 * k : 2 * k + WIDTH] + np.roll(noise[k % 8], 37 * k, axis=1)
        yield np.clip(frame, 0, 255).astype(np.uint8)


def easy_frames(seed: int) -> Iterator[np.ndarray]:
    """A picture of squares that moves."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (HEIGHT // 8, (WIDTH + FRAMES * 2) // 8, 3), dtype=np.uint8)
    picture = np.kron(small, np.ones((8, 8, 1), np.uint8))
    picture += rng.integers(0, 16, picture.shape, dtype=np.uint8)
    yield from (np.ascontiguousarray(picture[:, 2 * k : 2 * k + WIDTH]) for k in range(FRAMES))


def make_clips(root: Path, windows: int, shards: Sequence[str] = SHARDS, *, easy: bool = False) -> Path:
    """A dataset of shards of so many clips; within a shard, all are different."""
    kind = "easy" if easy else "ordinary"
    rendered, dataset = root / f"rendered-{kind}", root / f"{kind}-{len(shards)}x{windows}"
    rendered.mkdir(parents=True, exist_ok=True)
    paths = [rendered / f"{seed:05d}.mp4" for seed in range(windows)]
    missing = [(path, seed, easy) for seed, path in enumerate(paths) if not path.exists()]
    with ProcessPoolExecutor() as pool:
        list(pool.map(make_clip, *zip(*missing, strict=True)) if missing else ())
    for shard in shards:
        (dataset / shard).mkdir(parents=True, exist_ok=True)
        for path in paths:
            if not (dataset / shard / path.name).exists():
                os.link(path, dataset / shard / path.name)
    return dataset


def read_clip(path: Path, limits: FrameLimits | None) -> SampledFrames:
    """A clip's only window, in the model's size, or as it is where there are no limits."""
    info = probe(str(path))
    (window,) = compute_windows(info.num_frames, 256, 128)
    picks = sample_window(window, info.pts_s, info.frame_rate, 2.0)
    size = frame_size(WIDTH, HEIGHT, len(picks.frame_ids), limits) if limits else (WIDTH, HEIGHT)
    (sampled,) = read_windows(str(path), info, [picks], size=size)
    return sampled


def prepared_request(path: Path, prepare: VllmPrepare, limits: FrameLimits) -> Request:
    return prepare(caption_request(path.stem, caption_prompt("default"), read_clip(path, limits), OUTPUT_TOKENS))


class GpuWatch:
    """Utilization of every GPU, in percent, read ten times a second."""

    def __enter__(self) -> "GpuWatch":
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(k) for k in range(pynvml.nvmlDeviceGetCount())]
        devices = {pynvml.nvmlDeviceGetUUID(handle): handle for handle in handles}
        self.samples: list[tuple[float, dict[str, int]]] = []
        self._stopped = threading.Event()

        def watch() -> None:
            while not self._stopped.wait(0.1):
                percents = {uuid: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu for uuid, handle in devices.items()}
                self.samples.append((time.perf_counter(), percents))

        self._thread = threading.Thread(target=watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def busy(self, uuid: str, since: float, until: float) -> dict[str, Any]:
        """Mean utilization of a GPU between the first and the last sample with work, and that of each second."""
        inside = [(at, percents[uuid]) for at, percents in self.samples if since <= at <= until]
        working = [i for i, (_, percent) in enumerate(inside) if percent > 0]
        inside = inside[working[0] : working[-1] + 1] if working else [(since, 0)]
        seconds: dict[int, list[int]] = {}
        for at, percent in inside:
            seconds.setdefault(int(at - inside[0][0]), []).append(percent)
        return {
            "gpu_busy": fmean(percent for _, percent in inside),
            "gpu_busy_by_second": [round(fmean(percents)) for percents in seconds.values()],
        }


def feed(row: str, clips: Path, folder: Path, variant: Variant, vllm_args: dict[str, Any]) -> dict[str, Any]:
    """Windows a second of vLLM's own `LLM`, fed as NeMo Curator does or with ready-made requests."""
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    from vllm import LLM, SamplingParams

    limits = checkpoint_frame_limits(folder, variant.family)
    arguments = launch_args(
        variant, EngineOptions(vllm_args=vllm_args, trust_remote_code=True), folder, variant.family, limits
    )
    if row == "curator":  # the model as it is published, as vLLM runs it by default
        arguments.pop("hf_overrides", None)
        arguments["compilation_config"].pop("compile_mm_encoder", None)
    prepare = VllmPrepare(arguments, variant.family)
    paths = sorted((clips / SHARDS[0]).glob("*.mp4"))
    with ProcessPoolExecutor(8, mp_context=get_context("spawn")) as pool:
        if row == "curator":
            ready: list[Any] = list(pool.map(partial(read_clip, limits=None), paths))
        else:
            ready = list(pool.map(partial(prepared_request, prepare=prepare, limits=limits), paths))
    llm = LLM(**{**arguments, "disable_log_stats": True, "gpu_memory_utilization": 0.85})
    sampling = SamplingParams(temperature=0.0, max_tokens=OUTPUT_TOKENS, ignore_eos=True, repetition_penalty=1.05)
    if row == "bare-scored":
        sampling.logprobs, sampling.flat_logprobs = 0, True
    run = partial(_curator, llm, sampling) if row == "curator" else partial(_bare, llm, sampling)
    list(run(ready[:CHUNK]))  # what compiles at the first request is no part of the rate
    with GpuWatch() as watch:
        started = time.perf_counter()
        outputs = list(run(ready))
        ended = time.perf_counter()
    tokens = [len(output.outputs[0].token_ids) for output in outputs]
    assert set(tokens) == {OUTPUT_TOKENS}, set(tokens)
    return {
        "windows": len(ready),
        "windows_per_second": len(ready) / (ended - started),
        **watch.busy(visible_gpus()[0].uuid, started, ended),
        "prompt_tokens": fmean(len(output.prompt_token_ids) for output in outputs),
    }


def _curator(llm: Any, sampling: Any, windows: list[SampledFrames]) -> Iterator[Any]:
    prompt = llm.get_tokenizer().apply_chat_template(
        [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": caption_prompt("default")}]}],
        tokenize=False,
        add_generation_prompt=True,
    )
    for start in range(0, len(windows), CHUNK):
        inputs = []
        for window in windows[start : start + CHUNK]:
            count = len(window.frames)
            metadata = {
                "fps": 2.0,
                "frames_indices": list(range(count)),
                "total_num_frames": count,
                "duration": count / 2,
            }
            video = (window.frames, metadata | {"do_sample_frames": False})
            inputs.append({"prompt": prompt, "multi_modal_data": {"video": [video]}})
        yield from llm.generate(inputs, sampling, use_tqdm=False)


def _bare(llm: Any, sampling: Any, requests: list[Request]) -> Iterator[Any]:
    engine = llm.llm_engine
    for request in requests:
        engine.add_request(request.request_id, engine_input(request.prepared), sampling)
    while engine.has_unfinished_requests():
        yield from (output for output in engine.step() if output.finished)


def assets(
    clips: Path, folder: Path, variant: Variant, shard: str, row: str, vllm_args: dict[str, Any]
) -> dict[str, Any]:
    """Windows a second from a shard's mp4 files to documents, through Dagster."""
    precision = "fp8" if row == "assets-fp8" else "auto"
    if row == "assets-unscored":
        _ask_for_no_scores()
    previews: dict[str, dict[str, Any]] = {"window_previews": {}} if row == "assets-previews" else {}
    asked = {"max_output_tokens": OUTPUT_TOKENS, **ASKED.get(row, {})}
    model = {"model_variant": variant.name, "model_path": str(folder), "engine": "vllm", "precision": precision}
    model["video_pruning"] = vllm_args.pop("video_pruning_rate", 0.0)
    with GpuWatch() as watch:
        done = materialize(
            str(clips),
            str(folder.parent / "out"),
            {"clip_windows": {}, "window_captions": asked, **previews},
            caption_model={**model, "trust_remote_code": True, "vllm_args": vllm_args},
            text_model={},
            runs=[[shard]],
        )
    (planned,), (report, *others) = done.of("clip_windows"), done.of("window_captions")
    end = done.ended["window_captions"]
    figures = dict(report.figures)
    times = 2 if row == "assets-again" else 1
    assert figures["output_tokens"] == times * asked["max_output_tokens"] * report.ok, figures
    working = sum(each.ok / float(each.figures["windows_per_second"]) for each in (report, *others))
    return {
        "windows": report.ok,
        "failed": report.failed,
        "windows_per_second": report.ok / working,
        **watch.busy(str(figures["device"]).split()[-1], end - working, end),
        "prompt_tokens": float(figures["prompt_tokens"]) / report.ok,
        "engine_start_seconds": figures.get("engine_start_seconds"),
        "planning_windows_per_second": planned.figures["windows_per_second"],
        **{name: value for name, value in figures.items() if name.startswith("mean_")},
        **{
            f"{each.key}: {name}": each.figures[name]
            for each in others
            for name in ("output_tokens", "cached_tokens", "mean_wait_s", "mean_prefill_s")
            if name in each.figures
        },
        "engine": figures["engine"],
        "device": figures["device"],
        "span": [end - working, end],  # by a clock that all processes of the machine share
    }


def _ask_for_no_scores() -> None:
    """Has vLLM's engine of this process give no log-probabilities."""
    scored = VllmEngine._sampling

    def unscored(self: VllmEngine, request: Request) -> Any:
        sampling = scored(self, request)
        sampling.logprobs = None
        return sampling

    VllmEngine._sampling = unscored  # type: ignore[method-assign]


def run_row(row: str, shape: str, clips: Path, vllm_args: dict[str, Any], shard: str) -> dict[str, Any]:
    """The figures of one run."""
    folder, variant = clips.parent / shape, CAPTION_VARIANTS[VARIANTS[shape]]
    if row.startswith("assets"):
        return assets(clips, folder, variant, shard, row, DUMMY | vllm_args)
    return feed(row, clips, folder, variant, DUMMY | vllm_args)


def to_standard_error() -> None:
    """What a run prints besides, such as vLLM's own words with VLLM_LOGGING_LEVEL=INFO, is kept out of the table."""
    os.dup2(2, 1)


def measure(row: str, *arguments: Any) -> dict[str, Any]:
    """The figures of a row, whose runs have a process each; `arguments` are those of `run_row`."""
    shards = SHARDS if row == "assets-two" else SHARDS[:1]
    with ProcessPoolExecutor(len(shards), get_context("spawn"), to_standard_error) as pool:
        runs = [pool.submit(run_row, row, *arguments, shard) for shard in shards]
        figures = [run.result() for run in runs]
    return together(figures) if len(figures) > 1 else figures[0]


def together(figures: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of runs at the same time. Their rates are added: each counts from when its own engine was ready.

    `from_first_to_last` is the rate from when the first one's engine was ready to when the last one ended.
    """
    windows = sum(run["windows"] for run in figures)
    spans = [run["span"] for run in figures]
    return {
        "windows": windows,
        "windows_per_second": sum(run["windows_per_second"] for run in figures),
        "from_first_to_last": windows / (max(end for _, end in spans) - min(start for start, _ in spans)),
        "gpu_busy": fmean(run["gpu_busy"] for run in figures),
        "prompt_tokens": fmean(run["prompt_tokens"] for run in figures),
        "runs": [{name: value for name, value in run.items() if name != "gpu_busy_by_second"} for run in figures],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-vl-7b")
    parser.add_argument("--windows", type=int, default=256)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--easy-clips", action="store_true", help="clips of 1 Mbit/s, as x264 makes fastest")
    parser.add_argument("--work", type=Path, help="where clips and checkpoints are kept between runs")
    parser.add_argument("--out", type=Path, help="append all of each row's figures to this file, as JSON lines")
    parser.add_argument("--pruning", type=float, default=0.0, help="video_pruning, of rows through the assets")
    parser.add_argument("--vllm-args", type=json.loads, default="{}", help="further EngineArgs, as JSON, for every row")
    options = parser.parse_args()
    if options.pruning:
        options.vllm_args["video_pruning_rate"] = options.pruning
    root = options.work or Path(tempfile.gettempdir()) / "caption_assets_benchmark"
    clips = make_clips(root, options.windows, easy=options.easy_clips)
    save_shape(options.shape, root / options.shape, PIXELS * (16 if options.shape.startswith("qwen3") else 1))
    print(f"{'row':16s} {'windows':>7s} {'windows/s':>9s} {'gpu busy':>8s} {'prompt tokens':>13s}  more", flush=True)
    for row in options.rows:
        shutil.rmtree(root / "out", ignore_errors=True)
        try:
            figures = measure(row, options.shape, clips, options.vllm_args)
        except Exception as error:
            traceback.print_exc()
            print(f"{row:16s} failed: {error}", flush=True)
            continue
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps({"shape": options.shape, "row": row, **options.vllm_args, **figures}) + "\n")
        figures.pop("gpu_busy_by_second", None)
        main_figures = [figures.pop(name) for name in ("windows", "windows_per_second", "gpu_busy", "prompt_tokens")]
        more = ", ".join(f"{name} {value}" for name, value in figures.items())
        count, rate, busy, tokens = main_figures
        print(f"{row:16s} {count:7d} {rate:9.2f} {busy:7.0f}% {tokens:13.0f}  {more}", flush=True)


if __name__ == "__main__":
    main()
