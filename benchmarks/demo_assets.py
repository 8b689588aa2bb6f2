"""What the demo models make of fresh clips, through everything: mp4 files on disk, the assets, `metas/v0`.

    python -m benchmarks.demo_assets [--clips 500] [--others 300] [--work runs/demo_assets] [--json]

Clips of the package's renderer (H.264; every tenth has two windows) and of the other one (MPEG-4), of seeds that
training does not use, are materialized in a Dagster instance of their own. What the documents then say is held
against what the clips show; with `--json`, facts that are asked for as JSON in the same visit are, too. Speeds are the
assets' own figures, without the engine's start. The clips stay in --work for the next run, and `result.json` there has
all figures and every window that is wrong. Needs no GPU.
"""

import argparse
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.parts.assets import Reports, materialize
from caption_assets.demo.facts import Facts, compare, read, write
from caption_assets.demo.structured import FACTS_PROMPT, Shown, from_json
from caption_assets.demo.world import ATTRIBUTES, Scene, sample_scene
from caption_assets.store.store import Store
from caption_assets_tests.demo.truth import shares, told
from training.make_checks import encode
from training.other_renderer import OtherClip, random_clip

FIRST_SEED = 600_000
CLIPS_A_SHARD = 100
CAPTION, ENHANCED, STRUCTURED = "demo_caption", "demo_lm_enhanced_caption", "demo-facts_structured"
AS_JSON = {
    "prompt_text": FACTS_PROMPT,
    "json_schema": f"{Shown.__module__}:{Shown.__name__}",
    "max_output_tokens": 256,
}
NOTHING = Facts("", ())
# What is asked of colour, shape, motion and background, each; of all together; and of the rest.
BARS = {
    "own": 0.99,
    "other": 0.95,
    "own, all": 0.97,
    "enhanced: longer, every fact kept": 0.99,
    "windows/s": 2.0,
    "enhanced captions/s": 4.0,
}


def scenes(clips: int, others: int) -> dict[str, Scene | OtherClip]:
    """Every clip by its path in the dataset. The name has the scene's checksum: another scene is another file."""
    made: dict[str, Scene | OtherClip] = {}
    for source, count in (("own", clips), ("other", others)):
        for k in range(count):
            rng, windows = np.random.default_rng(FIRST_SEED + k), 2 if k % 10 == 9 else 1
            scene = sample_scene(rng, windows=windows) if source == "own" else random_clip(FIRST_SEED + k)
            made[f"{source}-{k // CLIPS_A_SHARD}/{k:04d}-{zlib.crc32(repr(scene).encode()):08x}.mp4"] = scene
    return made


def render(root: Path, path: str, scene: Scene | OtherClip) -> None:
    """Writes a clip's file, which appears whole or not at all."""
    part = root / f"{path}.part.mp4"
    encode(part, scene)
    part.rename(root / path)


def render_dataset(work: Path, wanted: dict[str, Scene | OtherClip]) -> tuple[Path, int]:
    """A dataset of just the wanted clips, and how many of them had to be rendered. Rendered clips are kept."""
    rendered, dataset = work / "rendered", work / "dataset"
    shutil.rmtree(dataset, ignore_errors=True)
    for shard in {Path(path).parent for path in wanted}:
        (rendered / shard).mkdir(parents=True, exist_ok=True)
        (dataset / shard).mkdir(parents=True)
    missing = [path for path in wanted if not (rendered / path).exists()]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(render, [rendered] * len(missing), missing, [wanted[path] for path in missing]))
    for path in wanted:
        os.link(rendered / path, dataset / path)
    return dataset, len(missing)


def per_second(done: Reports, asset: str) -> float:
    """New rows a second of an asset over all shards, without its engine's start."""
    new = [(report, report.ok - report.reused) for report in done.of(asset)]
    seconds = sum(rows / float(report.figures["windows_per_second"]) for report, rows in new if rows)
    return sum(rows for _, rows in new) / seconds


def truth(scene: Scene | OtherClip, window: dict[str, Any]) -> Facts:
    """What a window shows."""
    return scene.facts() if isinstance(scene, OtherClip) else scene.facts(window["start_s"], window["end_s"])


def windows(store: Store, wanted: dict[str, Scene | OtherClip]) -> Iterator[dict[str, Any]]:
    """Every window of the dataset: what its document says, and which of it is right."""
    for shard in sorted({path.split("/")[0] for path in wanted}):
        for path, window in told(store, shard):
            facts, caption = truth(wanted[path], window), window.get(CAPTION) or ""
            longer, shown = window.get(ENHANCED) or "", window.get(STRUCTURED)
            kept = bool(read(caption).subjects) and compare(read(longer), read(caption))["all"]
            yield {
                "clip": path,
                "source": shard.split("-")[0],
                "window": [window["start_frame"], window["end_frame"]],
                "true": write(facts),
                "caption": caption,
                "enhanced": longer,
                "right": compare(read(caption), facts),
                "enhanced right": compare(read(longer), facts),
                "json": shown,
                "json right": compare(from_json(shown) if shown else NOTHING, facts),
                "kept": kept and len(longer) > len(caption),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=500, help="clips of the package's renderer")
    parser.add_argument("--others", type=int, default=300, help="clips of the other renderer")
    parser.add_argument("--work", type=Path, default=Path("runs/demo_assets"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model-path", help="another checkpoint of the caption model")
    parser.add_argument("--json", action="store_true", help="ask for the facts as JSON, too")
    parser.add_argument("--render-only", action="store_true", help="stop when the clips are there")
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    wanted = scenes(args.clips, args.others)
    root, count = render_dataset(args.work, wanted)
    print(f"{len(wanted)} clips in {root}, {count} of them rendered now", flush=True)
    if args.render_only:
        return
    prompts = {"facts": AS_JSON} if args.json else {}
    with tempfile.TemporaryDirectory() as output:
        done = materialize(
            str(root),
            output,
            {"clip_windows": {}, "window_captions": {"prompts": prompts}, "enhanced_captions": {}},
            caption_model={"device": args.device, "model_path": args.model_path},
            text_model={"device": args.device},
        )
        found = list(windows(Store(output), wanted))

    table, figures = {}, {}
    for source in ("own", "other"):
        kinds = {"": "right", ", enhanced": "enhanced right"} | ({", JSON": "json right"} if args.json else {})
        for suffix, key in kinds.items():
            scores = [row[key] for row in found if row["source"] == source]
            table[source + suffix] = {"windows": len(scores), **shares(scores)}
        figures[source] = min(table[source][name] for name in ATTRIBUTES if name != "order")
    figures["own, all"] = table["own"]["all"]
    figures["enhanced: longer, every fact kept"] = sum(row["kept"] for row in found) / len(found)
    figures["windows/s"] = per_second(done, "window_captions")
    figures["enhanced captions/s"] = per_second(done, "enhanced_captions")

    names = (*ATTRIBUTES, "all")
    print(f"\n{'clips of':16s} {'windows':>7s} " + " ".join(f"{name:>10s}" for name in names))
    for source, line in table.items():
        print(f"{source:16s} {line['windows']:7d} " + " ".join(f"{line[name]:10.2%}" for name in names))
    print()
    for name, bar in BARS.items():
        print(f"{name:35s} {figures[name]:8.4g}   at least {bar:g}: {'yes' if figures[name] >= bar else 'NO'}")
    wrong = [row for row in found if not row["right"]["all"] or not row["kept"]]
    for row in wrong:
        print(f"\n{row['clip']} {row['window']}\n  true: {row['true']}\n  said: {row['caption']}")
    result = {"shares": table, "figures": figures, "bars": BARS, "device": args.device, "wrong": wrong}
    (args.work / "result.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
