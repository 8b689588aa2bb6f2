"""How fast media code is: against NeMo Curator's own functions, and against what ffmpeg can do at best.

    python -m benchmarks.media [--runs 5] [--only captions] [--explore] [--memory]

Clips are bikes, city_10s, bottles, cars and nasa of ../shared/videos, where that folder is, and two generated ones
of 1280x720. The comparison needs NeMo Curator 1.4.0 in a folder of its own (it is not installed with the
project), which --peer names where it is another one:

    .venv/bin/python -m pip install --no-deps --target .bench/peer nemo-curator==1.4.0 loguru

What else it imports (torch, av, numpy, cv2) is the project's. Both sides use imageio-ffmpeg's ffmpeg.

Ours is what a run does: the tasks that `window_captions` gives its workers, with an engine that prepares nothing,
until all results are here; for previews, the same tasks make them from the same decoding. Each figure has what a side
finds out about a clip before it decodes: ours hashes and probes it, NeMo Curator counts its frames and reads its rate.
None has the plan, which `clip_windows` has made by then (a run probes there, too), start-up (imports, worker
processes), and what is stored.

The runs of a row are made in turn, so that a machine that gets slower does so for all sides; ratios are medians of the
ratios of each turn. All sides take the clips from the largest to the smallest.

Needs no GPU. --memory needs Linux, and measures all processes together.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.parts.explore import explore
from benchmarks.parts.measure import CORES, compare
from benchmarks.parts.sides import (
    Plan,
    a_clip_a_core,
    caption_tasks,
    generated,
    has_peer,
    in_sequence,
    largest_first,
    limit,
    ours,
    peer_both,
    peer_captions,
    plans_of,
    put_ffmpeg_on_path,
    ready_frames,
)
from benchmarks.parts.stress import memory
from caption_assets.workers.local import Workers

REPOSITORY = Path(__file__).resolve().parents[1]
REAL = ("bikes", "city_10s", "bottles", "cars", "nasa")


def speed(plans: Sequence[Plan], peer: str, runs: int, only: str, peer_in_sequence: bool) -> None:
    """Print the three tables for one set of clips."""
    paths = [each.path for each in plans]
    both, captions = (caption_tasks(plans, previews=previews) for previews in (True, False))
    with Workers(CORES) as workers, Workers(CORES) as peers:
        workers.start()
        print(f"  {len(plans)} clips, {sum(len(each.windows) for each in plans)} windows, {CORES} cores")
        compared = has_peer(peer)
        if compared:
            peers.start()
        else:
            print(f"  NeMo Curator is not in {peer}: it is left out. See the head of this file for how to install it.")
        if only in ("all", "both"):
            sides: dict[str, Callable[[], object]] = {"ours": lambda: ours(workers, both)}
            if compared:
                theirs = partial(peer_both, folder=peer)
                sides["NeMo Curator"] = lambda: in_sequence(theirs, paths)
                if not peer_in_sequence:
                    sides["NeMo Curator, a clip a core"] = lambda: a_clip_a_core(peers, theirs, paths)
            compare("1. caption inputs and previews", sides, runs)
        if only in ("all", "captions"):
            sides = {"ours, resized": lambda: ours(workers, captions)}
            if compared:
                inputs = partial(peer_captions, folder=peer)
                sides["NeMo Curator, not resized"] = lambda: in_sequence(inputs, paths)
                if not peer_in_sequence:
                    sides["NeMo Curator, not resized, a clip a core"] = lambda: a_clip_a_core(peers, inputs, paths)
            compare("2. caption inputs", sides, runs)
        if only in ("all", "limit"):
            ready = ready_frames(plans)
            sides = {
                "ffmpeg, a clip after the other": lambda: limit(paths, ready, 1),
                "ffmpeg, a clip a core": lambda: limit(paths, ready, CORES),
                "ours": lambda: ours(workers, both),
            }
            compare("3. the limit: decode to nothing, then encode what is ready", sides, runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--videos", default=str(REPOSITORY.parent / "shared" / "videos"))
    parser.add_argument("--peer", default=str(REPOSITORY / ".bench" / "peer"))
    parser.add_argument("--peer-in-sequence", action="store_true", help="leave out NeMo Curator with a clip a core")
    parser.add_argument("--only", choices=("all", "both", "captions", "limit"), default="all")
    parser.add_argument("--clips", choices=("all", "real", "generated"), default="all")
    parser.add_argument("--explore", action="store_true", help="compare what was tried instead")
    parser.add_argument("--memory", action="store_true", help="peak memory by number and length of clips instead")
    arguments = parser.parse_args()
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, line_buffering=True)
    with tempfile.TemporaryDirectory(prefix="bench-media-") as name:
        folder = Path(name)
        put_ffmpeg_on_path(folder)
        if arguments.memory:
            memory(folder)
            return
        sets: dict[str, list[str]] = {}
        if arguments.clips != "generated":
            real = [str(Path(arguments.videos) / f"{clip}.mp4") for clip in REAL]
            if all(Path(path).exists() for path in real):
                sets["real clips"] = real
            else:
                print(f"The real clips are not in {arguments.videos}: they are left out.")
        if arguments.clips != "real":
            sets["generated clips, 1280x720"] = generated(folder, 2, 14)
        for title, paths in sets.items():
            print(f"\n== {title}")
            plans = largest_first(plans_of(paths))
            if arguments.explore:
                explore(plans, arguments.runs)
            else:
                speed(plans, arguments.peer, arguments.runs, arguments.only, arguments.peer_in_sequence)


if __name__ == "__main__":
    main()
