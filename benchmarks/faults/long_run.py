"""A run over many clips: the memory and the open files of all its processes stay where they were.

    python -m benchmarks.faults.long_run [--clips 300] [--shards 6]

`caption-assets run` makes all four assets of so many demo clips. Twice a second the memory (proportional set size) and
the descriptors of the command and its workers are counted. Of the samples in which captions are made, the median of the
last quarter is to be within a tenth, or 64 MiB and 16 descriptors, of that of the second. Needs Linux.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.faults.kills import HANG_SECONDS, Trials
from benchmarks.parts.measure import children, tree_mib
from caption_assets.demo.clips import render_dataset
from caption_assets.demo.world import sample_scene
from caption_assets.store import WINDOW_CAPTIONS, Store

_MIB, _DESCRIPTORS, _SHARE = 64.0, 16, 0.1


def descriptors(pid: int) -> int:
    """Open files of a process and its descendants."""
    count = 0
    with contextlib.suppress(OSError):
        count = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return count + sum(map(descriptors, children(pid)))


def campaign(clips: int, shards: int) -> list[str]:
    """What is said of the run, a line each; what begins with FOUND is a fault."""
    with tempfile.TemporaryDirectory(prefix="long-run-") as folder:
        trials = Trials(Path(folder))
        rng = np.random.default_rng(5)
        names = [f"shard-{number:03d}" for number in range(shards)]
        scenes = {name: [sample_scene(rng) for _ in range(clips // shards)] for name in names}
        render_dataset(trials.work / "many", scenes)
        run = trials.start(trials.work / "out", dataset="many")
        samples: list[tuple[float, int]] = []
        began = time.monotonic()
        while run.poll() is None and time.monotonic() - began < 6 * HANG_SECONDS:
            if (trials.work / "out" / "tables" / "window_captions").exists():
                samples.append((tree_mib(run.pid), descriptors(run.pid)))
            time.sleep(0.5)
        if run.poll() != 0:
            run.kill()
            return [f"FOUND the run ends with {run.wait()}: {trials.said()}"]
        rows = sum(len(Store(str(trials.work / "out")).read_rows(WINDOW_CAPTIONS, name, "demo")) for name in names)
    quarters = [samples[k * len(samples) // 4 : (k + 1) * len(samples) // 4] for k in range(4)]
    said = [f"{clips} clips, {rows} captions in {time.monotonic() - began:.0f} s, {len(samples)} samples"]
    for what, index, spare in (("MiB", 0, _MIB), ("open files", 1, _DESCRIPTORS)):
        medians = [median(sample[index] for sample in quarter) for quarter in quarters]
        said.append(f"{what} by quarter: {', '.join(f'{value:.0f}' for value in medians)}")
        if medians[3] > medians[1] + max(spare, _SHARE * medians[1]):
            said.append(f"FOUND {what} grow")
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--shards", type=int, default=6)
    options = parser.parse_args()
    said = campaign(options.clips, options.shards)
    print("\n".join(said))
    sys.exit(any(line.startswith("FOUND") for line in said))


if __name__ == "__main__":
    main()
