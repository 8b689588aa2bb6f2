"""What media code may never do: grow with the number or length of clips."""

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
