"""How fast media code is: against NeMo Curator's own functions, and against what ffmpeg can do at best.

    python benchmarks/media.py [--runs 5] [--only captions] [--explore] [--memory] [--fuzz 3000]

Clips are bikes, city_10s, bottles, cars and nasa of ../shared/videos, where that folder is, and two generated ones
of 1280x720. The comparison needs NeMo Curator 1.4.0 in a folder of its own (it is not installed with the project):

    pip install --no-deps --target .bench/peer nemo-curator==1.4.0 loguru

and that folder as --peer (default .bench/peer). Its other imports (torch, av, numpy, cv2) are the project's. Both
sides use imageio-ffmpeg's ffmpeg. Start-up (imports, worker processes) is in no figure. The runs of a row are made in
turn, so that a machine that gets slower does so for all sides; ratios are medians of the ratios of each turn. All sides
take the clips from the largest to the smallest, as the steps do, which know their sizes from the plan.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
if str(REPOSITORY) not in sys.path:
    sys.path.insert(0, str(REPOSITORY))

from benchmarks.parts.explore import explore  # noqa: E402
from benchmarks.parts.measure import CORES, compare  # noqa: E402
from benchmarks.parts.sides import (  # noqa: E402
    drain,
    generated,
    in_sequence,
    largest_first,
    limit,
    ours_both,
    ours_captions,
    peer_both,
    peer_captions,
    ready_frames,
)
from benchmarks.parts.stress import fuzz, memory  # noqa: E402
from caption_assets.workers.local import Workers  # noqa: E402

REAL = ("bikes", "city_10s", "bottles", "cars", "nasa")


def speed(paths: Sequence[str], peer: str, runs: int, only: str, peer_in_sequence: bool) -> None:
    """Print the three tables for one set of clips."""
    with Workers(CORES) as workers, Workers(CORES) as peers:
        workers.start()
        windows = drain(workers, ours_both, paths)["windows"]
        print(f"  {len(paths)} clips, {windows} windows, {CORES} cores")
        has_peer = (Path(peer) / "nemo_curator").is_dir()
        if has_peer:
            peers.start()
        else:
            print(f"  NeMo Curator is not in {peer}: it is left out. See the head of this file for how to install it.")
        if only in ("all", "both"):
            sides: dict[str, Callable[[], object]] = {"ours": lambda: drain(workers, ours_both, paths)}
            if has_peer:
                both = partial(peer_both, folder=peer)
                sides["NeMo Curator"] = lambda: in_sequence(both, paths)
                if not peer_in_sequence:
                    sides["NeMo Curator, a clip a core"] = lambda: drain(peers, both, paths)
            compare("1. caption inputs and previews", sides, runs)
        if only in ("all", "captions"):
            sides = {"ours, resized": lambda: drain(workers, ours_captions, paths)}
            if has_peer:
                captions = partial(peer_captions, folder=peer)
                sides["NeMo Curator, not resized"] = lambda: in_sequence(captions, paths)
                if not peer_in_sequence:
                    sides["NeMo Curator, not resized, a clip a core"] = lambda: drain(peers, captions, paths)
            compare("2. caption inputs", sides, runs)
        if only in ("all", "limit"):
            ready = ready_frames(paths)
            sides = {
                "ffmpeg, a clip after the other": lambda: limit(paths, ready, 1),
                "ffmpeg, a clip a core": lambda: limit(paths, ready, CORES),
                "ours": lambda: drain(workers, ours_both, paths),
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
    parser.add_argument("--fuzz", type=int, metavar="CASES", help="damaged files instead")
    arguments = parser.parse_args()
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, line_buffering=True)
    with tempfile.TemporaryDirectory(prefix="bench-media-") as name:
        folder = Path(name)
        if arguments.fuzz:
            fuzz(arguments.fuzz, folder)
            return
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
            paths = largest_first(paths)
            if arguments.explore:
                explore(paths, arguments.runs)
            else:
                speed(paths, arguments.peer, arguments.runs, arguments.only, arguments.peer_in_sequence)


if __name__ == "__main__":
    main()
