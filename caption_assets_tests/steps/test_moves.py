"""Clips that are moved or renamed keep what was made of them, and what people said; nothing is made again."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from upath import UPath

from caption_assets.dataset import clip_id, open_dataset
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


@pytest.fixture(scope="module")
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


@pytest.mark.parametrize(
    ("place", "name", "order"),
    [
        *(("local", name, order) for name in (UUID, "named") for order in ("b", "ba", "ab")),
        *(("s3", "named", order) for order in ("b", "ab")),
    ],
)
def test_a_clip_that_is_moved_keeps_everything_whichever_shard_is_done_first(
    finished, tmp_path, workers, place, name, order, request
):
    store = Store(tmp_path / "out")
    if place == "s3":
        store = Store(UPath(f"s3://bucket/{uuid4().hex}/out", **request.getfixturevalue("s3_options")))
    house = copied(finished, tmp_path, store, workers)
    old, new = clip_id(f"a/{name}.mp4"), clip_id(f"b/{name}.mp4")
    texts, previews, files = house.texts("a", old), house.previews("a", old), house.files()
    assert all(texts)
    assert all(previews)
    house.add(old, aesthetic_score=0.7, theirs=1)
    house.move(f"a/{name}.mp4", f"b/{name}.mp4")
    for shard in order:
        assert house.make(shard) == NOTHING
    assert (house.texts("b", new), house.previews("b", new)) == (texts, previews)
    document = house.document(new)
    assert document["clip_location"] == str(house.clips / "b" / f"{name}.mp4")
    assert (document["span_uuid"], document["aesthetic_score"], document["theirs"]) == (new, 0.7, 1)
    assert [window["demo_caption"] for window in document["windows"]] == [text for _, text in texts[0]]
    assert house.files() == sorted(rel.replace(old, new).replace(f"a/{name}", f"b/{name}") for rel in files)
    for shard in order:
        assert house.make(shard) == NOTHING


def test_clips_that_are_renamed_in_their_shard_keep_everything(house):
    ids = {name: clip_id(f"a/{name}.mp4") for name in ("named", "new", "third")}
    shutil.copy(house.clips / "b" / "other.mp4", house.clips / "a" / "third.mp4")
    house.make("a")
    named, third = house.texts("a", ids["named"]), house.texts("a", ids["third"])
    house.move("a/named.mp4", "a/new.mp4")  # and another one takes its name
    house.move("a/third.mp4", "a/named.mp4")
    assert house.make("a") == {"preview": 1, "caption": 0, "enhance": 0}  # its file has been written over
    assert house.texts("a", ids["new"]) == named
    assert house.texts("a", ids["named"])[:2] == third[:2]  # what was said of the other one's stays a word on that
    assert {rel.split("/")[-1] for rel in house.files() if rel.startswith("metas")} == {
        f"{of}.json" for of in (UUID, ids["new"], ids["named"], clip_id("b/other.mp4"))
    }
    house.move("a/new.mp4", "a/third.mp4")  # two take each other's
    house.move("a/named.mp4", "a/new.mp4")
    house.move("a/third.mp4", "a/named.mp4")
    assert house.make("a")["caption"] == 0
    assert house.texts("a", ids["named"]) == named
    assert house.texts("a", ids["new"])[:2] == third[:2]
    assert house.document(ids["new"])["windows"][0]["demo_caption"] == third[0][0][1]


def test_what_could_not_be_read_for_a_while_and_what_comes_back_is_not_captioned_again(house):
    clip, away = house.clips / "a" / "named.mp4", house.clips.parent / "away.mp4"
    texts = house.texts("a", clip_id("a/named.mp4"))
    clip.rename(away)
    clip.write_text("no video")
    house.plan("a")
    with model_session(CaptionModelSettings(device="cpu")) as session:
        list(caption_shards(house.context, ["a"], session, CaptionSettings(max_output_tokens=4)))
    assert house.texts("a", clip_id("a/named.mp4"))[0] == []
    away.rename(clip)
    assert house.make("a")["caption"] == 0
    assert house.texts("a", clip_id("a/named.mp4")) == texts


def test_the_same_id_in_two_shards_is_a_finding_that_names_both_places(house):
    shutil.copy(house.clips / "a" / f"{UUID}.mp4", house.clips / "b")
    document = house.document(UUID)
    report = house.plan("b")["b"]
    assert report.failures == {"duplicate_id": 1}
    assert f"'b/{UUID}.mp4': its id is that of 'a/{UUID}.mp4'" in report.failed_items[0]
    house.make("a")
    assert house.document(UUID) == document | {"clip_location": str(house.clips / "a" / f"{UUID}.mp4")} | {
        "source_video": str(house.clips / "a" / f"{UUID}.mp4")
    }
    (house.clips / "a" / f"{UUID}.mp4").unlink()
    assert house.make("b") == NOTHING
    assert house.document(UUID)["clip_location"] == str(house.clips / "b" / f"{UUID}.mp4")


def test_a_copy_is_no_move(house):
    shutil.copy(house.clips / "a" / "named.mp4", house.clips / "b" / "copy.mp4")
    assert house.make("b") == {"preview": 1, "caption": 1, "enhance": 1}
    assert house.document(clip_id("a/named.mp4"))
