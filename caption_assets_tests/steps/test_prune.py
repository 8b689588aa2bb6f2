"""What belongs to no clip any more is found, and removed when asked for; what is others' stays."""

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caption_assets.dataset import clip_id, open_dataset
from caption_assets.settings import DatasetSettings
from caption_assets.steps import StepContext, preview_shard, window_shard
from caption_assets.steps.prune import find_leftovers, remove_leftovers
from caption_assets.store import CLIP_WINDOWS, WINDOW_CAPTIONS, Store
from caption_assets_tests.steps.conftest import NOTHING, PREVIEWS, SETTINGS, UUID

NAMED, OTHER = clip_id("a/named.mp4"), clip_id("b/other.mp4")
THEIRS = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def house(house):
    """Where its clips are now, nothing is left to do."""
    assert house.make("a", "b") == NOTHING
    return house


def find(house):
    return find_leftovers(house.store, open_dataset(str(house.clips)))


def remove(house):
    return remove_leftovers(house.store, open_dataset(str(house.clips)), find(house))


def everything(house):
    root = Path(house.store.url())
    files = {path.relative_to(root).as_posix(): path.stat() for path in root.rglob("*") if path.is_file()}
    return {rel: (stat.st_size, stat.st_mtime_ns) for rel, stat in files.items()}


def test_what_no_clip_has_any_more_is_shown_and_then_removed_and_nothing_else(house):
    assert not find(house)
    house.add(UUID, aesthetic_score=0.7)
    house.store.write_bytes(f"metas/v0/{THEIRS}.json", json.dumps({"span_uuid": THEIRS, "windows": []}).encode())
    for rel in (f"previews/{THEIRS}/0_47.webp", f"previews/{NAMED}/notes.txt", "clips/x.mp4", "tables/mine/b.parquet"):
        house.store.write_bytes(rel, b"theirs")
    (house.clips / "a" / "named.mp4").unlink()
    shutil.rmtree(house.clips / "b")
    before = everything(house)
    found = find(house)
    assert everything(house) == before
    gone = {rel for of_kind in found.files.values() for rel in of_kind}
    assert all(found.files[kind] for kind in ("documents", "previews", "window videos", "tables"))
    assert found.num_bytes == sum(before[rel][0] for rel in gone)
    assert {shard for shard, _ in found.rows} == {"a"}
    assert "words in them" in " ".join(found.kept)

    assert remove(house).figures() == found.figures()
    left = everything(house)
    assert {rel for rel in before if rel not in left} == gone
    assert not [
        rel for rel in left if OTHER in rel or ("/b." in rel and "mine" not in rel and "shard_review" not in rel)
    ]
    assert [rel for rel in left if NAMED in rel] == [f"previews/{NAMED}/notes.txt"]
    assert {row.clip_id for row in house.store.read_rows(WINDOW_CAPTIONS, "a", "demo")} == {UUID}
    assert not find(house)
    assert house.make("a") == NOTHING


def test_what_was_kept_aside_goes_and_a_document_with_others_words_stays(house):
    house.add(NAMED, aesthetic_score=0.7)
    (house.clips / "a" / "named.mp4").unlink()
    house.make("a")
    found = find(house)
    assert not found.rows
    assert found.files["kept aside"]
    assert len(found.files["previews"]) == len(found.files["window videos"]) == 1
    remove(house)
    assert house.document(NAMED)["aesthetic_score"] == 0.7
    assert not find(house)
    assert not [rel for rel in everything(house) if rel.startswith("tables/aside") or f"previews/{NAMED}" in rel]


def test_nothing_goes_that_a_clip_which_has_moved_may_still_need(house):
    house.move("a/named.mp4", "b/named.mp4")
    found = find(house)
    assert not found
    assert any("may be the same: make its shard first" in what for what in found.kept)
    texts = house.texts("a", NAMED)
    assert house.make("b") == NOTHING
    assert set(find(house).rows) == {("a", NAMED)}
    remove(house)
    assert house.texts("b", clip_id("b/named.mp4")) == texts
    assert house.make("a", "b") == NOTHING


def test_documents_of_clips_that_are_there_stay_wherever_they_were_before(house, tmp_path):
    for was, now in (("a/named.mp4", "b/moved.mp4"), ("b/moved.mp4", "a/named.mp4")):
        house.move(was, now)
        house.make("a", "b")
    assert not find(house).files["documents"]
    store = Store(f"memory://{tmp_path}/out")  # where no document is looked at again
    context = replace(house.context, store=store)
    for shards in (3, 2):
        dataset = open_dataset(str(house.clips), DatasetSettings(shards=shards))
        for shard in dataset.shards():
            window_shard(context, dataset, shard, SETTINGS)
            if shards == 3:  # and brought along to the others
                preview_shard(context, shard, PREVIEWS)
    found = find_leftovers(store, dataset)
    assert store.read_bytes("processed_videos/a/named.mp4.json")
    assert {kind for kind, of_kind in found.files.items() if of_kind} <= {"tables", "pages", "kept aside"}
    assert found.files["tables"]


def test_nothing_goes_of_other_datasets_and_of_tables_at_work(house, tmp_path):
    elsewhere = shutil.copytree(house.clips, tmp_path / "another")
    (elsewhere / "a" / "named.mp4").unlink()
    shutil.rmtree(elsewhere / "b")
    assert not find_leftovers(house.store, open_dataset(str(elsewhere)))
    (house.clips / "a" / "named.mp4").unlink()
    row = house.store.read_rows(CLIP_WINDOWS, "a")[0]
    house.store.append_rows(CLIP_WINDOWS, "a", [row])
    assert "another process is at work" in " ".join(remove(house).kept)
    assert NAMED in {row.clip_id for row in house.store.read_rows(CLIP_WINDOWS, "a")}


def test_an_id_that_two_clips_have_is_told_with_both_places(house):
    shutil.copy(house.clips / "a" / f"{UUID}.mp4", house.clips / "b")
    assert find(house).twice == {UUID: [f"a/{UUID}.mp4", f"b/{UUID}.mp4"]}


def folders(root, clips):
    for shard, of_shard in clips.items():
        for name, clip in of_shard.items():
            (root / shard).mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, root / shard / name)
    return str(root)


def tars(root, clips):
    root.mkdir(exist_ok=True)
    for old in root.iterdir():
        old.unlink()
    for shard, of_shard in clips.items():
        with tarfile.open(root / f"{shard}.tar", "w") as tar:
            for name, clip in of_shard.items():
                tar.add(clip, name)
    return str(root)


def parquet_files(root, clips):
    tars(root, {})
    for shard, of_shard in clips.items():
        videos = [{"bytes": clip.read_bytes(), "path": name} for name, clip in of_shard.items()]
        pq.write_table(pa.table({"video": videos}), root / f"{shard}.parquet")
    return str(root)


def manifest(root, clips):
    root.mkdir(exist_ok=True)
    rows = [f"{clip},{shard}\n" for shard, of_shard in clips.items() for clip in of_shard.values()]
    (root / "list.csv").write_text("path,shard\n" + "".join(rows))
    return str(root / "list.csv")


def several(root, clips):
    shutil.rmtree(root / "f", ignore_errors=True)
    return f"{folders(root / 'f', clips)}\nx={tars(root / 't', clips)}"


@pytest.mark.parametrize("make", [tars, parquet_files, manifest, several])
def test_what_is_gone_is_found_in_every_kind_of_dataset(finished, tmp_path, workers, make):
    clips = sorted((finished / "clips").rglob("*.mp4"))
    one, two = {"x.mp4": clips[0], "y.mp4": clips[1]}, {"z.mp4": clips[2]}
    three = {"z.mp4": Path(shutil.copy(clips[2], tmp_path / "copy.mp4"))}
    store = Store(tmp_path / "out")
    context = StepContext(store, workers)

    def plan(shards):
        dataset = open_dataset(make(tmp_path / "in", shards))
        for shard in dataset.shards():
            window_shard(context, dataset, shard, SETTINGS)
            preview_shard(context, shard, PREVIEWS)
        return dataset

    assert not find_leftovers(store, plan({"one": one, "two": two, "three": three}))
    for place in (tmp_path / "in", tmp_path / "in" / "f"):  # a shard of folders
        shutil.rmtree(place / "two", ignore_errors=True)
    dataset = open_dataset(make(tmp_path / "in", {"one": {"x.mp4": clips[0]}, "three": three}))
    found = find_leftovers(store, dataset)
    roots = 2 if make is several else 1
    assert len(found.rows) == roots
    gone = [rel for rel in found.files["tables"] if rel.startswith("tables/clip_windows")]
    if make is manifest:  # which shards it had, nobody knows
        assert (gone, [what for what in found.kept if "shard two" in what]) == ([], found.kept[:1])
        return
    assert len(gone) == roots
    remove_leftovers(store, dataset, found)
    left = {path.stem for path in (tmp_path / "out" / "metas" / "v0").iterdir()}
    assert left == {clip.clip_id for shard in dataset.shards() for clip in dataset.clips(shard)}
    assert not find_leftovers(store, dataset)
