"""How fast one run captions on several GPUs of a machine, against one of them.

    python -m benchmarks.gpus [--gpus 1 all] [--windows 256] [--shape qwen2.5-vl-7b] [--out gpus.json]

The workload of `benchmarks.captions`: dummy weights in a model's real shape, 1280x720 clips of one window each, so many
windows for each GPU, 200 output tokens; from mp4 files to documents, by a run of `clip_windows` and `window_captions`
as `caption-assets run --gpus …` makes it. For each value of `--gpus` a run in a process of its own, one after the
other; the first compiles what the others find compiled. Windows a second count from when the first engine was ready
until the last window was there; `speedup` is the rate against the first value's, and `efficiency` that for each GPU.

Needs Linux, vLLM and NVIDIA GPUs. Downloads nothing. Figures are printed, and with `--out` written as JSON after each
run.
"""

import argparse
import json
import logging
import os
import shutil
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.captions import DUMMY, OUTPUT_TOKENS, PIXELS, VARIANTS, GpuWatch, make_clips, to_standard_error
from benchmarks.parts.assets import materialize
from benchmarks.parts.measure import CORES, tree_cpu_s
from benchmarks.parts.shapes import SHAPES, save_shape
from caption_assets.models.gpus import visible_gpus
from caption_assets.workers.tasks import caption_workers


class ReadyTimes(logging.Handler):
    """When each engine was ready, by `time.perf_counter`, with what was said then."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.times: list[tuple[float, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        text, one_of_several = record.getMessage(), record.name.startswith("caption_assets.workers")
        if " is ready after " in text and (one_of_several or not self.times):
            self.times.append((time.perf_counter(), text))

    def __enter__(self) -> "ReadyTimes":
        logger = logging.getLogger("caption_assets")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("caption_assets").removeHandler(self)


class CoreWatch:
    """CPU seconds of this process and all that it has started, read every second."""

    def __enter__(self) -> "CoreWatch":
        self._samples: list[tuple[float, dict[str, float]]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(1.0):
            used = {"all": tree_cpu_s(os.getpid()), "run": time.process_time()}
            self._samples.append((time.perf_counter(), used))

    def busy(self, since: float, until: float) -> dict[str, float]:
        """Cores in use on average: of `all` processes, and of the `run`'s own, which deals out the windows."""
        inside = [sample for sample in self._samples if since <= sample[0] <= until]
        if len(inside) < 2:
            return {}
        (began, before), (ended, after) = inside[0], inside[-1]
        return {name: (after[name] - before[name]) / (ended - began) for name in before}


def run(gpus: str, windows: int, shape: str, root: Path, easy: bool, vllm_args: dict[str, Any]) -> dict[str, Any]:
    """The figures of one run over so many windows for each of its GPUs."""
    count = len(visible_gpus()) if gpus == "all" else len(gpus.split(",")) if "," in gpus else int(gpus)
    clips = make_clips(root, windows, [f"shard-{k}" for k in range(count)], easy=easy)
    model = {"model_variant": VARIANTS[shape], "model_path": str(root / shape), "engine": "vllm", "gpus": gpus}
    began = time.perf_counter()
    with GpuWatch() as watch, CoreWatch() as cores, ReadyTimes() as ready:
        done = materialize(
            str(clips),
            str(root / "out"),
            {"clip_windows": {}, "window_captions": {"max_output_tokens": OUTPUT_TOKENS}},
            caption_model={**model, "trust_remote_code": True, "vllm_args": DUMMY | vllm_args},
            text_model={},
        )
    reports, end = done.of("window_captions"), done.last_item["window_captions"]
    captioned = sum(report.ok for report in reports)
    assert sum(float(report.figures["output_tokens"]) for report in reports) == OUTPUT_TOKENS * captioned
    first = min(time for time, _ in ready.times)
    busy = [watch.busy(gpu.uuid, first, end) for gpu in visible_gpus()]
    return {
        "gpus": count,
        "windows": captioned,
        "failed": sum(report.failed for report in reports),
        "windows_per_second": captioned / (end - first),
        "seconds": end - first,
        "reported_after": done.ended["window_captions"] - end,
        "first_ready_after": first - began,
        "ready_after_first": [round(time - first, 2) for time, _ in ready.times],
        "ready": [text for _, text in ready.times],
        "gpu_busy": [round(one["gpu_busy"], 1) for one in busy],
        "gpu_busy_by_second": [one["gpu_busy_by_second"] for one in busy],
        "cores": CORES,
        "cores_busy": cores.busy(first, end),
        "preparing_at_once": caption_workers(CORES, count),
        "planning_seconds": sum(report.seconds for report in done.of("clip_windows")),
        "prompt_tokens": sum(float(report.figures["prompt_tokens"]) for report in reports) / captioned,
        **{
            name: fmean(float(report.figures[name]) for report in reports)
            for name in ("mean_decode_s", "mean_render_s", "mean_wait_s", "mean_prefill_s", "mean_generate_s")
        },
        "engine": reports[0].figures["engine"],
        "device": reports[0].figures["device"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", nargs="+", default=["1", "all"], help="as --gpus of the command, one after the other")
    parser.add_argument("--windows", type=int, default=256, help="for each GPU")
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-vl-7b")
    parser.add_argument("--easy-clips", action="store_true", help="clips of 1 Mbit/s, as x264 makes fastest")
    parser.add_argument("--work", type=Path, help="where clips and checkpoints are kept between runs")
    parser.add_argument("--out", type=Path, help="write all figures to this file, as JSON")
    parser.add_argument("--vllm-args", type=json.loads, default={}, help="further EngineArgs, as JSON")
    options = parser.parse_args()
    root = options.work or Path(tempfile.gettempdir()) / "caption_assets_benchmark"
    make_clips(root, options.windows, (), easy=options.easy_clips)
    save_shape(options.shape, root / options.shape, PIXELS * (16 if options.shape.startswith("qwen3") else 1))
    figures: list[dict[str, Any]] = []
    for gpus in options.gpus:
        shutil.rmtree(root / "out", ignore_errors=True)
        arguments = (gpus, options.windows, options.shape, root, options.easy_clips, options.vllm_args)
        with ProcessPoolExecutor(1, get_context("spawn"), to_standard_error) as pool:
            one = pool.submit(run, *arguments).result()
        alone = figures[0] if figures else one
        one["speedup"] = one["windows_per_second"] / alone["windows_per_second"]
        one["efficiency"] = one["speedup"] * alone["gpus"] / one["gpus"]
        figures.append(one)
        if options.out:
            options.out.write_text(json.dumps(figures, indent=1) + "\n")
        shown = {name: value for name, value in one.items() if name not in ("gpu_busy_by_second", "ready")}
        print("\n".join([f"--gpus {gpus}", *(f"  {name}: {value}" for name, value in shown.items())]), flush=True)


if __name__ == "__main__":
    main()
