"""What further captions of a window cost, asked in the same visit, and a second pass: one engine, started once.

    python -m benchmarks.visits [--shape qwen2.5-vl-7b] [--windows 80] [--work DIR] [--out FILE]
    python -m benchmarks.visits --demo --windows 4          # by the demo model on a CPU, to see that it works

Clips, frames and model are those of `benchmarks.captions` (easy clips of 1280x720, 16 frames a window, about 6,100
prompt tokens, dummy weights); prefix caching is on, as it is where several things are asked. Every row has windows of
its own, so that none finds what another has left:

- one: a caption of 200 tokens, twice, for the spread;
- short: one more of 40; three: one more of 40 and one of 400; long: a single one of all these 640 tokens;
- again: a second pass over each window.

Seconds are those of the clock from the first request to the last row. The bounds: one more caption of 40 tokens at most
1.1 times `one`; three captions at most 1.5 times that, and what 440 more tokens cost alone, `long` less `one`.
"""

import argparse
import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.captions import DUMMY, PIXELS, VARIANTS, make_clip
from benchmarks.parts.shapes import SHAPES, save_shape
from caption_assets.dataset import open_dataset
from caption_assets.models.engines.session import EngineSession
from caption_assets.settings import CaptionModelSettings, CaptionSettings, WindowSettings, WorkerSettings
from caption_assets.steps import ShardReport, StepContext, caption_shards, model_session, window_shard
from caption_assets.store.store import Store
from caption_assets.workers.local import Workers

_ONE, _SHORT = CaptionSettings(max_output_tokens=200), CaptionSettings(prompt_variant="short", max_output_tokens=40)
_LONG = CaptionSettings(max_output_tokens=640)
ASKED: dict[str, dict[str, CaptionSettings]] = {
    "warm-up": {"": _ONE, "short": _SHORT},
    "one": {"": _ONE},
    "short": {"": _ONE, "short": _SHORT},
    "three": {"": _ONE, "short": _SHORT, "dense": CaptionSettings(prompt_variant="dense", max_output_tokens=400)},
    "long": {"": _LONG},
    "again": {"": CaptionSettings(max_output_tokens=200, generate_stage2_caption=True)},
    "one-again": {"": _ONE},
}
_WARM_UP = 8


def make_dataset(root: Path, windows: int) -> Path:
    """A shard for each row, no clip of which is in another."""
    wanted: list[tuple[Path, int, bool]] = []
    for row in ASKED:
        (root / row).mkdir(parents=True, exist_ok=True)
        for k in range(_WARM_UP if row == "warm-up" else windows):
            wanted.append((root / row / f"{k:04d}.mp4", len(wanted), True))
    with ProcessPoolExecutor() as pool:
        list(pool.map(make_clip, *zip(*(each for each in wanted if not each[0].exists()), strict=True)))
    return root


def run(row: str, context: StepContext, session: EngineSession) -> dict[str, Any]:
    """The figures of one row, whose windows have been planned."""
    began = time.perf_counter()
    ended = list(caption_shards(context, [row], session, ASKED[row]))
    seconds = time.perf_counter() - began
    reports = [each.outcome for each in ended]
    if not all(isinstance(report, ShardReport) for report in reports):
        raise RuntimeError(f"{row}: {reports}")
    figures = [report.figures for report in reports if isinstance(report, ShardReport)]
    total = {name: sum(int(each.get(name, 0)) for each in figures) for name in ("output_tokens", "cached_tokens")}
    windows = max(report.ok for report in reports if isinstance(report, ShardReport))
    prompt = int(figures[0]["prompt_tokens"]) // max(1, windows)
    return {"row": row, "windows": windows, "seconds": round(seconds, 2), "prompt_tokens": prompt, **total}


def compare(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The rows against each other, in seconds of a window."""
    took = {row: figures["seconds"] / max(1, figures["windows"]) for row, figures in rows.items()}
    one = (took["one"] + took["one-again"]) / 2
    most = 1.5 * one + (took["long"] - one)
    return {
        "one more of 40 tokens: times one (at most 1.1)": round(took["short"] / one, 3),
        "three: times the most that they may take (at most 1)": round(took["three"] / most, 3),
        "second pass: times one (two visits are 2)": round(took["again"] / one, 3),
        "one, the second time: times the first": round(took["one-again"] / took["one"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=[shape for shape in SHAPES if shape in VARIANTS], default="qwen2.5-vl-7b")
    parser.add_argument("--windows", type=int, default=80)
    parser.add_argument("--demo", action="store_true", help="the demo model with transformers on a CPU")
    parser.add_argument("--work", type=Path, help="where clips and checkpoints are kept between runs")
    parser.add_argument("--out", type=Path, help="append the figures to this file, as JSON lines")
    options = parser.parse_args()
    root = options.work or Path(tempfile.gettempdir()) / "caption_assets_visits"
    dataset = open_dataset(str(make_dataset(root / f"clips-{options.windows}", options.windows)))
    if options.demo:
        model = CaptionModelSettings(model_variant="demo", engine="transformers", device="cpu")
    else:
        save_shape(options.shape, root / options.shape, PIXELS * (16 if options.shape.startswith("qwen3") else 1))
        model = CaptionModelSettings(
            model_variant=VARIANTS[options.shape],
            model_path=str(root / options.shape),
            engine="vllm",
            trust_remote_code=True,
            vllm_args=DUMMY,
        )
    found: dict[str, dict[str, Any]] = {}
    with (
        tempfile.TemporaryDirectory() as output,
        Workers.from_settings(WorkerSettings()) as workers,
        model_session(model, several=True) as session,
    ):
        context = StepContext(Store(output), workers)
        for row in ASKED:
            window_shard(context, dataset, row, WindowSettings())
        for row in ASKED:
            found[row] = run(row, context, session)
            print(json.dumps(found[row]), flush=True)
    compared = compare(found)
    print(json.dumps(compared, indent=1))
    if options.out:
        with options.out.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in (*found.values(), compared))


if __name__ == "__main__":
    main()
