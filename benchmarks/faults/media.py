"""Damaged media files: none hangs, crashes or fills the memory, and what can be read of it is right.

    python -m benchmarks.faults.media [--count 5000] [--seed 0] [--processes 2] [--folder ../shared/videos …]

Clips in all formats are made, and the video files of each --folder are added. Each of `count` damaged copies (bits
turned, noise, zeroes, cut off, cut out, doubled, spliced with another) goes through the workers' own tasks: planned,
with window files or without, previewed, and made requests of. What must hold:

- each ends within some minutes and within the workers' memory, without a crash;
- each window has one outcome for each task: what was made, or an error with its kind;
- where the ffmpeg program shows frames without complaint, ours are the same ones.

The exit status is the number of copies for which that did not hold, at most 100.
"""

import argparse
import io
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.parts.measure import CORES
from caption_assets.errors import CaptionAssetsError
from caption_assets.workers.local import Workers
from caption_assets_tests.media.coded import CLIPS, ODD, SCREEN, still
from caption_assets_tests.media.fuzz import Found, damages, examine

_SECONDS = 300.0  # a hang, and no slow machine
_MEMORY = 4 << 30
_PEAK = 1 << 30  # of what a worker holds, with frames of a few hundred pixels
_MOST_BYTES = 1 << 20


def sources(folder: Path, more: Sequence[str] = ()) -> list[Path]:
    """Clips to damage: made in `folder`, those that come with the tests, and the small ones of further folders."""
    made = [clip.make(folder) for clip in CLIPS]
    made += [still(folder, name) for name in SCREEN]
    found = [path for place in (ODD, *map(Path, more)) for path in sorted(place.glob("*.*"))]
    return made + [path for path in found if path.suffix in (".mp4", ".mkv", ".avi", ".mov", ".webm")
                   and path.stat().st_size <= _MOST_BYTES]  # fmt: skip


def campaign(paths: Sequence[Path], count: int, seed: int, processes: int) -> int:
    """Damage, examine, print what was found; the number of copies for which something did not hold."""
    outcomes: Counter[str] = Counter()
    bad = windows = compared = peak = 0
    slowest = 0.0
    begun = last = time.perf_counter()
    with Workers(processes, memory_limit_bytes=_MEMORY) as workers:
        results = workers.map_unordered(examine, damages(paths, count, seed), time_limit_s=_SECONDS)
        for number, (damage, found) in enumerate(results, start=1):
            slowest, last = max(slowest, time.perf_counter() - last), time.perf_counter()
            bugs = [f"{found.kind}: {found}"] if isinstance(found, CaptionAssetsError) else found.bugs
            if isinstance(found, Found):
                outcomes.update(found.outcomes)
                windows, compared = windows + found.windows, compared + found.compared
                peak = max(peak, found.peak_bytes)
                if found.peak_bytes > _PEAK:
                    bugs = [*bugs, f"a worker holds {found.peak_bytes >> 20} MiB"]
            bad += bool(bugs)
            for bug in bugs:
                print(f"  {damage}: {bug}")
            if number % 500 == 0:
                print(f"  {number} of {count}")
    seconds = time.perf_counter() - begun
    print(f"\n{count} damaged copies of {len(paths)} clips (seed {seed}) in {seconds:.0f} s on {processes} processes")
    print(f"  {windows} windows, {compared} frames compared with ffmpeg's, longest wait for a result {slowest:.1f} s")
    print(f"  peak memory of a worker {peak >> 20} MiB; not as it should be: {bad}")
    for name, number in outcomes.most_common():
        print(f"  {number:7d}  {name}")
    return bad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=CORES)
    parser.add_argument("--folder", action="append", default=[], help="of further clips, again and again")
    arguments = parser.parse_args()
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, line_buffering=True)
    with tempfile.TemporaryDirectory(prefix="faults-media-") as folder:
        paths = sources(Path(folder), arguments.folder)
        sys.exit(min(100, campaign(paths, arguments.count, arguments.seed, arguments.processes)))


if __name__ == "__main__":
    main()
