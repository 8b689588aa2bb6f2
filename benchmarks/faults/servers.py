"""Captioning runs against a server that misbehaves at random: resets, stalls, garbage, wrong types, errors, delays.

    python -m benchmarks.faults.servers [--count 100] [--seed 1]

Each round captions the demo's first clips by a server in a mood of its own, which its seed says, and then again when
the server is well. A round is good where it ends in time; where every caption is that of its window, and every other
window has its reason; and where the second run asks for exactly what the first one has not got. Ends with status 1 at
the first round that is not, with its seed. Needs no GPU.
"""

import argparse
import faulthandler
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from benchmarks.faults.hostile import MODEL, WAYS, HostileServer, Mood
from caption_assets.dataset import open_dataset
from caption_assets.demo.clips import demo_scenes, render_dataset
from caption_assets.errors import CaptionAssetsError, ModelError
from caption_assets.models.engines.base import EngineOptions, ServerOptions
from caption_assets.models.engines.openai.engine import OpenAIEngine
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.variants import caption_variant
from caption_assets.models.weights.checkpoints import checkpoint_of
from caption_assets.save_export.files import read_document
from caption_assets.settings import CaptionSettings, WindowSettings
from caption_assets.steps import StepContext, caption_shards, window_shard
from caption_assets.store import CLIP_WINDOWS, WINDOW_CAPTIONS, Store
from caption_assets.store.rows import CaptionRow, WindowKey, window_key
from caption_assets.workers.local import Workers

BOUND_S = 300.0  # of a round, which takes seconds: only a hang takes longer
_ENGINE, _SERVER = (f"caption_assets.models.engines.openai.{name}" for name in ("engine", "server"))
_IMPATIENCE = {
    f"{_ENGINE}._FIRST_WAIT_S": 0.5,
    f"{_SERVER}.CONNECT_S": 3.0,
    f"{_SERVER}.FIRST_PAUSE_S": 0.02,
    f"{_SERVER}.LONGEST_PAUSE_S": 0.2,
}
_OPTIONS = ServerOptions(timeout_s=1.5, retry_s=0.5, return_s=0.5)


class WrongError(Exception):
    """What must not be."""


@dataclass
class Campaign:
    """A planned dataset, a server, and what has been seen so far. `right` are the captions by their windows."""

    server: HostileServer
    workers: Workers
    planned: Path
    shards: list[str]
    right: dict[WindowKey, str] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)

    def run(self, store: Store) -> str:
        """One captioning run. Returns what stopped it, "" where nothing did."""
        variant = caption_variant("demo")
        checkpoint = checkpoint_of(variant)
        options = EngineOptions(batch_size=4, server=_OPTIONS)
        session = EngineSession(variant, checkpoint, OpenAIEngine(variant, checkpoint, options))
        try:
            for ended in caption_shards(StepContext(store, self.workers), self.shards, session, CaptionSettings()):
                if isinstance(ended.outcome, CaptionAssetsError) and "not one of" not in str(ended.outcome):
                    raise WrongError(f"shard {ended.shard} ends with {ended.outcome}")
        except ModelError as error:
            return str(error)
        finally:
            session.close()
        return ""

    def round(self, seed: int, out: Path) -> None:
        """Raises WrongError."""
        shutil.copytree(self.planned, out)
        store = Store(str(out))
        self.server.reset(mood_of(seed, len(self.right)), seed)
        stopped = self.run(store)
        if any(secret in stopped for secret in (self.server.url, "Traceback")):
            raise WrongError(f"an error shows too much: {stopped}")
        had = self.check(store, complete=not stopped)
        self.server.reset(Mood(0.0), seed)
        if again := self.run(store):
            raise WrongError(f"the healthy server stops the run: {again}")
        missing = len(self.right) - sum(row.status == "ok" and row.model_id == MODEL for row in had.values())
        if self.server.asked != missing:
            raise WrongError(f"{missing} windows were missing, and {self.server.asked} were asked for")
        rows = self.check(store, complete=True)
        if bad := [row for row in rows.values() if row.status != "ok" or row.model_id != MODEL]:
            raise WrongError(f"the healthy server leaves {bad[0]}")
        self.check_documents(store)
        self.seen += Counter(
            {
                "runs that were stopped": bool(stopped),
                "captions": sum(row.status == "ok" for row in had.values()),
                "windows with a reason": sum(row.status != "ok" for row in had.values()),
                "windows asked for again": missing,
            }
        )
        self.seen += Counter(f"reason {row.error_kind}" for row in had.values() if row.status != "ok")

    def check(self, store: Store, *, complete: bool) -> dict[WindowKey, CaptionRow]:
        """The rows, each with its window's caption or a reason. Raises WrongError."""
        found = rows_of(store, self.shards)
        if complete and found.keys() != self.right.keys():
            raise WrongError(f"rows of {len(found)} windows for {len(self.right)}")
        for key, row in found.items():
            if row.status == "ok" and row.text != self.right[key]:
                raise WrongError(f"window {key} has {row.text!r}, and its caption is {self.right[key]!r}")
            if row.status != "ok" and not (row.error and row.error_kind and row.text is None):
                raise WrongError(f"no reason in {row}")
        return found

    def check_documents(self, store: Store) -> None:
        """Raises WrongError where a document does not have its windows' captions."""
        for clip in {clip for clip, *_ in self.right}:
            document = read_document(store, f"metas/v0/{clip}.json") or {}
            said = {(clip, w["start_frame"], w["end_frame"]): w.get("demo_caption") for w in document["windows"]}
            if said != {key: text for key, text in self.right.items() if key[0] == clip}:
                raise WrongError(f"the document of {clip} says {said}")


def rows_of(store: Store, shards: list[str]) -> dict[WindowKey, CaptionRow]:
    return {window_key(row): row for shard in shards for row in store.read_rows(WINDOW_CAPTIONS, shard, "demo")}


def mood_of(seed: int, windows: int) -> Mood:
    """A round's mood: some wrong, much wrong, hardly anything right, or well but for a spell, or to a point."""
    dice = random.Random(seed)
    start = dice.randint(2, windows + 1)
    way = dice.choice(("", *WAYS))
    return dice.choice(
        (
            Mood(0.1),
            Mood(0.2),
            Mood(0.3),
            Mood(0.6),
            Mood(0.95),
            Mood(0.0, start, start + dice.randint(1, 12), way),
            Mood(0.1, start, start + dice.randint(1, 12), way),
            Mood(0.0, start, sys.maxsize, way),
        )
    )


@contextmanager
def campaign(work: Path, shards: int) -> Iterator[Campaign]:
    """Renders and plans the clips, and learns the captions from the server while it is well."""
    scenes = dict(list(demo_scenes().items())[:shards])
    render_dataset(work / "clips", scenes)
    dataset, planned = open_dataset(str(work / "clips")), work / "planned"
    with HostileServer() as server, Workers(2) as workers, patch.dict(os.environ, OPENAI_BASE_URL=server.url):
        made = Campaign(server, workers, planned, dataset.shards())
        for shard in made.shards:
            window_shard(StepContext(Store(str(planned)), workers), dataset, shard, WindowSettings())
        shutil.copytree(planned, work / "right")
        right = Store(str(work / "right"))
        if stopped := made.run(right):
            raise WrongError(f"the healthy server stops the run: {stopped}")
        rows = rows_of(right, made.shards)
        windows = sum(len(right.read_rows(CLIP_WINDOWS, shard)) for shard in made.shards)
        made.right = {key: row.text or "" for key, row in rows.items()}
        if not len(set(made.right.values())) == len(rows) == windows:
            raise WrongError("the windows' captions are not all there and different")
        server.did.clear()
        yield made


def bounded(made: Campaign, seed: int, out: Path) -> None:
    """A round within its time. Raises WrongError."""
    failed: list[Exception] = []

    def work() -> None:
        try:
            made.round(seed, out)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(BOUND_S)
    if thread.is_alive():
        faulthandler.dump_traceback()
        raise WrongError(f"it hangs, for {BOUND_S:g} s now")
    if failed:
        raise failed[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="rounds")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each has the next")
    parser.add_argument("--shards", type=int, default=2, help="how many of the demo's three shards, of 5 windows each")
    args = parser.parse_args()
    longest, begun = 0.0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder, _impatient(), campaign(Path(folder), args.shards) as made:
        for seed in range(args.seed, args.seed + args.count):
            started, out = time.monotonic(), Path(folder) / "out"
            try:
                bounded(made, seed, out)
            except Exception:
                print(f"seed {seed}: {mood_of(seed, len(made.right))}, {dict(made.server.did)}", file=sys.stderr)
                raise
            shutil.rmtree(out)
            longest = max(longest, time.monotonic() - started)
        windows, did = len(made.right), made.server.did
    print(f"{args.count} rounds of {windows} windows in {time.monotonic() - begun:.0f} s, the longest {longest:.1f} s")
    print(f"{did.total()} requests: " + ", ".join(f"{count} {way}" for way, count in did.most_common()))
    print(", ".join(f"{count} {what}" for what, count in sorted(made.seen.items())))
    print("No hang, no caption under another window, no window without a caption or a reason, none asked for in vain.")


@contextmanager
def _impatient() -> Iterator[None]:
    """With waits that fit a server in this process."""
    patches = [patch(name, value) for name, value in _IMPATIENCE.items()]
    for one in patches:
        one.start()
    try:
        yield
    finally:
        patch.stopall()


if __name__ == "__main__":
    main()
