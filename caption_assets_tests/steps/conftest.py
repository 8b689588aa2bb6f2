"""A small dataset with all that is made of it, for what happens when its clips come and go."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from upath import UPath

from caption_assets.dataset import open_dataset
from caption_assets.settings import (
    CaptionModelSettings,
    CaptionSettings,
    EnhanceSettings,
    PreviewSettings,
    TextModelSettings,
    WindowSettings,
)
from caption_assets.steps import (
    StepContext,
    caption_shards,
    enhance_shards,
    model_session,
    preview_shard,
    window_shards,
)
from caption_assets.store import ENHANCED_CAPTIONS, WINDOW_CAPTIONS, WINDOW_PREVIEWS, Store
from caption_assets.store.tables import SHARD_REVIEW
from caption_assets_tests.rows import verdict

UUID = "6eec9a17-8b5b-4b4e-9f53-3a8a2d0c1e11"
SETTINGS = WindowSettings(window_size=64, remainder_threshold=32, store_window_mp4=True)
PREVIEWS = PreviewSettings(target_height=16)


@dataclass
class House:
    clips: Path
    store: Store
    context: StepContext

    def plan(self, *shards):
        ended = window_shards(self.context, open_dataset(str(self.clips)), shards, SETTINGS)
        return {one.shard: one.outcome for one in ended}

    def make(self, *shards):
        """All steps; the windows, by asset, that had to be made."""
        reports = {"plan": self.plan(*shards), "preview": {}}
        reports["preview"] = {shard: preview_shard(self.context, shard, PREVIEWS) for shard in shards}
        with model_session(CaptionModelSettings(device="cpu")) as session:
            asked = CaptionSettings(max_output_tokens=4)
            reports["caption"] = {e.shard: e.outcome for e in caption_shards(self.context, shards, session, asked)}
        with model_session(TextModelSettings(device="cpu")) as session:
            asked = EnhanceSettings(max_output_tokens=4)
            ended = enhance_shards(self.context, shards, "demo", session, asked)
            reports["enhance"] = {one.shard: one.outcome for one in ended}
        made = {}
        for step in ("preview", "caption", "enhance"):
            assert all(report.failed == 0 for report in reports[step].values())
            made[step] = sum(report.rows - report.reused for report in reports[step].values())
        return made

    def texts(self, shard, of):
        captions = self.store.read_rows(WINDOW_CAPTIONS, shard, "demo")
        enhanced = self.store.read_rows(ENHANCED_CAPTIONS, shard, "demo/demo_lm")
        said = self.store.read_rows(SHARD_REVIEW, shard)
        return [
            [(row.start_frame, row.text) for row in captions if row.clip_id == of],
            [(row.start_frame, row.text) for row in enhanced if row.clip_id == of],
            [(row.verdict, row.text) for row in said if row.clip_id == of],
        ]

    def previews(self, shard, of):
        rows = [row for row in self.store.read_rows(WINDOW_PREVIEWS, shard) if row.clip_id == of]
        return [self.store.read_bytes(row.path) for row in rows]

    def move(self, was, now):
        (self.clips / was).rename(self.clips / now)

    def add(self, of, **words):
        """Another tool adds something to a document."""
        self.store.write_bytes(f"metas/v0/{of}.json", json.dumps(self.document(of) | words).encode())

    def document(self, of):
        return json.loads(self.store.read_bytes(f"metas/v0/{of}.json"))

    def files(self):
        """All files but tables."""
        root = UPath(self.store._root)
        found = (path.path.removeprefix(root.path).lstrip("/") for path in root.rglob("*") if path.is_file())
        return sorted(rel for rel in found if not rel.startswith(("tables/", ".")))


NOTHING = {"preview": 0, "caption": 0, "enhance": 0}


@pytest.fixture(scope="session")
def finished(tmp_path_factory, make_clip, workers):
    """Two shards, with all that is made of them, and a verdict on every caption."""
    root = tmp_path_factory.mktemp("moves")
    make_clip(root / "clips" / "a" / f"{UUID}.mp4", 100)
    make_clip(root / "clips" / "a" / "named.mp4", 48, size=(128, 96))
    make_clip(root / "clips" / "b" / "other.mp4", 40)
    store = Store(root / "out")
    house = House(root / "clips", store, StepContext(store, workers))
    house.make("a", "b")
    captions = store.read_rows(WINDOW_CAPTIONS, "a", "demo")
    store.put_part(SHARD_REVIEW, "a", [verdict(row, at=str(at)) for at, row in enumerate(captions)])
    return root


def copied(finished, tmp_path, store, workers):
    shutil.copytree(finished / "clips", tmp_path / "clips")
    for path in (finished / "out").rglob("*"):
        if path.is_file() and ".caption_assets" not in str(path):
            store.write_bytes(path.relative_to(finished / "out").as_posix(), path.read_bytes())
    return House(tmp_path / "clips", store, StepContext(store, workers))


@pytest.fixture
def house(finished, tmp_path, workers):
    return copied(finished, tmp_path, Store(tmp_path / "out"), workers)
