"""Clips that are moved or renamed keep what was made of them, and what people said; nothing is made again."""

import shutil
from dataclasses import replace
from uuid import uuid4

import pytest
from upath import UPath

from caption_assets.dataset import clip_id, open_dataset
from caption_assets.settings import CaptionModelSettings, CaptionSettings
from caption_assets.steps import caption_shards, model_session
from caption_assets.steps.moves import Moves
from caption_assets.store import CLIP_WINDOWS, ENHANCED_CAPTIONS, WINDOW_CAPTIONS, Store
from caption_assets_tests.rows import window
from caption_assets_tests.steps.conftest import NOTHING, UUID, copied


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
    others = [replace(row, key="other") for row in store.read_rows(WINDOW_CAPTIONS, "a", "demo")]
    store.commit_rows(WINDOW_CAPTIONS, "a", others, "other")
    of_others = [replace(row, caption_key="other") for row in store.read_rows(ENHANCED_CAPTIONS, "a", "demo/demo_lm")]
    store.commit_rows(ENHANCED_CAPTIONS, "a", of_others, "other/demo_lm")
    house.add(old, aesthetic_score=0.7, theirs=1)
    house.move(f"a/{name}.mp4", f"b/{name}.mp4")
    for shard in order:
        assert house.make(shard) == NOTHING
    assert (house.texts("b", new), house.previews("b", new)) == (texts, previews)
    for table, key, rows in (
        (WINDOW_CAPTIONS, "other", others),
        (ENHANCED_CAPTIONS, "other/demo_lm", of_others),
    ):
        moved = [replace(row, clip_id=new) for row in rows if row.clip_id == old]
        assert [row for row in store.read_rows(table, "b", key) if row.clip_id == new] == moved
    document = house.document(new)
    assert document["clip_location"] == str(house.clips / "b" / f"{name}.mp4")
    assert (document["span_uuid"], document["aesthetic_score"], document["theirs"]) == (new, 0.7, 1)
    for key in ("demo_caption", "other_caption"):
        assert [window[key] for window in document["windows"]] == [text for _, text in texts[0]]
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


def test_of_many_copies_each_is_compared_with_a_few(tmp_path, monkeypatch):
    store, looks, copies = Store(tmp_path / "out"), [], 200
    for shard in ("a", "b"):
        (tmp_path / "clips" / shard).mkdir(parents=True)
        for number in range(copies):
            (tmp_path / "clips" / shard / f"{number}.mp4").touch()
    rows = {
        shard: [window(uuid4().hex, 0, 9, relative_path=f"{shard}/{k}.mp4", content_hash="same") for k in range(copies)]
        for shard in ("a", "b")
    }
    store.commit_rows(CLIP_WINDOWS, "a", rows["a"])
    is_there = Moves._is_there
    monkeypatch.setattr(Moves, "_is_there", lambda self, held: looks.append(held) or is_there(self, held))
    assert Moves(store, open_dataset(str(tmp_path / "clips"))).follow("b", [], rows["b"]) == []
    assert 0 < len(looks) <= 20 * copies


def test_a_copy_is_no_move(house):
    shutil.copy(house.clips / "a" / "named.mp4", house.clips / "b" / "copy.mp4")
    assert house.make("b") == {"preview": 1, "caption": 1, "enhance": 1}
    assert house.document(clip_id("a/named.mp4"))
