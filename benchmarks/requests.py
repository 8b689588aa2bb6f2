"""What a run asks of an object store: requests by kind and asset, of a first run and of one with nothing to do.

    python -m benchmarks.requests [--shards 6] [--clips 10] [--frames 8] [--mp4] [--delay 0.0]

An S3 server on the loopback device counts; each request waits `--delay` seconds first. Windows, captions with previews,
and enhanced captions follow each other in one process, with small models on the CPU.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np

from caption_assets.media.mp4 import write_mp4
from caption_assets_tests.s3 import S3Server

# Says before and after each step what it is about, and waits.
_RUN = """
import sys, time
from caption_assets import *

dataset, store = open_dataset(sys.argv[1]), Store(sys.argv[2])
settings = WindowSettings(window_size=64, remainder_threshold=8, store_window_mp4=sys.argv[3] == "True")
previews = PreviewSettings(target_height=16, compression_level=1)

def step(name, outcomes):
    print(name, flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    for ended in outcomes:
        if isinstance(ended.outcome, Exception):
            raise ended.outcome
    print(time.perf_counter() - began, flush=True)
    sys.stdin.readline()

with Workers(2) as workers:
    workers.start()
    given, shards = StepContext(store, workers), dataset.shards()
    step("clip_windows", window_shards(given, dataset, shards, settings))
    with model_session(CaptionModelSettings(device="cpu")) as session:
        asked = CaptionSettings(max_output_tokens=4)
        step("window_captions, window_previews", caption_shards(given, shards, session, asked, previews))
    with model_session(TextModelSettings(device="cpu")) as session:
        asked = EnhanceSettings(max_output_tokens=4)
        step("enhanced_captions", enhance_shards(given, shards, "demo", session, asked))
"""


def kind(method: str, path: str) -> str:
    """A request, without what differs from clip to clip and shard to shard."""
    parts = path.strip("/").split("/")[1:]
    if not parts:
        return f"{method} (list)"
    if parts[0] == "in":
        return f"{method} clip"
    if parts[1] == "tables":
        return f"{method} tables/{parts[2]}" + (", part" if ".parts" in path else "")
    return f"{method} {parts[1] if len(parts) > 2 else 'trial'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=6)
    parser.add_argument("--clips", type=int, default=10, help="of each shard")
    parser.add_argument("--frames", type=int, default=8, help="of each clip; 64 are a window")
    parser.add_argument("--mp4", action="store_true", help="keep windows as mp4 files, too")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that each request waits")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="requests-") as folder, S3Server() as server:
        clip = Path(folder) / "clip.mp4"
        images = (np.full((32, 32, 3), k % 200, np.uint8) for k in range(options.frames))
        write_mp4(str(clip), images, Fraction(24))
        for shard in range(options.shards):
            for number in range(options.clips):
                server.put(f"in/s{shard:04d}/{number}.mp4", clip.read_bytes())
        server.delay_s = options.delay
        for name in ("first run", "nothing to do"):
            run(name, server, options)


def run(name: str, server: S3Server, options: argparse.Namespace) -> None:
    root, clips = f"s3://{server.bucket}", options.shards * options.clips
    command = [sys.executable, "-c", _RUN, f"{root}/in", f"{root}/out", str(options.mp4)]
    environment = {**os.environ, **server.environment}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        total = 0
        while step := process.stdout.readline().strip():
            server.asked.clear()
            server.most_at_once = 0
            process.stdin.write("\n")
            process.stdin.flush()
            seconds = float(process.stdout.readline())
            kinds: Counter[str] = Counter()
            for (method, path), count in server.asked.items():
                kinds[kind(method, path)] += count
            asked = sum(kinds.values())
            total += asked
            figures = f"{asked / clips:.2f} a clip, {asked / options.shards:.1f} a shard, {server.most_at_once} at once"
            print(f"{name}, {step}: {asked} requests ({figures}), {seconds:.1f} s")
            print(*(f"  {count:6d}  {what}" for what, count in sorted(kinds.items())), sep="\n")
            process.stdin.write("\n")
            process.stdin.flush()
    if process.returncode:
        raise SystemExit(f"the run ended with status {process.returncode}")
    print(f"{name}: {total} requests, {total / clips:.2f} a clip, {total / options.shards:.1f} a shard", flush=True)


if __name__ == "__main__":
    main()
