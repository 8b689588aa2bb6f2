"""What media code may never do: grow with the number or length of clips, crash, hang."""

import math
import time
from collections import Counter
from pathlib import Path

from benchmarks.parts.measure import CORES, PeakMemory
from benchmarks.parts.sides import caption_tasks, generated, looped, ours, plans_of
from caption_assets.workers.local import Workers


def memory(folder: Path) -> None:
    """Peak memory by number of clips and by length of a clip, all processes together; needs Linux."""
    clip, minute = generated(folder, 1, 12)[0], generated(folder, 1, 60)[0]
    sets = [(count, 12, clip) for count in (16, 64, 256)]
    sets += [(2, 60 * minutes, looped(minute, minutes)) for minutes in (1, 4, 16)]
    print(f"\nmemory, 1280x720 clips on {CORES} cores: peak of all processes")
    for count, seconds, path in sets:
        plans = plans_of([path] * count)
        windows = sum(len(each.windows) for each in plans)
        for name, previews in (("caption inputs", False), ("and previews", True)):
            with PeakMemory() as peak, Workers(CORES) as workers:
                ours(workers, caption_tasks(plans, previews=previews))
            print(f"  {count:3d} clips of {seconds:3d} s {windows:4d} windows   {name:14s} {peak.peak_mib:6.0f} MiB")


def fuzz(cases: int, folder: Path) -> None:
    """Every generated clip of the tests cut at 20 places and changed at random, `cases` in all."""
    from caption_assets_tests.media import fuzz as damage
    from caption_assets_tests.media.coded import CLIPS

    paths = [clip.make(folder) for clip in CLIPS]
    seeds = max(1, math.ceil(cases / len(paths)) - damage.CUTS)
    ends: Counter[str] = Counter()
    start, slowest = time.perf_counter(), 0.0
    with Workers(CORES, memory_limit_bytes=4 << 30) as workers, PeakMemory() as peak:
        last = time.perf_counter()
        for case, result in workers.map_unordered(damage.survive, damage.damages(paths, seeds), time_limit_s=60):
            slowest, last = max(slowest, time.perf_counter() - last), time.perf_counter()
            if isinstance(result, Exception):
                ends[f"NOT SURVIVED: {result}"] += 1
                print(f"  {case}: {result}")
            else:
                ends[result[2] or ("frames of a file that is cut off" if result[3] else "frames")] += 1
    print(f"\nfuzz: {sum(ends.values())} damaged files of {len(paths)} clips in {time.perf_counter() - start:.0f} s,")
    print(f"  longest wait for a result {slowest:.1f} s, peak memory of all processes {peak.peak_mib:.0f} MiB")
    for name, count in ends.most_common():
        print(f"  {count:6d}  {name}")
