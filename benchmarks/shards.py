"""What a shard costs beside media and model work: memory by number of clips, and Dagster's own time.

    python benchmarks/shards.py [--clips 100 400] [--shards 12] [--runs 5]

Memory: `caption-assets run` over one shard of so many clips (copies of one short clip), all four assets with the
embedded models; the peak of the resident memory of the process and its workers together, sampled every 50 ms.
Dagster's time: all four assets over so many shards of one clip each, in this process; wall time less the time that
the steps report, a shard.
"""

import argparse
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from caption_assets.media.mp4 import write_mp4

SETTINGS = {"clip_windows": {}, "window_previews": {}, "window_captions": {}, "enhanced_captions": {}}


def make_clip(path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = (rng.integers(0, 40, (120, 160, 3), dtype=np.uint8) for _ in range(24))
    write_mp4(str(path), frames, Fraction(24))


def tree_memory(pid: int) -> int:
    """Resident bytes of a process and its children, 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(map(tree_memory, children))


def peak_memory(root: Path, clips: int) -> int:
    """Peak resident bytes of a run over one shard of so many clips."""
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
    peak = 0
    while process.poll() is None:
        peak = max(peak, tree_memory(process.pid))
        time.sleep(0.05)
    if process.returncode != 0:
        raise SystemExit(f"the run over {clips} clips ended with status {process.returncode}")
    return peak


def dagster_seconds(root: Path, shards: int, together: bool) -> float:
    """Seconds a shard and asset run spent outside the steps, over all four assets; one run for all, or one a shard."""
    import dagster as dg

    from caption_assets.dataset import open_dataset
    from caption_assets.defs.resources import CaptionModel, TextModel
    from caption_assets.defs.run import materialize_shards, run_resources
    from caption_assets.steps import Progress

    class Clock(Progress):
        seconds = 0.0

        def done(self, report):
            self.seconds += report.seconds

    with tempfile.TemporaryDirectory(dir=root) as work, dg.instance_for_test(temp_dir=work) as instance:
        dataset = Path(work) / "clips"
        for number in range(shards):
            (dataset / f"shard-{number:03d}").mkdir(parents=True)
            shutil.copy(root / "clip.mp4", dataset / f"shard-{number:03d}" / "clip.mp4")
        cpu = {"device": "cpu"}
        resources = run_resources(
            str(dataset), str(Path(work) / "out"), None, CaptionModel(**cpu), TextModel(model_variant="demo_lm", **cpu)
        )
        source, clock = open_dataset(str(dataset)), Clock()
        keys = source.shards()
        # Models and workers start in the first shard's steps; they are no part of Dagster's time.
        started = time.perf_counter()
        for chosen in [keys] if together else [[key] for key in keys]:
            failed = materialize_shards(instance, source, chosen, SETTINGS, resources, clock)
            assert not failed
        return (time.perf_counter() - started - clock.seconds) / shards


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    logging.getLogger("caption_assets").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        make_clip(root / "clip.mp4")
        first = None
        print("clips in a shard   peak memory   ratio")
        for clips in options.clips:
            peak = peak_memory(root, clips)
            first = first or peak
            print(f"{clips:16d}   {peak / 2**20:7.0f} MiB   {peak / first:5.2f}", flush=True)
        print(
            f"\nDagster's own seconds a shard, all four assets, {options.shards} shards, median of {options.runs} runs"
        )
        for name, together in (("one run for all shards", True), ("one run for each", False)):
            seconds = [dagster_seconds(root, options.shards, together) for _ in range(options.runs)]
            spread = f"({min(seconds):.2f} to {max(seconds):.2f})"
            print(f"{name:24s} {statistics.median(seconds):5.2f} {spread}", flush=True)


if __name__ == "__main__":
    main()
