"""What the demo checkpoints say of frames that came out of real video files, and how fast, by any engine.

    python -m benchmarks.demo --clips 10
    python -m benchmarks.demo checks.npz --device cpu --out transformers.json
    python -m benchmarks.demo checks.npz --engine vllm --out vllm.json
    python -m benchmarks.demo --compare transformers.json vllm.json

A check file is written by `training.make_checks` (the package's renderer with H.264, the other renderer with MPEG-4);
without one, `--clips` clips of each are made on the spot. Texts are greedy. The text model rewrites the true captions,
so that an error of one model is not also one of the other. Speed leaves out the engine's start.

Needs no GPU, except for `--engine vllm` with vLLM's ordinary build.
"""

import argparse
import json
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from caption_assets.demo.facts import compare, read
from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.select import create_engine
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.prompts import caption_prompt, enhance_prompt
from caption_assets.models.requests import Request, caption_request, enhance_request
from caption_assets.models.variants import Variant, caption_variant, text_variant
from caption_assets.models.weights.checkpoints import checkpoint_of
from caption_assets.records import FramePicks, SampledFrames


def checked_clips(args: argparse.Namespace) -> list[tuple[dict[str, Any], np.ndarray]]:
    """(description, frames) of each clip, as `training.checks` has them."""
    from training.checks import load
    from training.make_checks import write_checks

    if args.checks:
        return load(args.checks)[: args.limit]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checks.npz"
        write_checks(file, args.clips, args.clips, first_seed=800_000)
        return load(file)


def sampled(clip: dict[str, Any], video: np.ndarray, apart: float | None = None) -> SampledFrames:
    count = len(video)
    apart = clip["seconds"] / count if apart is None else apart
    times = tuple(apart * k for k in range(count))
    return SampledFrames(video, FramePicks(tuple(range(count)), times))


def ask(
    variant: Variant, folder: str | None, requests: Sequence[Request], args: argparse.Namespace
) -> tuple[list[str], dict[str, Any]]:
    """The engine's text for every request, empty where there is none, and what ran at what speed."""
    options = EngineOptions(device=args.device, precision=args.precision, batch_size=args.batch)
    checkpoint = checkpoint_of(variant, folder)
    session = EngineSession(variant, checkpoint, create_engine(variant, checkpoint, options, engine=args.engine))
    try:
        info = session.start()
        if info.prepare is not None:  # work for processes that see no GPU
            with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
                requests = list(pool.map(info.prepare, requests))
        results = {result.request_id: result for result in session.generate(requests)}
        seconds = time.perf_counter() - (session.ready_at or 0.0)
    finally:
        session.close()
    about = {"engine": f"{info.engine} {info.engine_version}", "device": info.device, "precision": info.precision}
    speed = {"start_seconds": round(session.start_seconds, 1), "per_second": round(len(requests) / seconds, 2)}
    failed = {name: result.outcome.message for name, result in results.items() if not result.outcome.ok}
    return [results[request.request_id].text or "" for request in requests], {**about, **speed, "failed": failed}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Caption every clip and rewrite its true caption; texts, shares of right attributes, and speeds."""
    clips = checked_clips(args)
    prompt, rewrite = caption_prompt(args.prompt), enhance_prompt("default")
    apart = None if args.pruning is None else 0.5  # pruned frames stand at whole seconds
    videos = [caption_request(clip["name"], prompt, sampled(clip, video, apart), 64) for clip, video in clips]
    captions = [enhance_request(clip["name"], rewrite, clip["caption"], 160) for clip, _ in clips]
    texts, demo = ask(replace(caption_variant("demo"), video_pruning=args.pruning or 0.0), args.demo, videos, args)
    longer, demo_lm = [""] * len(captions), {}
    if args.pruning is None:
        longer, demo_lm = ask(text_variant("demo_lm"), args.demo_lm, captions, args)
    right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    rows = []
    for (clip, video), text, long in zip(clips, texts, longer, strict=True):
        true, scores = clip["caption"], right[clip["source"]]
        for attribute, good in compare(read(text), read(true)).items():
            scores[attribute].append(good)
        scores["word for word"].append(text == true)
        scores["enhanced keeps all"].append(len(long) > len(true) and compare(read(long), read(true))["all"])
        row = {"name": clip["name"], "source": clip["source"], "frames": zlib.crc32(np.ascontiguousarray(video))}
        rows.append({**row, "true": true, "caption": text, "enhanced": long})
    shares = {s: {k: round(float(np.mean(v)), 4) for k, v in table.items()} for s, table in right.items()}
    return {"captions": demo, "enhanced": demo_lm, "shares": shares, "clips": rows}


def agreement(first: Path, second: Path) -> dict[str, Any]:
    """How many frames, captions and enhanced captions of two results are equal, and the texts that differ."""
    a, b = (json.loads(path.read_text())["clips"] for path in (first, second))
    pairs = list(zip(a, b, strict=True))
    equal = {name: sum(x[name] == y[name] for x, y in pairs) for name in ("frames", "caption", "enhanced")}
    texts = ("caption", "enhanced")
    different = [(x["true"], x[name], y[name]) for name in texts for x, y in pairs if x[name] != y[name]]
    return {"clips": len(pairs), "equal": equal, "different": different}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", type=Path, nargs="?")
    parser.add_argument("--clips", type=int, default=12, help="clips of each renderer, where no check file is given")
    parser.add_argument("--limit", type=int, help="the first clips of the check file only")
    parser.add_argument("--engine", choices=["transformers", "vllm", "openai"], default="transformers")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--prompt", default="default")
    parser.add_argument("--demo", help="another checkpoint of the caption model")
    parser.add_argument("--demo-lm", help="another checkpoint of the text model")
    parser.add_argument("--pruning", type=float, help="video_pruning; then no caption is rewritten")
    parser.add_argument("--out", type=Path, help="write all texts to this file")
    parser.add_argument("--compare", type=Path, nargs=2, help="two such files")
    args = parser.parse_args()
    if args.compare:
        print(json.dumps(agreement(*args.compare), indent=1))
        return
    result = run(args)
    if args.out:
        args.out.write_text(json.dumps(result, indent=1))
    print(json.dumps({k: v for k, v in result.items() if k != "clips"}, indent=1))
    for row in result["clips"]:
        if row["caption"] != row["true"]:
            print(f"{row['source']}: {row['true']}\n   said: {row['caption']}")


if __name__ == "__main__":
    main()
