"""The store, in every kind of place: durable parts, atomic commits, and refusals in plain words."""

import gc
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from caption_assets.errors import StoreError
from caption_assets.store.conditions import md5
from caption_assets.store.rows import PreviewRow
from caption_assets.store.scratch import FOLDER, Scratch
from caption_assets.store.store import Looked, Store
from caption_assets.store.tables import CLIP_WINDOWS, SHARD_REVIEW, WINDOW_CAPTIONS, WINDOW_PREVIEWS
from caption_assets_tests.rows import BIKES, COSMOS, caption, failed_caption, failed_clip, preview, verdict, window

WINDOWS = [window(COSMOS, start, start + 255) for start in (0, 256, 512)]
CAPTIONS = [caption(row, f"Window {number}.") for number, row in enumerate(WINDOWS)]


def files_below(store: Store) -> list[str]:
    return sorted(path.relative_to(store.url()).as_posix() for path in Path(store.url()).rglob("*") if path.is_file())


# Tables


def test_a_shard_without_a_table_has_no_rows(store: Store) -> None:
    assert store.read_rows(CLIP_WINDOWS, "shard") == []
    assert store.keys(WINDOW_CAPTIONS, "shard") == []
    assert store.look(CLIP_WINDOWS, "shard") == {None: Looked(None, ())}


def test_committed_rows_are_read_back_in_order(store: Store) -> None:
    committed = store.commit_rows(CLIP_WINDOWS, "shard", [*reversed(WINDOWS), failed_clip()])
    assert committed.rel == "tables/clip_windows/shard.parquet"
    assert store.read_rows(CLIP_WINDOWS, "shard") == [*WINDOWS, failed_clip()]
    store.commit_rows(CLIP_WINDOWS, "shard", [])
    assert store.read_rows(CLIP_WINDOWS, "shard") == []


def test_every_caption_key_has_its_own_table(store: Store) -> None:
    other = [caption(row, "Other.", "nemotron-fp8") for row in WINDOWS]
    store.commit_rows(WINDOW_CAPTIONS, "shard", CAPTIONS, "qwen")
    store.append_rows(WINDOW_CAPTIONS, "shard", other, "nemotron-fp8")
    store.commit_rows(WINDOW_CAPTIONS, "other shard", [caption(WINDOWS[0], key="qwen3")], "qwen3")
    assert store.keys(WINDOW_CAPTIONS, "shard") == ["nemotron-fp8", "qwen"]
    assert store.read_rows(WINDOW_CAPTIONS, "shard", "qwen") == CAPTIONS
    assert store.read_rows(WINDOW_CAPTIONS, "shard", "nemotron-fp8") == other


def test_appended_rows_are_durable_before_the_commit_and_the_later_ones_win(store: Store, root: UPath) -> None:
    store.commit_rows(WINDOW_CAPTIONS, "shard", [failed_caption(row) for row in WINDOWS], "qwen")
    for row in CAPTIONS[:2]:
        store.append_rows(WINDOW_CAPTIONS, "shard", [row], "qwen")
    store.append_rows(WINDOW_CAPTIONS, "shard", [], "qwen")

    resumed = Store(root)  # as another process, after a crash of the first
    assert resumed.read_rows(WINDOW_CAPTIONS, "shard", "qwen") == [*CAPTIONS[:2], failed_caption(WINDOWS[2])]
    again = caption(WINDOWS[1], "Second thoughts.")
    resumed.append_rows(WINDOW_CAPTIONS, "shard", [again], "qwen")
    assert Store(root).read_rows(WINDOW_CAPTIONS, "shard", "qwen")[1] == again

    rows = [CAPTIONS[0], again, CAPTIONS[2]]
    resumed.commit_rows(WINDOW_CAPTIONS, "shard", rows, "qwen")
    assert Store(root).read_rows(WINDOW_CAPTIONS, "shard", "qwen") == rows
    assert store.names("tables/window_captions/qwen") == ["shard.parquet"]


def test_a_crash_between_commit_and_clearing_brings_no_old_row_back(local: Store) -> None:
    local.append_rows(CLIP_WINDOWS, "shard", [window(COSMOS, 0, 95), window(COSMOS, 96, 191)])
    parts = Path(local.url("tables/clip_windows/shard.parts"))
    shutil.copytree(parts, parts.with_name("kept"))
    local.commit_rows(CLIP_WINDOWS, "shard", WINDOWS)
    parts.with_name("kept").rename(parts)  # as if the parts had never been removed

    assert local.read_rows(CLIP_WINDOWS, "shard") == WINDOWS
    local.append_rows(CLIP_WINDOWS, "shard", [failed_clip()])
    assert local.read_rows(CLIP_WINDOWS, "shard") == [*WINDOWS, failed_clip()]
    local.commit_rows(CLIP_WINDOWS, "shard", WINDOWS)
    assert files_below(local) == ["tables/clip_windows/shard.parquet"]


def test_two_writers_of_a_shard_keep_each_others_parts(store: Store, root: UPath) -> None:
    one, other = Store(root), Store(root)
    one.append_rows(WINDOW_CAPTIONS, "shard", CAPTIONS[:1], "qwen")
    other.append_rows(WINDOW_CAPTIONS, "shard", CAPTIONS[1:2], "qwen")
    one.append_rows(WINDOW_CAPTIONS, "shard", CAPTIONS[2:], "qwen")
    assert store.read_rows(WINDOW_CAPTIONS, "shard", "qwen") == CAPTIONS


def test_a_shard_can_be_appended_to_while_it_is_committed_and_read(store: Store, root: UPath) -> None:
    def append() -> None:
        writer = Store(root)
        for turn in range(30):
            writer.append_rows(WINDOW_CAPTIONS, "shard", [caption(WINDOWS[0], str(turn))], "qwen")

    def commit() -> None:
        writer = Store(root)
        for _ in range(30):
            writer.commit_rows(WINDOW_CAPTIONS, "shard", CAPTIONS[1:], "qwen")

    with ThreadPoolExecutor() as threads:
        work = [threads.submit(append), threads.submit(commit)]
        while not all(job.done() for job in work):
            assert set(store.read_rows(WINDOW_CAPTIONS, "shard", "qwen")[-2:]) <= {*CAPTIONS[1:]} | {
                caption(WINDOWS[0], str(turn)) for turn in range(30)
            }
        for job in work:
            job.result()
    store.append_rows(WINDOW_CAPTIONS, "shard", CAPTIONS[:1], "qwen")
    assert store.read_rows(WINDOW_CAPTIONS, "shard", "qwen") == CAPTIONS


def test_a_folder_that_goes_while_it_is_being_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit removes the parts' folder when it is empty, which may be between an append's look and its write."""
    folder = tmp_path / "tables" / "clip_windows" / "shard.parts"
    folder.mkdir(parents=True)
    mkdir, removed = os.mkdir, []

    def lose_the_folder(path: str, mode: int = 0o777) -> None:
        try:
            mkdir(path, mode)
        except FileExistsError:
            if Path(path) == folder and not removed:
                folder.rmdir()
                removed.append(path)
            raise

    monkeypatch.setattr(os, "mkdir", lose_the_folder)
    store = Store(tmp_path)
    store.append_rows(CLIP_WINDOWS, "shard", WINDOWS[:1])
    assert len(removed) == 1
    assert store.read_rows(CLIP_WINDOWS, "shard") == WINDOWS[:1]


def test_files_of_others_among_the_parts_are_ignored(store: Store) -> None:
    store.write_bytes("tables/clip_windows/shard.parts/notes.parquet", b"not ours")
    store.append_rows(CLIP_WINDOWS, "shard", WINDOWS)
    assert store.read_rows(CLIP_WINDOWS, "shard") == WINDOWS
    store.commit_rows(CLIP_WINDOWS, "shard", WINDOWS)
    assert store.names("tables/clip_windows/shard.parts") == ["notes.parquet"]


def test_the_stamp_changes_with_every_commit_of_other_rows(store: Store) -> None:
    stamps = []
    for row in CAPTIONS:
        store.commit_rows(WINDOW_CAPTIONS, "shard", [row], "qwen")
        stamps.append(store.look(WINDOW_CAPTIONS, "shard")["qwen"].stamp)
    assert len(set(stamps)) == len(CAPTIONS)
    assert stamps[-1] == store.look(WINDOW_CAPTIONS, "shard")["qwen"].stamp


@pytest.mark.parametrize("rel", ["tables/clip_windows/s.parquet", "tables/clip_windows/s.parts/00000000-ab.parquet"])
@pytest.mark.parametrize("damage", [b"", b"PAR1 and then nothing", None])
def test_a_damaged_table_is_reported_with_its_path_and_the_remedy(store: Store, rel: str, damage: bytes | None) -> None:
    if damage is None:
        whole = store.read_bytes(store.commit_rows(CLIP_WINDOWS, "whole", WINDOWS).rel)
        assert whole
        damage = whole[: len(whole) // 2]
    store.write_bytes(rel, damage)
    with pytest.raises(StoreError, match=r"no readable table of clip_windows.*Delete it and materialize") as caught:
        store.read_rows(CLIP_WINDOWS, "s")
    assert store.url(rel) in str(caught.value)


def test_rows_of_another_table_are_refused(local: Store) -> None:
    with pytest.raises(StoreError, match="belongs to another table"):
        local.commit_rows(CLIP_WINDOWS, "shard", CAPTIONS)
    with pytest.raises(StoreError, match="'qwen' to window_captions qwen3: it belongs to another table"):
        local.append_rows(WINDOW_CAPTIONS, "shard", CAPTIONS, "qwen3")
    with pytest.raises(StoreError, match="a table for each <caption key>"):
        local.commit_rows(WINDOW_CAPTIONS, "shard", CAPTIONS)
    with pytest.raises(StoreError, match="one table, without keys"):
        local.commit_rows(CLIP_WINDOWS, "shard", WINDOWS, "qwen")
    assert not Path(local.url()).exists()


# Bytes


def test_bytes_are_written_read_listed_and_deleted(store: Store) -> None:
    rel = f"previews/{BIKES}/0_249.webp"
    assert store.read_bytes(rel) is None
    store.write_bytes(rel, b"first")
    store.write_bytes(rel, b"second")
    assert store.read_bytes(rel) == b"second"
    assert store.names(f"previews/{BIKES}") == ["0_249.webp"]
    assert store.names("previews") == [BIKES]
    store.delete(rel)
    store.delete(rel)
    assert store.read_bytes(rel) is None
    store.delete_empty_folder(f"previews/{BIKES}")
    assert store.names("previews") == []


def test_a_file_is_written_where_it_is_as_expected_and_left_where_it_is_not(store: Store) -> None:
    rel = "metas/v0/x.json"
    if not store.url().startswith("s3:"):  # which cannot tell
        assert not store.write_where(rel, b"first", None)
        assert store.read_bytes(rel) is None
        return
    assert store.write_where(rel, b"first", None)
    assert not store.write_where(rel, b"second", None)
    assert store.read_bytes(rel) == b"first"
    assert not store.write_where(rel, b"second", md5(b"other"))
    assert store.read_bytes(rel) == b"first"
    assert store.write_where(rel, b"second", md5(b"first"))
    assert store.read_bytes(rel) == b"second"
    assert not store.write_where("metas/v0/gone.json", b"second", md5(b"first"))
    assert store.names("metas/v0") == ["x.json"]


def test_names_with_spaces_marks_and_letters_of_all_kinds_work(store: Store) -> None:
    rel = "processed_videos/sub folder/自転車 #1 50% é?.mp4.json"
    store.write_bytes(rel, b"x")
    assert store.read_bytes(rel) == b"x"
    assert store.names("processed_videos/sub folder") == ["自転車 #1 50% é?.mp4.json"]
    store.commit_rows(CLIP_WINDOWS, "Ärger & 50%", WINDOWS)
    assert store.read_rows(CLIP_WINDOWS, "Ärger & 50%") == WINDOWS


@pytest.mark.parametrize("rel", ["", "/etc/passwd", "../out2/x", "a/../../b", "a//b", "a/./b", "a\0b"])
def test_paths_that_lead_out_of_the_root_are_refused(local: Store, rel: str) -> None:
    for act in (local.read_bytes, local.delete, lambda rel: local.write_bytes(rel, b""), local.names):
        with pytest.raises(StoreError, match="it leads elsewhere"):
            act(rel)


# Places


def test_a_place_that_can_be_written_is_left_as_it_was(store: Store) -> None:
    store.check_writable()
    assert store.read_bytes("x") is None
    assert store.names("x") == []


def test_a_local_check_creates_nothing(tmp_path: Path) -> None:
    Store(tmp_path / "a" / "b").check_writable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "deep/er"])
def test_an_output_path_that_is_or_lies_below_a_file_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    store = Store(tmp_path / "file" / below)
    with pytest.raises(StoreError, match=r"file is not a folder\. Choose an output path that is not a file"):
        store.check_writable()
    with pytest.raises(StoreError, match=r"write .*: (Not a directory|File exists)"):
        store.write_bytes("a/b", b"")
    assert store.read_bytes("a/b") is None
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a folder that even root cannot write")
@pytest.mark.parametrize("root", ["/proc/caption_assets", "/sys/kernel/caption_assets/out"])
def test_a_place_without_permission_is_refused(root: str) -> None:
    with pytest.raises(StoreError, match=r"cannot be written: .*\. Choose an output path that this process can write"):
        Store(root).check_writable()


def test_a_bucket_that_is_missing_is_refused(s3_options: dict[str, str]) -> None:
    with pytest.raises(StoreError, match=r"write below s3://nowhere/out: The specified bucket does not exist"):
        Store(UPath("s3://nowhere/out", **s3_options)).check_writable()


def test_a_server_that_is_down_is_a_store_error() -> None:
    root = UPath(
        "s3://bucket/out",
        key="k",
        secret="s",
        endpoint_url="http://127.0.0.1:9",
        config_kwargs={"retries": {"max_attempts": 0}, "connect_timeout": 1},
    )
    with pytest.raises(StoreError, match="write below s3://bucket/out"):
        Store(root).check_writable()
    with pytest.raises(StoreError, match=r"read s3://bucket/out/a\.json"):
        Store(root).read_bytes("a.json")


@pytest.mark.parametrize(("root", "wrong"), [("", "it is empty"), ("nothing://x", "it cannot be opened")])
def test_a_root_that_is_no_place_is_refused_at_once(root: str, wrong: str) -> None:
    with pytest.raises(StoreError, match=wrong):
        Store(root)


def test_a_relative_root_stays_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("out")
    monkeypatch.chdir("/")
    store.write_bytes("a", b"1")
    assert (tmp_path / "out" / "a").read_bytes() == b"1"
    assert Store(f"file://{tmp_path}/out").read_bytes("a") == b"1"
    assert store.url("a") == f"{tmp_path}/out/a"


# Files of rows

OLD = [preview(window(BIKES, start, start + 95)) for start in (0, 96)] + [preview(window(COSMOS, 0, 255))]


def write_files(store: Store) -> None:
    for row in OLD:
        store.write_bytes(str(row.path), b"webp")
    store.write_bytes(f"previews/{BIKES}/poster.webp", b"theirs")


def test_files_that_no_row_names_any_more_go_with_the_commit_and_nothing_else(store: Store) -> None:
    write_files(store)
    store.commit_rows(WINDOW_PREVIEWS, "s", OLD[:2])
    store.append_rows(WINDOW_PREVIEWS, "s", OLD[2:])
    failed = preview(window(BIKES, 96, 191), path=None, status="failed", error_kind="preview")
    store.commit_rows(WINDOW_PREVIEWS, "s", [OLD[0], failed])
    assert store.names("previews") == [BIKES]
    assert store.names(f"previews/{BIKES}") == ["0_95.webp", "poster.webp"]


@pytest.mark.parametrize("again", [OLD[:1], []], ids=["same rows", "no rows"])
def test_what_a_process_that_died_in_a_commit_has_left_goes_with_the_next(
    store: Store, again: list[PreviewRow]
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    write_files(store)
    store.commit_rows(WINDOW_PREVIEWS, "s", OLD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(store._files), "delete", die)
        with pytest.raises(Killed):
            store.commit_rows(WINDOW_PREVIEWS, "s", OLD[:1])
    assert store.names("previews") == sorted([BIKES, COSMOS])
    assert store.read_rows(WINDOW_PREVIEWS, "s") == OLD[:1]
    store.commit_rows(WINDOW_PREVIEWS, "s", again)
    assert store.names(f"previews/{BIKES}") == [*(["0_95.webp"] if again else []), "poster.webp"]
    assert store.names("previews") == [BIKES]


def test_files_that_were_announced_and_that_no_row_came_to_name_go_with_the_next_commit(
    store: Store, root: UPath
) -> None:
    store.announce(WINDOW_PREVIEWS, "s", [str(row.path) for row in OLD])
    write_files(store)
    Store(root).commit_rows(WINDOW_PREVIEWS, "s", OLD[:1])
    assert store.names(f"previews/{BIKES}") == ["0_95.webp", "poster.webp"]
    assert store.names("previews") == [BIKES]


def test_a_commit_tells_whether_somebody_else_has_written_the_table_meanwhile(store: Store, root: UPath) -> None:
    ours, before = WINDOWS[:2], store.read_table(CLIP_WINDOWS, "s")
    store.append_rows(CLIP_WINDOWS, "s", ours)
    other = Store(root)
    assert store.commit_rows(CLIP_WINDOWS, "s", ours, before=before).alone
    assert not other.commit_rows(CLIP_WINDOWS, "s", WINDOWS, before=before).alone
    before = store.read_table(CLIP_WINDOWS, "s")
    other.append_rows(CLIP_WINDOWS, "s", ours)
    assert not store.commit_rows(CLIP_WINDOWS, "s", ours, before=before).alone
    assert store.commit_rows(CLIP_WINDOWS, "s", ours).alone


def test_a_file_that_is_named_again_stays(store: Store) -> None:
    write_files(store)
    store.commit_rows(WINDOW_PREVIEWS, "s", OLD)
    store.commit_rows(WINDOW_PREVIEWS, "s", OLD[:1])
    store.write_bytes(str(OLD[1].path), b"made again")
    for _ in range(2):
        store.commit_rows(WINDOW_PREVIEWS, "s", OLD[:2])
        assert store.read_bytes(str(OLD[1].path)) == b"made again"


@pytest.mark.parametrize("path", ["metas/v0/c.json", "previews/other/0_9.webp", "previews/c/sub/x", "previews/c/.."])
def test_no_file_outside_a_clips_own_folder_is_removed(local: Store, path: str) -> None:
    for rel in ("metas/v0/c.json", "previews/other/0_9.webp", "previews/c/sub/x"):
        local.write_bytes(rel, b"")
    local.commit_rows(WINDOW_PREVIEWS, "s", [preview(window("c"), path=path)])
    before = files_below(local)
    local.commit_rows(WINDOW_PREVIEWS, "s", [])
    assert files_below(local) == before


def test_a_table_that_holds_just_these_rows_is_left_as_it_is(store: Store) -> None:
    store.commit_rows(WINDOW_CAPTIONS, "s", CAPTIONS, "qwen")
    path = Path(store.url("tables/window_captions/qwen/s.parquet"))
    before = path.stat() if path.exists() else None
    stored = store.read_table(WINDOW_CAPTIONS, "s", "qwen")
    store.commit_rows(WINDOW_CAPTIONS, "s", list(reversed(CAPTIONS)), "qwen", before=stored)
    assert not before or (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    store.append_rows(WINDOW_CAPTIONS, "s", CAPTIONS[:1], "qwen")
    store.commit_rows(WINDOW_CAPTIONS, "s", CAPTIONS, "qwen", before=stored)
    assert store.names("tables/window_captions/qwen") == ["s.parquet"]


def test_what_a_killed_process_was_writing_goes_with_the_next_write_and_what_another_writes_stays(
    local: Store, tmp_path: Path
) -> None:
    writing, other = tmp_path / "out" / FOLDER, Scratch(str(tmp_path / "out"))
    with other.create() as file:
        file.write(b"half")
    abandoned = writing / "of-a-process-that-is-gone"
    abandoned.mkdir()
    (abandoned / "file").write_bytes(b"half")
    local.write_bytes("a/b", b"whole")
    assert not abandoned.exists()
    assert [path.read_bytes() for path in writing.rglob("*") if path.is_file()] == [b"half"]
    del other, file
    gc.collect()
    assert len(list(writing.iterdir())) == 1
    shutil.rmtree(writing)  # somebody tidies up
    local.write_bytes("a/c", b"whole")
    assert local.names("a") == ["b", "c"]


def test_nothing_is_left_of_writing_once_the_store_is_gone(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    store.write_bytes("a", b"1")
    assert (tmp_path / "out" / FOLDER).exists()
    del store
    gc.collect()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a second file system")
def test_a_folder_that_is_on_another_disk_can_be_written(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "previews").symlink_to(elsewhere)
        store = Store(str(tmp_path / "out"))
        store.write_bytes("previews/clip/0_9.webp", b"1")
        assert store.read_bytes("previews/clip/0_9.webp") == b"1"
        assert [path.name for path in Path(elsewhere).rglob("*") if path.is_file()] == ["0_9.webp"]


def test_a_part_takes_the_place_of_an_earlier_one_and_leaves_those_of_others(store: Store, root: UPath) -> None:
    text, other = CAPTIONS[0], Store(root)
    rows = [verdict(text, at="1"), verdict(text, "wrong", at="2")]
    earlier = store.put_part(SHARD_REVIEW, "s", rows[:1])
    of_other = other.put_part(SHARD_REVIEW, "s", [verdict(text, reviewer="bob", at="3")])
    later = store.put_part(SHARD_REVIEW, "s", rows, earlier)
    assert set(store.parts(SHARD_REVIEW, "s")) == {of_other, later}
    assert sorted(row.at for row in store.read_rows(SHARD_REVIEW, "s")) == ["1", "2", "3"]
