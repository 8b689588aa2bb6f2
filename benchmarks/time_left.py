"""How right the time left is: what bars and logs say on the way, against what it took.

    python -m benchmarks.time_left [--shards 20] [--clips 6] [--out progress.json]
    python -m benchmarks.time_left --replay progress.json

Renders a dataset of the demo's clips, makes windows, captions and previews of it on the CPU, and records every step of
the progress. The record is then gone through again by the clock that it has: after each tenth of the work, the time
left that is said, what was left in truth, and how far apart they are.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from caption_assets.dataset import open_dataset
from caption_assets.demo.clips import render_dataset
from caption_assets.demo.world import sample_scene
from caption_assets.settings import CaptionModelSettings, CaptionSettings, PreviewSettings, WindowSettings
from caption_assets.steps import Progress, StepContext, caption_shards, model_session, window_shards
from caption_assets.steps.progress import Pace
from caption_assets.store import Store
from caption_assets.workers.local import Workers


class Recorder(Progress):
    """Keeps what happens, with when."""

    def __init__(self) -> None:
        self.events: list[tuple[float, str, str, str, int, int]] = []

    def start(self, asset: str, shard: str, total: int, reused: int = 0) -> None:
        self.events.append((time.monotonic(), "start", asset, shard, total, reused))

    def advance(self, asset: str, shard: str, items: int = 1) -> None:
        self.events.append((time.monotonic(), "advance", asset, shard, items, 0))


def recorded(shards: int, clips: int) -> list[Any]:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, Workers() as workers:
        root = Path(folder) / "clips"
        names = [f"shard-{k:03}" for k in range(shards)]
        size = {"width": 224, "height": 192, "frame_rate": Fraction(24)}
        render_dataset(root, {name: [sample_scene(rng, **size) for _ in range(clips)] for name in names})
        recorder = Recorder()
        context = StepContext(Store(str(Path(folder) / "out")), workers, progress=recorder)
        list(window_shards(context, open_dataset(str(root)), names, WindowSettings()))
        with model_session(CaptionModelSettings(device="cpu")) as session:
            list(caption_shards(context, names, session, CaptionSettings(), PreviewSettings()))
    return recorder.events


def said(events: list[Any], asset: str) -> Iterator[tuple[float, float, float]]:
    """Of each tenth of an asset's work: the share that is done, seconds left as they are said, and in truth."""
    own = [event for event in events if event[2] == asset]
    now = own[0][0]
    pace = Pace(len({event[3] for event in own}), lambda: now)
    total, done, tenths = sum(event[4] for event in own if event[1] == "start"), 0, 1
    for at, what, _, shard, items, reused in own:
        now = at
        if what == "start":
            pace.start(shard, items, reused)
            continue
        pace.advance(shard, items)
        done += items
        if done >= tenths * total / 10 and pace.seconds_left is not None and done < total:
            yield done / total, pace.seconds_left, own[-1][0] - at
            tenths = int(10 * done / total) + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--out", type=Path, help="write the record to this file")
    parser.add_argument("--replay", type=Path, help="such a record, in place of a run")
    args = parser.parse_args()
    events = json.loads(args.replay.read_text()) if args.replay else recorded(args.shards, args.clips)
    if args.out:
        args.out.write_text(json.dumps(events))
    for asset in dict.fromkeys(event[2] for event in events):
        for share, left, truth in said(events, asset):
            print(f"{asset:18s} {share:5.0%} done  said {left:7.1f} s  was {truth:7.1f} s  {left / truth - 1:+.0%}")


if __name__ == "__main__":
    main()
