"""Whether engines agree: greedy texts of the demo checkpoints on the same windows, engine by engine.

    python -m benchmarks.agreement checks.npz --engine transformers --device cpu --out cpu.json
    python -m benchmarks.agreement checks.npz --engine vllm --out vllm.json
    python -m benchmarks.agreement --compare cpu.json vllm.json

The check file is written by `training.make_checks`: frames that came out of encoded clips, at the model's size.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.select import create_engine
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.prompts import caption_prompt, enhance_prompt
from caption_assets.models.requests import Request, caption_request, enhance_request
from caption_assets.models.variants import Variant, caption_variant, text_variant
from caption_assets.models.weights.checkpoints import checkpoint_of
from caption_assets.records import FramePicks, SampledFrames


def windows(checks: Path, limit: int | None) -> list[tuple[str, SampledFrames]]:
    """(true caption, frames) of every clip of the check file."""
    with np.load(checks) as data:
        clips = json.loads(str(data["clips"]))[:limit]
        videos = [data[clip["name"]] for clip in clips]
    found = []
    for clip, video in zip(clips, videos, strict=True):
        times = tuple(clip["seconds"] * k / len(video) for k in range(len(video)))
        found.append((clip["caption"], SampledFrames(video, FramePicks(tuple(range(len(video))), times))))
    return found


def ask(variant: Variant, requests: list[Request], options: argparse.Namespace) -> dict[str, Any]:
    """The engine's text for every request, by id, and what ran at what speed."""
    engine_options = EngineOptions(device=options.device, batch_size=options.batch)
    checkpoint = checkpoint_of(variant)
    engine = create_engine(variant, checkpoint, engine_options, engine=options.engine)
    session = EngineSession(variant, checkpoint, engine)
    try:
        info = session.start()
        if info.prepare is not None:  # work for processes that see no GPU
            with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
                requests = list(pool.map(info.prepare, requests))
        results = {result.request_id: result for result in session.generate(requests)}
        seconds = time.perf_counter() - (session.ready_at or 0.0)
    finally:
        session.close()
    bad = {name: result.outcome.message for name, result in results.items() if not result.outcome.ok}
    about = {"engine": f"{info.engine} {info.engine_version}", "device": info.device, "precision": info.precision}
    speed = {"start_seconds": round(session.start_seconds, 1), "per_second": round(len(requests) / seconds, 2)}
    return {"about": about | speed, "failed": bad, "texts": [results[r.request_id].text for r in requests]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", type=Path, nargs="?")
    parser.add_argument("--engine", choices=["transformers", "vllm", "openai"], default="transformers")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--compare", type=Path, nargs=2)
    options = parser.parse_args()
    if options.compare:
        first, second = (json.loads(path.read_text()) for path in options.compare)
        for model in ("captions", "enhanced"):
            pairs = list(zip(first[model]["texts"], second[model]["texts"], strict=True))
            print(f"{model}: {sum(a == b for a, b in pairs)} of {len(pairs)} equal")
            for a, b in pairs:
                if a != b:
                    print(f"   {a}\n   {b}\n")
        return
    checked = windows(options.checks, options.limit)
    prompt, rewrite = caption_prompt("default"), enhance_prompt("default")
    demo = [caption_request(f"{k}", prompt, frames, 64) for k, (_, frames) in enumerate(checked)]
    captions = ask(caption_variant("demo"), demo, options)
    # The true captions, so that a difference in one model is not also one of the other.
    demo_lm = [enhance_request(f"{k}", rewrite, true, 160) for k, (true, _) in enumerate(checked)]
    enhanced = ask(text_variant("demo_lm"), demo_lm, options)
    captions["true"] = [true for true, _ in checked]
    right = sum(text == true for text, true in zip(captions["texts"], captions["true"], strict=True))
    for name, asked in (("captions", captions), ("enhanced", enhanced)):
        print(f"{name}: {len(asked['texts'])} texts, {len(asked['failed'])} failed, {asked['about']}")
        print(*list(asked["failed"].items())[:3], sep="\n")
    print(f"captions word for word as the scene's own: {right} of {len(checked)}")
    if options.out:
        options.out.write_text(json.dumps({"captions": captions, "enhanced": enhanced}, indent=1))


if __name__ == "__main__":
    main()
