"""Scores and speed of the shipped demo checkpoints through transformers, on frames that came out of real video files.

    python benchmarks/demo.py --clips 10
    python benchmarks/demo.py checks.npz --device cpu --out cpu.json
    python benchmarks/demo.py --compare cpu.json gpu.json

A check file is written by `training.make_checks` (the package's renderer with H.264, the other renderer with MPEG-4);
without one, `--clips` clips of each are made on the spot.
"""

import argparse
import json
import sys
import tempfile
import time
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np

from caption_assets.demo import checkpoint
from caption_assets.demo.facts import compare, read
from caption_assets.models.prompts import caption_prompt, enhance_prompt


class Captioner:
    """The caption model, greedy, through transformers' ordinary classes."""

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.processor = AutoProcessor.from_pretrained(folder)
        self.processor.tokenizer.padding_side = "left"
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=getattr(torch, dtype)).to(device).eval()

    def __call__(self, videos: list[np.ndarray], seconds: list[float], prompt: str) -> list[str]:
        """Captions of videos (uint8 RGB of shape (T, H, W, 3), on the model's grid) that last `seconds`."""
        import torch

        message = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": prompt}]}
        text = self.processor.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        clock = [
            {
                "fps": 1000.0,
                "total_num_frames": max(len(v), round(1000 * s)),
                "frames_indices": [round(1000 * s * k / len(v)) for k in range(len(v))],
                "duration": s,
            }
            for v, s in zip(videos, seconds, strict=True)
        ]
        inputs = self.processor(
            text=[text] * len(videos),
            videos=[torch.from_numpy(v).permute(0, 3, 1, 2) for v in videos],
            video_metadata=clock,
            do_sample_frames=False,
            padding=True,
            return_tensors="pt",
        )
        inputs.pop("video_metadata", None)
        with torch.inference_mode():
            out = self.model.generate(**inputs.to(self.model.device), max_new_tokens=64, do_sample=False)
        return self.processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


class Enhancer:
    """The rewriting model, greedy, through transformers' ordinary classes."""

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).to(device).eval()

    def __call__(self, captions: list[str], prompt: str) -> list[str]:
        """The captions, rewritten."""
        import torch

        texts = [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": f"{prompt}\n\n{caption}"}], tokenize=False, add_generation_prompt=True
            )
            for caption in captions
        ]
        inputs = self.tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
        inputs.pop("token_type_ids", None)
        with torch.inference_mode():
            out = self.model.generate(**inputs.to(self.model.device), max_new_tokens=160, do_sample=False)
        return self.tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def run(args: argparse.Namespace) -> dict:
    """Caption and enhance every clip of the check file; texts, shares of right attributes, and speeds."""
    with np.load(args.checks) as data:
        clips = json.loads(str(data["clips"]))[: args.limit]
        videos = [data[clip["name"]] for clip in clips]
    # Neighbours in a batch should be about as long as each other: padding is work.
    order = sorted(range(len(clips)), key=lambda k: videos[k].shape)
    groups = [order[i : i + args.batch] for i in range(0, len(order), args.batch)]
    caption = Captioner(args.demo, args.device, args.dtype)
    enhance = Enhancer(args.demo_lm, args.device, args.dtype)
    prompt, rewrite = caption_prompt(args.prompt), enhance_prompt("default")
    caption([videos[groups[0][0]]], [clips[groups[0][0]]["seconds"]], prompt)
    texts, longer = [""] * len(clips), [""] * len(clips)
    began = time.perf_counter()
    for group in groups:
        said = caption([videos[k] for k in group], [clips[k]["seconds"] for k in group], prompt)
        for k, text in zip(group, said, strict=True):
            texts[k] = text
    middle = time.perf_counter()
    for group in groups:
        for k, text in zip(group, enhance([texts[k] for k in group], rewrite), strict=True):
            longer[k] = text
    ended = time.perf_counter()
    right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for clip, text, long in zip(clips, texts, longer, strict=True):
        for attribute, good in compare(read(text), read(clip["caption"])).items():
            right[clip["source"]][attribute].append(good)
        kept = bool(read(text).subjects) and len(long) > len(text) and compare(read(long), read(text))["all"]
        right[clip["source"]]["enhanced keeps all"].append(kept)
    shares = {s: {k: round(float(np.mean(v)), 4) for k, v in table.items()} for s, table in right.items()}
    speed = {"captions_per_s": len(clips) / (middle - began), "enhanced_per_s": len(clips) / (ended - middle)}
    rows = [
        {"name": c["name"], "source": c["source"], "frames": zlib.crc32(np.ascontiguousarray(v)),
         "true": c["caption"], "caption": t, "enhanced": e}
        for c, v, t, e in zip(clips, videos, texts, longer, strict=True)
    ]  # fmt: skip
    return {"device": args.device, "dtype": args.dtype, "shares": shares, "speed": speed, "clips": rows}


def agreement(first: Path, second: Path) -> dict:
    """Share of equal captions and enhanced captions of two results, the captions that differ, and equal inputs."""
    a, b = (json.loads(path.read_text())["clips"] for path in (first, second))
    pairs = list(zip(a, b, strict=True))
    return {
        "equal frames": float(np.mean([x["frames"] == y["frames"] for x, y in pairs])),
        "captions": float(np.mean([x["caption"] == y["caption"] for x, y in pairs])),
        "enhanced": float(np.mean([x["enhanced"] == y["enhanced"] for x, y in pairs if x["caption"] == y["caption"]])),
        "different": [(x["true"], x["caption"], y["caption"]) for x, y in pairs if x["caption"] != y["caption"]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", type=Path, nargs="?")
    parser.add_argument("--compare", type=Path, nargs=2)
    parser.add_argument("--demo", type=Path, default=checkpoint("demo"))
    parser.add_argument("--demo-lm", type=Path, default=checkpoint("demo_lm"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--prompt", default="default")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--clips", type=int, default=12, help="clips of each renderer, where no check file is given")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.compare:
        print(json.dumps(agreement(*args.compare), indent=1))
        return
    if args.checks:
        result = run(args)
    else:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        from training.make_checks import write_checks

        with tempfile.TemporaryDirectory() as folder:
            args.checks = Path(folder) / "checks.npz"
            write_checks(args.checks, args.clips, args.clips, first_seed=800_000)
            result = run(args)
    if args.out:
        args.out.write_text(json.dumps(result, indent=1))
    print(json.dumps({k: v for k, v in result.items() if k != "clips"}, indent=1))
    for row in result["clips"]:
        if row["caption"] != row["true"]:
            print(f"{row['source']}: {row['true']}\n   said: {row['caption']}")


if __name__ == "__main__":
    main()
