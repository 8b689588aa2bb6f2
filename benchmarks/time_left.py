"""How right the time left is: what bars and logs say on the way, against what it took.

    python -m benchmarks.time_left [--shards 20] [--clips 45] [--out progress.json]
    python -m benchmarks.time_left --replay progress.json

Renders a dataset of the demo's clips, makes windows, captions and previews of it, and enhanced captions, on the CPU,
and records every step of the progress. The record is then gone through again by the clock that it has: after each tenth
of the work, the time left that is said, what was left in truth until the last shard was stored, and how far apart they
are. On a machine that is shared, `--clock cpu` goes by the CPU seconds of all processes of the run, of which a step
takes about as many whatever else is at work; with OMP_NUM_THREADS=1, none of them are spent on waiting.
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
from caption_assets.errors import CaptionAssetsError
from caption_assets.settings import (
    CaptionModelSettings,
    CaptionSettings,
    EnhanceSettings,
    PreviewSettings,
    TextModelSettings,
    WindowSettings,
)
from caption_assets.steps import (
    Outcomes,
    Progress,
    ShardReport,
    StepContext,
    caption_shards,
    enhance_shards,
    model_session,
    window_shards,
)
from caption_assets.steps.progress import Paces
from caption_assets.store import Store
from caption_assets.workers.cpu import cpu_seconds
from caption_assets.workers.local import Workers


class Recorder(Progress):
    """Keeps what happens, with when."""

    def __init__(self) -> None:
        self.events: list[tuple[dict[str, float], str, str, str, int, int, float | None]] = []

    def _keep(
        self, what: str, asset: str, shard: str = "", items: int = 0, reused: int = 0, work: float | None = None
    ) -> None:
        now = time.monotonic()
        if self.events and now - (before := self.events[-1][0])["wall"] < 0.1:
            clocks = {"wall": now, "cpu": before["cpu"]}
        else:
            clocks = {"wall": now, "cpu": cpu_seconds()}
        self.events.append((clocks, what, asset, shard, items, reused, work))

    def start(self, asset: str, shard: str, total: int, reused: int = 0, work: float | None = None) -> None:
        self._keep("start", asset, shard, total, reused, work)

    def ready(self, asset: str) -> None:
        self._keep("ready", asset)

    def advance(self, asset: str, shard: str, items: int = 1, work: float | None = None) -> None:
        self._keep("advance", asset, shard, items, work=work)

    def done(self, report: ShardReport) -> None:
        self._keep("done", report.asset, report.shard)


def rendered(root: Path, shards: int, clips: int) -> list[str]:
    """Renders a dataset; the names of its shards."""
    rng = np.random.default_rng(0)
    names = [f"shard-{k:03}" for k in range(shards)]
    size = {"width": 224, "height": 240, "frame_rate": Fraction(24)}
    render_dataset(root, {name: [sample_scene(rng, **size) for _ in range(clips)] for name in names})
    return names


def recorded(root: Path, names: list[str]) -> list[Any]:
    """What happens when everything is made of a dataset's shards."""
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as out, Workers() as workers:
        context = StepContext(Store(out), workers, progress=recorder)

        def tell(outcomes: Outcomes) -> None:
            for ended in outcomes:
                if isinstance(ended.outcome, CaptionAssetsError):
                    raise ended.outcome
                recorder.done(ended.outcome)

        tell(window_shards(context, open_dataset(str(root)), names, WindowSettings()))
        with model_session(CaptionModelSettings(device="cpu")) as session:
            tell(caption_shards(context, names, session, CaptionSettings(), PreviewSettings()))
        with model_session(TextModelSettings(device="cpu")) as session:
            tell(enhance_shards(context, names, "demo", session, EnhanceSettings()))
    return recorder.events


def said(events: list[Any], asset: str, clock: str) -> Iterator[tuple[float, float, float]]:
    """Of each tenth of an asset's work: the share that is done, seconds left as they are said, and in truth."""
    own = [event for event in events if event[2] == asset]
    now, ended = own[0][0][clock], own[-1][0][clock]
    paces = Paces(len({event[3] for event in own if event[1] == "start"}), lambda: now)
    total, done, tenths = sum(event[4] for event in own if event[1] == "start"), 0, 1
    for clocks, what, of, shard, items, reused, work in events:
        now = clocks[clock]
        if what == "start":
            paces.start(of, shard, items, reused, work)
        elif what == "ready":
            paces.ready(of)
        elif what == "done":
            paces.over(of, shard)
        else:
            paces.advance(of, shard, items, work)
            done += items * (of == asset)
            left = paces.seconds_left(asset) if of == asset else None
            if done >= tenths * total / 10 and left is not None and now < ended:
                yield done / total, left, ended - now
                tenths = int(10 * done / total) + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--clips", type=int, default=45, help="of each shard")
    parser.add_argument("--dataset", type=Path, help="render the clips to this folder and keep them there")
    parser.add_argument("--out", type=Path, help="write the record to this file")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--replay", type=Path, help="such a record, in place of a run")
    args = parser.parse_args()
    if args.replay:
        events = json.loads(args.replay.read_text())
    else:
        with tempfile.TemporaryDirectory() as folder:
            root = args.dataset or Path(folder)
            events = recorded(root, rendered(root, args.shards, args.clips))
    if args.out:
        args.out.write_text(json.dumps(events))
    for asset in dict.fromkeys(event[2] for event in events):
        for share, left, truth in said(events, asset, args.clock):
            print(f"{asset:18s} {share:5.0%} done  said {left:7.1f} s  was {truth:7.1f} s  {left / truth - 1:+.0%}")


if __name__ == "__main__":
    main()
