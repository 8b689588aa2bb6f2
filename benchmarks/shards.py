"""What a shard costs beside media and model work: memory by number of clips, and Dagster's own time.

    python -m benchmarks.shards [--clips 100 400] [--shards 12] [--runs 5]

Memory: `caption-assets run` over one shard of so many clips (copies of one short clip), all four assets with the
embedded models; the peak of the process and its workers together (proportional set size, sampled every 50 ms).
Dagster's time: all four assets over so many shards of one clip each, in this process; wall time less the time that
the steps report, a shard. Needs Linux and no GPU.
"""

import argparse
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from benchmarks.parts.assets import materialize
from benchmarks.parts.measure import PeakMemory, spread
from caption_assets.media.mp4 import write_mp4

ASSETS = ("clip_windows", "window_previews", "window_captions", "enhanced_captions")


def make_clip(path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = (rng.integers(0, 40, (120, 160, 3), dtype=np.uint8) for _ in range(24))
    write_mp4(str(path), frames, Fraction(24))


def peak_memory(root: Path, clips: int) -> float:
    """Peak MiB of a run over one shard of so many clips."""
    folder = root / f"dataset-{clips}" / "shard"
    folder.mkdir(parents=True)
    for number in range(clips):
        shutil.copy(root / "clip.mp4", folder / f"{number:05d}.mp4")
    home = root / f"home-{clips}"
    home.mkdir()
    (home / "dagster.yaml").touch()
    command = [sys.executable, "-m", "caption_assets", "run", "--dataset", str(folder.parent)]
    command += ["--output-path", str(root / f"out-{clips}"), "--captioning-algorithm", "demo", "--device", "cpu"]
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with PeakMemory(process.pid) as peak:
        process.wait()
    if process.returncode != 0:
        raise SystemExit(f"the run over {clips} clips ended with status {process.returncode}")
    return peak.peak_mib


def dagster_seconds(root: Path, shards: int, together: bool) -> float:
    """Seconds a shard and asset run spent outside the steps, over all four assets; one run for all, or one a shard."""
    with tempfile.TemporaryDirectory(dir=root) as work:
        keys = [f"shard-{number:03d}" for number in range(shards)]
        for key in keys:
            (Path(work) / "clips" / key).mkdir(parents=True)
            shutil.copy(root / "clip.mp4", Path(work) / "clips" / key / "clip.mp4")
        # Models and workers start in the first shard's steps; they are no part of Dagster's time.
        done = materialize(
            str(Path(work) / "clips"),
            str(Path(work) / "out"),
            {asset: {} for asset in ASSETS},
            caption_model={"device": "cpu"},
            text_model={"device": "cpu"},
            runs=[keys] if together else [[key] for key in keys],
        )
    return (done.seconds - done.step_seconds) / shards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    logging.getLogger("caption_assets").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        make_clip(root / "clip.mp4")
        peaks: list[float] = []
        print("clips in a shard   peak memory   ratio")
        for clips in options.clips:
            peaks.append(peak_memory(root, clips))
            print(f"{clips:16d}   {peaks[-1]:7.0f} MiB   {peaks[-1] / peaks[0]:5.2f}", flush=True)
        shards, runs = options.shards, options.runs
        print(
            f"\nDagster's own seconds a shard, all four assets, {shards} shards: median of {runs} runs (least to most)"
        )
        for name, together in (("one run for all shards", True), ("one run for each", False)):
            seconds = [dagster_seconds(root, shards, together) for _ in range(runs)]
            print(f"{name:24s} {spread(seconds)}", flush=True)


if __name__ == "__main__":
    main()
