"""What goes out and what stays, and what becomes of the folder when it is exported to again."""

import json
import os
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from caption_assets.dataset import open_dataset
from caption_assets.errors import ConfigError, StoreError
from caption_assets.exports import Export
from caption_assets.exports.card import REASONS
from caption_assets.exports.folder import FolderPart
from caption_assets.exports.formats import FORMATS
from caption_assets.exports.samples import split_of
from caption_assets.records import text_hash
from caption_assets.settings import ExportSettings, WindowSettings
from caption_assets.steps.context import StepContext
from caption_assets.steps.windows import window_shard
from caption_assets.store import CLIP_WINDOWS, ENHANCED_CAPTIONS, WINDOW_CAPTIONS, Store
from caption_assets.store.rows import VerdictRow
from caption_assets.store.tables import CAPTION_FINDINGS, ENHANCED_FINDINGS, SHARD_REVIEW
from caption_assets_tests.exports.conftest import change, changed
from caption_assets_tests.rows import BIKES, caption, enhanced, failed_caption, finding, window


def files(folder: Path) -> dict[str, int]:
    """All files below a folder, and when each was last written."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in found}


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("form", ["jsonl", "txt", "cosmos", "webdataset", "parquet"])
def test_a_second_export_writes_nothing(export, tmp_path, form):
    export(form, tmp_path / "x")
    before = files(tmp_path / "x")
    assert changed(export(form, tmp_path / "x")) == 0
    assert files(tmp_path / "x") == before


def test_another_text_is_written_alone(export, out, tmp_path):
    export("txt", tmp_path / "txt")
    export("jsonl", tmp_path / "jsonl")
    export("webdataset", tmp_path / "tars")
    before = {folder: files(tmp_path / folder) for folder in ("txt", "jsonl", "tars")}
    change(out, "a", 1, text="another one")
    export("txt", tmp_path / "txt")
    export("jsonl", tmp_path / "jsonl")
    export("webdataset", tmp_path / "tars")
    written = {
        folder: sorted(rel for rel, at in files(tmp_path / folder).items() if before[folder][rel] != at)
        for folder in before
    }
    row = out.read_rows(WINDOW_CAPTIONS, "a", "qwen")[1]
    own = [".caption_assets/shards/a.json.gz"]
    assert written == {
        "txt": [*own, f"videos/{row.clip_id}_{row.start_frame}_{row.end_frame}.txt"],
        "jsonl": [".caption_assets/export.json.gz", *own, "metadata.jsonl"],
        "tars": [*own, "data/a-00000.tar"],
    }


def test_what_belongs_to_it_no_more_goes_and_nothing_else(export, out, tmp_path, captioned):
    to = tmp_path / "x"
    export("txt", to)
    strangers = [to / "videos" / "mine.mp4", to / "notes.md"]
    for stranger in strangers:
        stranger.write_text("not ours")
    gone = out.read_rows(CLIP_WINDOWS, "a")[0].clip_id
    out.commit_rows(CLIP_WINDOWS, "a", [row for row in out.read_rows(CLIP_WINDOWS, "a") if row.clip_id != gone])
    shutil.rmtree(tmp_path / "out" / "tables" / "clip_windows" / "b.parts", ignore_errors=True)
    out.delete_table(CLIP_WINDOWS, "b")  # a shard that is no more
    _, contents, _ = export("txt", to)
    left = {row.clip_id for row in out.read_rows(CLIP_WINDOWS, "a")}
    assert {name.split("_")[0] for name in os.listdir(to / "videos")} == {*left, "mine.mp4"}
    assert contents.samples == len(list((to / "videos").glob("*.txt")))
    assert os.listdir(to / ".caption_assets" / "shards") == ["a.json.gz"]
    assert all(stranger.read_text() == "not ours" for stranger in strangers)


def test_what_an_export_that_broke_off_has_left_goes_with_the_next(export, out, tmp_path, monkeypatch):
    placed = []

    def place(self, path, rel):
        if len(placed) == 3:
            raise StoreError("write", "the disk is full")
        placed.append(rel)
        real(self, path, rel)

    real = Store.place
    with monkeypatch.context() as patch:
        patch.setattr(Store, "place", place)
        with pytest.raises(StoreError):
            export("txt", tmp_path / "x")
    for row in out.read_rows(CLIP_WINDOWS, "a"):
        if any(row.clip_id in rel for rel in placed):
            rows = out.read_rows(WINDOW_CAPTIONS, "a", "qwen")
            out.commit_rows(WINDOW_CAPTIONS, "a", [r for r in rows if r.clip_id != row.clip_id], "qwen")
    export("txt", tmp_path / "x")
    assert not [rel for rel in placed if (tmp_path / "x" / rel).exists()]
    assert not (tmp_path / "x" / ".caption_assets-writing").exists()


def test_a_file_that_somebody_removed_is_made_again(export, tmp_path):
    export("diffsynth", tmp_path / "x")
    video = next((tmp_path / "x" / "videos").iterdir())
    video.unlink()
    (tmp_path / "x" / "metadata.csv").unlink()
    assert changed(export("diffsynth", tmp_path / "x")) == 2
    assert video.exists()


def test_a_folder_of_others_is_left_alone(export, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "metadata.jsonl").write_text("precious")
    with pytest.raises(ConfigError, match="it holds other files, such as"):
        export("jsonl", tmp_path / "x")
    assert os.listdir(tmp_path / "x") == ["metadata.jsonl"]
    export("jsonl", tmp_path / "y")
    with pytest.raises(ConfigError, match="it holds an export in the format jsonl"):
        export("csv", tmp_path / "y")


def test_one_shard_alone_leaves_the_others(export, out, tmp_path):
    export("jsonl", tmp_path / "x")
    change(out, "a", 0, text="new a")
    change(out, "b", 0, text="new b")
    export("jsonl", tmp_path / "x", shards=["b"])
    captions = {row["caption"] for row in lines(tmp_path / "x")}
    assert "new b" in captions
    assert "new a" not in captions
    assert len(lines(tmp_path / "x")) == 6


def test_of_two_that_export_to_one_folder_neither_loses_anything(out, workers, tmp_path):
    def other(windows):
        if not others:
            others.append(Export(out, str(tmp_path / "x"), "videofolder", ExportSettings(), workers))
            others[0].shard("b")
            others[0].finish(["a", "b"])

    others = []
    one = Export(out, str(tmp_path / "x"), "videofolder", ExportSettings(), workers, other)  # amid its first shard
    one.shard("a")
    assert len(list((tmp_path / "x" / "videos").iterdir())) == 6
    contents, changes = one.finish(["a", "b"])
    assert (contents.samples, changes.removed) == (6, 0)
    assert sorted(row["file_name"] for row in lines(tmp_path / "x")) == sorted(
        f"videos/{path.name}" for path in (tmp_path / "x" / "videos").iterdir()
    )


def test_of_two_that_end_at_once_without_locks_the_last_has_it_all(out, workers, monkeypatch):
    one, two = (Export(out, "memory://ends", "jsonl", ExportSettings(videos="links"), workers) for _ in range(2))
    one.shard("a")
    write = FolderPart.write

    def meanwhile(part, files):  # the list of one shard is in its place
        monkeypatch.setattr(FolderPart, "write", write)
        two.shard("b")
        two.finish(["a", "b"])
        write(part, files)

    monkeypatch.setattr(FolderPart, "write", meanwhile)
    contents, _ = one.finish(["a", "b"])
    assert contents.samples == 6
    assert Store("memory://ends").read_bytes("metadata.jsonl").count(b"\n") == 6


def test_only_texts_that_are_good_and_still_true_go_out(export, out, tmp_path):
    rows = out.read_rows(WINDOW_CAPTIONS, "a", "qwen")
    rows[0] = failed_caption(out.read_rows(CLIP_WINDOWS, "a")[0])
    rows[1] = replace(rows[1], text=" \n")
    rows[2] = replace(rows[2], content_hash="of other bytes")
    out.commit_rows(WINDOW_CAPTIONS, "a", rows[:4], "qwen")
    done, contents, _ = export("jsonl", tmp_path / "x")
    assert done[0].left_out == {"failed": 1, "blank": 1, "changed": 1, "no_text": 1}
    assert contents.samples == 2
    assert all(REASONS[reason] in (tmp_path / "x" / "README.md").read_text() for reason in done[0].left_out)


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"min_characters": 35}, {"min_characters": 1}),
        ({"max_characters": 40}, {"max_characters": 3}),
        ({"min_seconds": 2.0}, {"min_seconds": 2}),
        ({"max_seconds": 2.0}, {"max_seconds": 2}),
        ({"min_confidence": -0.2}, {"min_confidence": 6}),
        ({"min_confidence": -0.3}, {}),
    ],
)
def test_filters_count_what_they_keep(export, tmp_path, settings, left):
    done, contents, _ = export("jsonl", tmp_path / "x", videos="links", **settings)
    counted = sum((of.left_out for of in done), start=type(done[0].left_out)())
    assert counted == left
    assert contents.samples == 6 - sum(left.values())


def test_enhanced_texts_go_out_only_for_the_captions_that_they_were_made_from(export, out, tmp_path):
    captions = out.read_rows(WINDOW_CAPTIONS, "a", "qwen")
    rewritten = [enhanced(row, f"Better: {row.text}") for row in captions]
    out.commit_rows(ENHANCED_CAPTIONS, "a", rewritten, "qwen/qwen_lm")
    change(out, "a", 0, text="another caption")
    done, _, _ = export("jsonl", tmp_path / "x", videos="links", text="enhanced")
    assert [row["caption"] for row in lines(tmp_path / "x")] == [row.text for row in rewritten[1:]]
    assert {row["caption_key"] for row in lines(tmp_path / "x")} == {"qwen_lm"}
    assert done[0].left_out == {"changed": 1}
    assert done[1].left_out == {"no_text": 1}
    export("cosmos", tmp_path / "cosmos", text="enhanced")
    document = json.loads(next((tmp_path / "cosmos" / "metas" / "v0").iterdir()).read_text())
    assert document["windows"][0]["qwen_lm_enhanced_caption"].startswith("Better: ")


def test_flagged_texts_stay_unless_they_are_asked_for(export, out, tmp_path):
    rows = out.read_rows(WINDOW_CAPTIONS, "a", "qwen")
    found = [finding(rows[0], "error", refusal="so"), finding(rows[1], "warning", length="so")]
    found.append(replace(finding(rows[2], "error", empty="so"), text_hash="of an earlier text"))
    out.commit_rows(CAPTION_FINDINGS, "a", found, "qwen")
    done, contents, _ = export("jsonl", tmp_path / "x", videos="links")
    assert (done[0].left_out, contents.samples) == ({"flagged": 1}, 5)
    done, contents, _ = export("jsonl", tmp_path / "x", videos="links", include_flagged=True)
    assert (done[0].left_out, contents.samples) == ({}, 6)
    done, _, _ = export("jsonl", tmp_path / "x", videos="links", leave_out_findings="length, language")
    assert done[0].left_out == {"flagged": 1, "finding": 1}
    with pytest.raises(ValueError, match="there is no rule 'size'"):
        ExportSettings(leave_out_findings="size")
    # So do enhanced texts, their own findings and those of their captions.
    rewritten = [enhanced(row, f"Better: {row.text}") for row in rows]
    rewritten[0] = replace(rewritten[0], text=None, status="skipped", error_kind="flagged")
    out.commit_rows(ENHANCED_CAPTIONS, "a", rewritten, "qwen/qwen_lm")
    out.commit_rows(ENHANCED_FINDINGS, "a", [finding(rewritten[1], "error", refusal="so")], "qwen/qwen_lm")
    done, contents, _ = export("jsonl", tmp_path / "x", videos="links", text="enhanced")
    assert (done[0].left_out, contents.samples) == ({"flagged": 2}, 3)
    assert {row["caption"] for row in lines(tmp_path / "x")} == {row.text for row in rewritten[2:]}
    done, contents, _ = export("jsonl", tmp_path / "x", videos="links", text="enhanced", include_flagged=True)
    assert (done[0].left_out, contents.samples) == ({"flagged": 1}, 4)


def test_what_people_say_of_a_text_comes_before_what_rules_say(export, out, tmp_path):
    rows = out.read_rows(WINDOW_CAPTIONS, "a", "qwen")
    said = [verdict(rows[0], "right"), verdict(rows[1], "edited", " as I would\nhave it"), verdict(rows[2], "wrong")]
    said += [verdict(rows[3], "right"), verdict(rows[3], "wrong", reviewer="b")]
    out.put_part(SHARD_REVIEW, "a", said, None)
    out.commit_rows(CAPTION_FINDINGS, "a", [finding(rows[1], "error", refusal="so")], "qwen")
    done, _, _ = export("jsonl", tmp_path / "x", videos="links")
    assert done[0].left_out == {"wrong": 1, "disputed": 1}
    by_hand = {(row["caption"], row["reviewed"]) for row in lines(tmp_path / "x") if row["shard"] == "a"}
    assert by_hand == {(rows[0].text, "right"), (" as I would\nhave it", "edited"), (rows[4].text, "")}
    assert "People looked at some of them: 1 edited, 1 right." in (tmp_path / "x" / "README.md").read_text()
    export("cosmos", tmp_path / "cosmos")
    documents = [json.loads(path.read_text()) for path in (tmp_path / "cosmos" / "metas" / "v0").iterdir()]
    captions = {window["qwen_caption"] for document in documents for window in document["windows"]}
    assert " as I would\nhave it" in captions
    done, contents, _ = export("jsonl", tmp_path / "x", videos="links", reviewed="only", min_confidence=0.0)
    assert (done[0].left_out["not_reviewed"], contents.samples) == (1, 2)
    done, _, _ = export("jsonl", tmp_path / "x", videos="links", reviewed="ignore", include_flagged=True)
    assert {row["caption"] for row in lines(tmp_path / "x")} >= {row.text for row in rows}


def verdict(row, said, edited=None, reviewer="a"):
    frames = {"clip_id": row.clip_id, "start_frame": row.start_frame, "end_frame": row.end_frame}
    text = {"text": row.text, "text_hash": text_hash(row.text), "edited": edited}
    return VerdictRow(key=row.key, verdict=said, reviewer=reviewer, at="2026-11-26T00:00:00.000000Z", **frames, **text)


def test_an_edit_that_made_json_something_else_stays_in_every_format(export, out, tmp_path):
    schema = '{"type":"object","properties":{"x":{"type":"number"}}}'
    first, second, *_ = rows = out.read_rows(WINDOW_CAPTIONS, "a", "qwen")
    answers = [replace(row, text='{"x":1}', is_json=True, json_schema=schema) for row in rows]
    out.commit_rows(WINDOW_CAPTIONS, "a", answers, "qwen")
    edits = {'{"x": "two"}': first, '{"x": 2}': second}
    out.put_part(SHARD_REVIEW, "a", [verdict(answers[rows.index(of)], "edited", text) for text, of in edits.items()])
    _, contents, _ = export("cosmos", tmp_path / "x", shards=["a"])
    assert contents.left_out["invalid_json"] == 1
    documents = [json.loads(path.read_text()) for path in (tmp_path / "x" / "metas" / "v0").glob("*.json")]
    found = [window["qwen_structured"]["x"] for document in documents for window in document["windows"]]
    assert sorted(found) == [1] * (len(rows) - 2) + [2]


def test_several_keys_ask_for_a_choice(export, out, tmp_path):
    rows = [replace(row, key="qwen3") for row in out.read_rows(WINDOW_CAPTIONS, "a", "qwen")]
    out.commit_rows(WINDOW_CAPTIONS, "a", rows, "qwen3")
    with pytest.raises(ConfigError, match=r"several: qwen, qwen3\. Choose with --key"):
        export("jsonl", tmp_path / "x")
    with pytest.raises(ConfigError, match="none of that key"):
        export("jsonl", tmp_path / "x", key="qwen4")
    with pytest.raises(ConfigError, match="there are none"):
        export("jsonl", tmp_path / "x", key="qwen", text="enhanced")
    assert not (tmp_path / "x").exists()
    export("jsonl", tmp_path / "x", key="qwen3", videos="links")
    assert {row["caption_key"] for row in lines(tmp_path / "x")} == {"qwen3"}


def test_whole_clips_go_only_where_a_text_is_about_all_of_them(export, out, tmp_path):
    done, _, _ = export("musubi", tmp_path / "copies", videos="clips")
    assert [of.left_out.get("part_of_clip", 0) for of in done] == [3, 0]
    rows = lines(tmp_path / "copies")
    hashes = {row.clip_id: row for shard in ("a", "b") for row in out.read_rows(CLIP_WINDOWS, shard)}
    for row in rows:
        copy = Path(row["video_path"])
        assert copy.read_bytes() == Path(hashes[copy.stem].location).read_bytes()
    # A format that says which frames a text is about has all windows, of clips that are there once.
    _, contents, _ = export("jsonl", tmp_path / "parts", videos="clips")
    assert contents.samples == 6
    assert len(list((tmp_path / "parts" / "videos").iterdir())) == 4


def test_links_lead_to_the_clips_where_they_lie(export, out, tmp_path):
    export("txt", tmp_path / "txt", videos="links")
    links = list((tmp_path / "txt" / "videos").glob("*.mp4"))
    assert len(links) == 3
    assert all(link.is_symlink() and link.resolve().is_file() for link in links)
    export("csv", tmp_path / "csv", videos="links")
    assert not (tmp_path / "csv" / "videos").exists()
    assert changed(export("txt", tmp_path / "txt", videos="links")) == 0
    export("txt", tmp_path / "txt", videos="windows")
    assert not [path for path in (tmp_path / "txt" / "videos").iterdir() if path.is_symlink()]
    assert all(link.resolve().is_file() for link in links if link.is_symlink())
    with pytest.raises(ConfigError, match="Choose windows or clips"):
        export("webdataset", tmp_path / "tars", videos="links")


@pytest.mark.parametrize(("location", "forms"), [("s3://b/0.tar#x.mp4?bytes=1-9", FORMATS), ("s3://b/x.mp4", ("txt",))])
def test_links_that_cannot_be_are_refused_with_what_the_format_can_have(export, out, tmp_path, location, forms):
    rows = [replace(row, location=location) for row in out.read_rows(CLIP_WINDOWS, "a")]
    out.commit_rows(CLIP_WINDOWS, "a", rows)
    for name in forms:
        others = [each for each in FORMATS[name].videos if each != "links"]
        if "links" in FORMATS[name].videos:
            fix = f"Ask for {' or '.join(f'--videos {each}' for each in others)}"
            with pytest.raises(ConfigError, match=rf"^export {name} with links to .*{fix}"):
                export(name, tmp_path / name, videos="links")


def test_a_clip_that_has_changed_since_is_told_and_the_rest_goes_out(captioned, workers, tmp_path, export):
    root = shutil.copytree(captioned, tmp_path / "own")
    store = Store(root / "out")
    dataset = open_dataset(str(root / "clips"))
    for shard in dataset.shards():  # their location is another one now
        window_shard(
            StepContext(store, workers), dataset, shard, WindowSettings(window_size=48, remainder_threshold=24)
        )
    shutil.copy(root / "clips" / "b" / "deep" / "only.mp4", root / "clips" / "a" / "short.mp4")
    (root / "clips" / "a" / "long.mp4").unlink()
    for videos, lost in (("windows", 4), ("clips", 1)):
        done, contents, _ = export("txt", tmp_path / videos, store=store, videos=videos)
        assert done[0].left_out["no_video"] == lost
        assert any("has changed since" in sentence for sentence in done[0].failed)
        assert contents.samples == 2
    done, _, _ = export("webdataset", tmp_path / "tars", store=store)
    assert (done[0].samples, done[0].left_out["no_video"]) == (1, 4)


def test_windows_that_were_kept_as_files_are_taken_as_they_are(export, out, tmp_path):
    rows = out.read_rows(CLIP_WINDOWS, "b")
    rel = f"window_clips/{rows[0].clip_id}/0_44.mp4"
    out.write_bytes(rel, b"an mp4")
    out.commit_rows(CLIP_WINDOWS, "b", [replace(rows[0], mp4_path=rel)])
    export("txt", tmp_path / "x", shards=["b"])
    assert next((tmp_path / "x" / "videos").glob("*.mp4")).read_bytes() == b"an mp4"


def test_files_hold_no_more_than_they_may(export, out, tmp_path, make_clip, workers):
    done, _, _ = export("webdataset", tmp_path / "x", max_file_mib=1)
    assert done[0].changes.written == 1
    rows = []
    for number in range(6):
        row = window(f"00000000-0000-0000-0000-{number:012d}", 0, 249, mp4_path=f"kept/{number}.mp4")
        out.write_bytes(f"kept/{number}.mp4", bytes([number]) * 400_000)
        rows.append(row)
    out.commit_rows(CLIP_WINDOWS, "c", rows)
    out.commit_rows(WINDOW_CAPTIONS, "c", [caption(row, f"text {row.clip_id}") for row in rows], "qwen")
    for form, suffix in (("webdataset", "tar"), ("parquet", "parquet")):
        export(form, tmp_path / form, shards=["c"], max_file_mib=1)
        tars = sorted((tmp_path / form / "data").iterdir())
        assert [tar.name for tar in tars] == [f"c-{number:05d}.{suffix}" for number in range(3)]
        assert all(tar.stat().st_size <= 1 << 20 for tar in tars)
    before = files(tmp_path / "webdataset")
    change(out, "c", 4, text="another text")
    export("webdataset", tmp_path / "webdataset", shards=["c"], max_file_mib=1)
    after = files(tmp_path / "webdataset")
    assert [rel for rel in after if rel.endswith(".tar") and after[rel] != before[rel]] == ["data/c-00002.tar"]
    out.commit_rows(CLIP_WINDOWS, "c", rows[:3])
    export("webdataset", tmp_path / "webdataset", shards=["c"], max_file_mib=1)
    assert len(list((tmp_path / "webdataset" / "data").iterdir())) == 2


def test_splits_depend_on_the_clip_alone():
    settings = ExportSettings(validation=0.1, test=0.2)
    clips = [window(content_hash=f"{number:032x}") for number in range(2000)]
    splits = [split_of(row, settings) for row in clips]
    assert {name: round(splits.count(name) / 2000, 1) for name in ("train", "validation", "test")} == {
        "train": 0.7,
        "validation": 0.1,
        "test": 0.2,
    }
    renamed = [replace(row, clip_id=BIKES[::-1], relative_path="elsewhere.mp4", start_frame=1) for row in clips]
    assert [split_of(row, settings) for row in renamed] == splits
    # A larger test set holds the smaller one.
    larger = ExportSettings(validation=0.1, test=0.3)
    assert all(split_of(row, larger) == "test" for row, split in zip(clips, splits, strict=True) if split == "test")
    with pytest.raises(ValueError, match="nothing to train on"):
        ExportSettings(validation=0.5, test=0.5)


def test_a_text_that_pandas_takes_for_missing_stays_out_of_csv(export, out, tmp_path):
    change(out, "b", 0, text="None")
    done, _, _ = export("diffsynth", tmp_path / "csv", shards=["b"])
    assert done[0].left_out == {"reads_as_missing": 1}
    _, contents, _ = export("musubi", tmp_path / "jsonl", shards=["b"])
    assert contents.samples == 1


def test_the_card_says_what_is_in_it(export, out, tmp_path):
    export("jsonl", tmp_path / "x", videos="links", license="cc-by-4.0")
    text = (tmp_path / "x" / "README.md").read_text()
    assert text.startswith('---\nlicense: "cc-by-4.0"\n')
    assert "| all | 6 | 4 |" in text
    assert "| `qwen` | some/model |" in text
    assert "terms on which they were got" in text


def test_memory_is_that_of_one_shard_however_many_there_are(tmp_path, export):
    store = Store(tmp_path / "many")

    def peak(shards: int) -> int:
        for number in range(len(store.shards(CLIP_WINDOWS)), shards):
            rows = [window(f"{number:08d}-0000-0000-0000-{clip:012d}") for clip in range(300)]
            store.commit_rows(CLIP_WINDOWS, f"{number:03d}", rows)
            store.commit_rows(WINDOW_CAPTIONS, f"{number:03d}", [caption(row, "word " * 150) for row in rows], "qwen")
        tracemalloc.start()
        _, contents, _ = export("jsonl", tmp_path / f"x{shards}", store=store, videos="links")
        assert contents.samples == shards * 300
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few, many = peak(3), peak(15)
    assert many < 1.25 * few
