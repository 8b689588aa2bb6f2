"""Rendering a shard: what a rerun replaces, what it leaves, and writers that meet."""

import gzip
import json
import os
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from upath import UPath

from caption_assets.save_export import paths
from caption_assets.save_export.files import read_document, write_document
from caption_assets.save_export.render import RenderSummary, render_shard
from caption_assets.store.rows import CaptionRow, WindowRow
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, ENHANCED_CAPTIONS, WINDOW_CAPTIONS, WINDOW_PREVIEWS
from caption_assets_tests.rows import BIKES, COSMOS, caption, enhanced, failed_clip, preview, window

DOCUMENT = paths.clip_document(BIKES)
CHUNK = paths.processed_clip_chunk("bikes.mp4", 0)


def commit(store: Store, *captions: CaptionRow, rows: tuple[WindowRow, ...] = (window(),), shard: str = "s") -> None:
    store.commit_rows(CLIP_WINDOWS, shard, rows)
    for key in {row.key for row in captions}:
        store.commit_rows(WINDOW_CAPTIONS, shard, [row for row in captions if row.key == key], key)


def window_of(store: Store, clip_id: str = BIKES) -> dict[str, Any]:
    document = read_document(store, paths.clip_document(clip_id))
    assert document is not None
    (made,) = document["windows"]
    return made


def snapshot(store: Store) -> dict[str, tuple[int, int]]:
    files = [path for path in Path(store.url()).rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


def test_a_shard_is_rendered_in_every_kind_of_place(store: Store) -> None:
    text = caption(window())
    commit(
        store, text, rows=(window(), failed_clip(COSMOS, relative_path="sub/c.mp4", location="/data/videos/sub/c.mp4"))
    )
    store.commit_rows(WINDOW_PREVIEWS, "s", [preview(window())])
    store.commit_rows(ENHANCED_CAPTIONS, "s", [enhanced(text)], "qwen/qwen_lm")
    assert render_shard(store, "s") == RenderSummary(written=6, unchanged=0)
    assert window_of(store)["qwen_lm_enhanced_caption"] == "A fine bike."
    chunk = read_document(store, CHUNK)
    assert chunk is not None
    assert chunk["all_windows"] == {BIKES: {"0_249": "A bike."}}
    assert (chunk["num_clips_with_webp"], chunk["num_windows"], chunk["num_windows_with_caption"]) == (1, 1, 1)
    assert store.names("processed_videos/sub") == ["c.mp4.json"]
    assert store.names("metas/v0") == sorted([f"{BIKES}.json", f"{COSMOS}.json"])
    assert render_shard(store, "s") == RenderSummary(written=0, unchanged=6)


def test_a_shard_without_tables_renders_nothing(local: Store) -> None:
    assert render_shard(local, "s") == RenderSummary(0, 0)
    assert not Path(local.url()).exists()


def test_a_second_render_touches_no_file(local: Store) -> None:
    commit(local, caption(window()))
    render_shard(local, "s")
    before = snapshot(local)
    assert render_shard(local, "s").written == 0
    assert snapshot(local) == before


def test_a_rerun_replaces_its_own_key_and_leaves_another_variants(local: Store) -> None:
    commit(local, caption(window(), "Old."), caption(window(), "Other.", "qwen3"))
    render_shard(local, "s", caption_keys=["qwen"])
    local.commit_rows(WINDOW_CAPTIONS, "s", [caption(window(), "New.")], "qwen")
    assert render_shard(local, "s", caption_keys=["qwen"]) == RenderSummary(written=2, unchanged=1)
    made = window_of(local)
    assert (made["qwen_caption"], made["qwen3_caption"]) == ("New.", "Other.")


def test_the_given_order_of_keys_decides_whose_caption_stands_in_the_chunk(local: Store) -> None:
    commit(local, *(caption(window(), key, key) for key in ("a", "b", "c")))
    render_shard(local, "s", caption_keys=["c", "missing", "b"])
    assert [key for key in window_of(local) if key.endswith("_caption")] == ["c_caption", "b_caption", "a_caption"]
    chunk = read_document(local, CHUNK)
    assert chunk is not None
    assert chunk["all_windows"] == {BIKES: {"0_249": "c"}}


def test_torn_documents_are_replaced(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    commit(store, caption(window()))
    render_shard(store, "s")
    whole = {rel: store.read_bytes(rel) for rel in (DOCUMENT, CHUNK)}
    for rel, data in whole.items():
        assert data
        store.write_bytes(rel, data[: len(data) // 2])
    if store.url().startswith("s3:"):  # there, no request is made to find out
        assert render_shard(store, "s").written == 0
        store.delete(paths.rendered("s"))
    assert render_shard(store, "s").written >= 2
    assert {rel: store.read_bytes(rel) for rel in whole} == whole
    assert f"{store.url(DOCUMENT)}: it is torn" in caplog.text


def test_a_document_with_another_tools_nan_can_still_be_rendered(local: Store) -> None:
    commit(local, caption(window()))
    local.write_bytes(DOCUMENT, b'{"aesthetic_score": NaN, "motion_score": {"global_mean": 0.5}}')
    render_shard(local, "s")
    document = read_document(local, DOCUMENT)
    assert document is not None
    assert document["aesthetic_score"] is None
    assert document["motion_score"] == {"global_mean": 0.5}


def test_rows_that_are_durable_but_not_committed_are_rendered(local: Store) -> None:
    commit(local)
    local.append_rows(WINDOW_CAPTIONS, "s", [caption(window())], "qwen")
    render_shard(local, "s")
    assert window_of(local)["qwen_caption"] == "A bike."


# Clips that a splitter cut


def seed_cut(store: Store, clip_id: str, source: str = "/data/videos/sub/long.mp4") -> WindowRow:
    write_document(store, paths.clip_document(clip_id), {"source_video": source, "duration_span": [0.0, 10.0]})
    return window(clip_id, location=store.url(f"clips/{clip_id}.mp4"), relative_path=f"{clip_id}.mp4")


def seed_chunk(store: Store, index: int, *clip_ids: str) -> None:
    chunk = {"video": "/data/videos/sub/long.mp4", "clips": list(clip_ids), "filtered_clips": []}
    write_document(store, paths.processed_clip_chunk("sub/long.mp4", index), chunk)


def chunk_of(store: Store, index: int) -> dict[str, Any]:
    chunk = read_document(store, paths.processed_clip_chunk("sub/long.mp4", index))
    assert chunk is not None
    return chunk


def test_shards_that_share_a_chunk_are_merged(store: Store) -> None:
    seed_chunk(store, 0, "a", "b")
    seed_chunk(store, 1, "c")
    rows = {clip_id: seed_cut(store, clip_id) for clip_id in "abc"}
    for shard, clip_ids in {"one": "a", "two": "bc"}.items():
        captions = [caption(rows[clip_id], clip_id.upper()) for clip_id in clip_ids]
        commit(store, *captions, rows=tuple(rows[clip_id] for clip_id in clip_ids), shard=shard)
        render_shard(store, shard, source_root="/data/videos")
    assert chunk_of(store, 0)["all_windows"] == {"a": {"0_249": "A"}, "b": {"0_249": "B"}}
    assert chunk_of(store, 1)["all_windows"] == {"c": {"0_249": "C"}}
    assert chunk_of(store, 0)["num_clips_with_caption"] == 2
    assert store.names("processed_clip_chunks/sub") == ["long.mp4_0.json", "long.mp4_1.json"]
    assert render_shard(store, "one", source_root="/data/videos").written == 0


def test_a_chunk_that_the_splitter_could_not_write_leaves_a_gap(local: Store) -> None:
    seed_chunk(local, 2, "c")
    rel = paths.processed_video("sub/long.mp4")
    write_document(local, rel, {"video": "/data/videos/sub/long.mp4", "num_clip_chunks": 3, "num_total_clips": 9})
    commit(local, caption(row := seed_cut(local, "c")), rows=(row,))
    render_shard(local, "s")
    assert chunk_of(local, 2)["all_windows"] == {"c": {"0_249": "A bike."}}
    assert local.names("processed_clip_chunks/sub") == ["long.mp4_2.json"]


def test_previews_of_the_original_pipeline_count_too(local: Store) -> None:
    seed_chunk(local, 0, "a", "b")
    write_document(local, paths.clip_document("b"), {"windows": [{"start_frame": 0, "end_frame": 9}]})
    local.write_bytes(paths.preview("b", 0, 9), b"webp")
    commit(local, rows=(seed_cut(local, "a"),))
    render_shard(local, "s", source_root="/data/videos")
    assert chunk_of(local, 0)["num_clips_with_webp"] == 1


def test_clips_that_no_chunk_lists_make_chunk_0(local: Store) -> None:
    for shard in "ab":
        commit(local, rows=(seed_cut(local, shard),), shard=shard)
        render_shard(local, shard, source_root="/data/videos")
    assert chunk_of(local, 0)["clips"] == ["a", "b"]
    video = read_document(local, paths.processed_video("sub/long.mp4"))
    assert video is not None
    assert (video["num_total_clips"], video["num_clip_chunks"]) == (2, 1)


def test_a_source_outside_its_root_is_left_with_a_warning_and_the_rest_is_written(
    local: Store, caplog: pytest.LogCaptureFixture
) -> None:
    commit(local, caption(window()), rows=(window(), seed_cut(local, "a")))
    render_shard(local, "s", source_root="/data/vid")
    (warned,) = [record.getMessage() for record in caplog.records]
    assert local.url(paths.clip_document("a")) in warned
    assert "does not lie below the source root /data/vid" in warned
    assert window_of(local)["qwen_caption"] == "A bike."
    assert local.names("processed_videos") == ["bikes.mp4.json"]


def test_two_sources_of_one_name_need_the_root(local: Store, caplog: pytest.LogCaptureFixture) -> None:
    for shard, folder in {"one": "x", "two": "y"}.items():
        commit(local, rows=(seed_cut(local, shard, f"/data/{folder}/long.mp4"),), shard=shard)
    render_shard(local, "one")
    first = snapshot(local)
    render_shard(local, "two")
    assert "another source has a file of that name" in caplog.text
    assert {name: first[name] for name in first if "processed" in name}.items() <= snapshot(local).items()
    render_shard(local, "two", source_root="/data")
    assert local.names("processed_videos") == ["long.mp4.json", "y"]


def test_a_torn_document_of_a_source_keeps_no_other_from_being_written(
    local: Store, caplog: pytest.LogCaptureFixture
) -> None:
    local.write_bytes("processed_videos/long.mp4.json", b"[]")
    commit(local, rows=(seed_cut(local, "a", "/data/x/long.mp4"),))
    render_shard(local, "s")
    assert "long.mp4.json: it is torn, or no document: it is replaced" in caplog.text
    assert "left as they are" not in caplog.text
    assert json.loads(local.read_bytes("processed_videos/long.mp4.json") or b"")["video"] == "/data/x/long.mp4"


@pytest.mark.parametrize("known", [{"of": "x", "documents": [1], "stamps": 3}, {"../x": "1"}, [1], 1, {"a": {"b": 2}}])
def test_a_damaged_list_of_what_was_rendered_is_as_none(local: Store, known: Any) -> None:
    commit(local, caption(window()))
    render_shard(local, "s")
    before = {name: state for name, state in snapshot(local).items() if "/tables/" not in name}
    inside = known if isinstance(known, dict) and "of" not in known else {}
    damaged = {"of": "x", "documents": inside, "stamps": {}} if inside else known
    local.write_bytes(paths.rendered("s"), gzip.compress(json.dumps(damaged).encode()))
    render_shard(local, "s")
    assert before
    assert before.items() <= snapshot(local).items()


@pytest.mark.parametrize("source", ["/data/../../etc/x.mp4", "/"])
def test_a_source_that_names_no_file_cannot_lead_out_of_the_root(local: Store, source: str) -> None:
    commit(local, rows=(seed_cut(local, "a", source),))
    for source_root in ("/data", "/", None):
        render_shard(local, "s", source_root=source_root)
    assert all(Path(local.url()) in Path(name).parents for name in snapshot(local))
    assert os.listdir(Path(local.url()).parent) == ["out"]


# Writers that meet


class Interrupted(Store):
    """A store in which another writer commits its captions just before the first document is written."""

    other: CaptionRow | None = caption(window(), "Theirs.", "qwen3")

    def write_if_changed(self, rel: str, data: bytes, **known: Any) -> bool:
        if self.other is not None:
            row, self.other = self.other, None
            other = Store(self.url())
            other.commit_rows(WINDOW_CAPTIONS, "s", [row], "qwen3")
            render_shard(other, "s")
        return super().write_if_changed(rel, data, **known)


def test_a_table_that_is_committed_during_a_render_is_rendered_too(local: Store) -> None:
    commit(local, caption(window(), "Ours."))
    render_shard(Interrupted(local.url()), "s")
    made = window_of(local)
    assert (made["qwen_caption"], made["qwen3_caption"]) == ("Ours.", "Theirs.")


def race(*work: Any) -> None:
    """Run all at once, in threads, and re-raise what goes wrong in any."""
    barrier, failures = Barrier(len(work)), []

    def run(act: Any) -> None:
        barrier.wait()
        try:
            act()
        except BaseException as err:
            failures.append(err)

    threads = [Thread(target=run, args=(act,)) for act in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_parallel_writers_of_a_shard_converge(root: UPath) -> None:
    rows = tuple(window(f"clip{number}", relative_path=f"{number}.mp4") for number in range(3))
    commit(Store(root), rows=rows)

    def work(key: str) -> None:
        store = Store(root)
        for turn in range(3):
            store.append_rows(WINDOW_CAPTIONS, "s", [caption(rows[0], f"{key} {turn}", key)], key)
            store.commit_rows(WINDOW_CAPTIONS, "s", [caption(row, f"{key} {turn}", key) for row in rows], key)
            render_shard(store, "s")

    race(lambda: work("a"), lambda: work("b"))
    for row in rows:
        made = window_of(Store(root), row.clip_id)
        assert (made["a_caption"], made["b_caption"]) == ("a 2", "b 2")
    assert render_shard(Store(root), "s").written == 0


def test_parallel_shards_of_one_chunk_converge(root: UPath) -> None:
    store = Store(root)
    seed_chunk(store, 0, "a", "b")
    rows = {clip_id: seed_cut(store, clip_id) for clip_id in "ab"}

    def work(shard: str) -> None:
        own = Store(root)
        for turn in range(3):
            commit(own, caption(rows[shard], f"{shard} {turn}"), rows=(rows[shard],), shard=shard)
            render_shard(own, shard, source_root="/data/videos")

    race(lambda: work("a"), lambda: work("b"))
    assert chunk_of(store, 0)["all_windows"] == {"a": {"0_249": "a 2"}, "b": {"0_249": "b 2"}}


# Documents of others that hold anything


@pytest.mark.parametrize(
    ("rel", "document", "key"),
    [
        (
            paths.clip_document("a"),
            {"source_video": "/data/videos/sub/long.mp4", "windows": [{"start_frame": [0]}]},
            "windows",
        ),
        (paths.clip_document("a"), {"source_video": ["x"], "errors": 5}, "source_video, errors"),
        (paths.processed_video("sub/long.mp4"), {"num_total_clips": "9", "num_clip_chunks": 10**12}, "num_total_clips"),
        (paths.processed_clip_chunk("sub/long.mp4", 0), {"clips": ["a"], "num_clips_passed": None}, "num_clips_passed"),
        (paths.processed_clip_chunk("sub/long.mp4", 0), {"clips": ["a", "../x", "\ud83d", 7, "x" * 300]}, "clips"),
    ],
)
def test_what_another_tool_has_put_into_a_field_costs_that_field_only(
    local: Store, caplog: pytest.LogCaptureFixture, rel: str, document: dict[str, Any], key: str
) -> None:
    row = seed_cut(local, "a")
    seed_chunk(local, 0, "a")
    write_document(local, rel, {**document, "theirs": {"kept": 1}})
    commit(local, caption(row), caption(window()), rows=(row, window()))
    render_shard(local, "s", source_root="/data/videos")
    assert f"{local.url(rel)}: what it holds in {key} cannot be used" in caplog.text
    assert (read_document(local, rel) or {})["theirs"] == {"kept": 1}
    assert window_of(local, "a")["qwen_caption"] == window_of(local)["qwen_caption"] == "A bike."


def test_a_document_that_is_too_deep_or_too_large_in_a_number_is_kept_otherwise(local: Store) -> None:
    deep = '{"a":' * 400 + "1" + "}" * 400
    local.write_bytes(DOCUMENT, f'{{"deep": {deep}, "huge": 1{"0" * 5000}, "inf": 1e999, "theirs": 1}}'.encode())
    commit(local, caption(window()))
    render_shard(local, "s")
    document = read_document(local, DOCUMENT)
    assert document is not None
    assert (document["theirs"], document["huge"], document["inf"]) == (1, None, None)
    assert "deep" in document


def test_documents_are_rendered_again_where_a_table_or_one_of_them_has_changed(local: Store) -> None:
    commit(local, caption(window()))
    assert render_shard(local, "s").written == 3
    assert render_shard(local, "s") == RenderSummary(0, 3)
    local.delete(CHUNK)
    assert render_shard(local, "s") == RenderSummary(1, 2)
    local.commit_rows(WINDOW_CAPTIONS, "s", [caption(window(), "New.")], "qwen")
    assert render_shard(local, "s") == RenderSummary(2, 1)
    local.write_bytes(paths.rendered("s"), b"nonsense")
    assert render_shard(local, "s") == RenderSummary(0, 3)
