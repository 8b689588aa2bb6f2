"""Any name that a file system or a bucket takes is a clip; what is none is said."""

import os
import re
import shutil

import pytest

from caption_assets.dataset import open_dataset, shard_key
from caption_assets.errors import DatasetError, StoreError
from caption_assets.save_export import paths
from caption_assets.settings import PreviewSettings, WindowSettings
from caption_assets.steps import StepContext, preview_shard, window_shard
from caption_assets.store import CLIP_WINDOWS, Store
from caption_assets.workers.local import Workers

PREVIEWS = PreviewSettings(target_height=16, compression_level=1)
BOTH = [
    "take::2.mp4",
    "a::zip::b.mp4",
    "\x1b[31mred\x1b[0m.mp4",
    "50%.mp4",
    "%41.mp4",
    "#1.mp4",
    "what?.mp4",
    "[a]*.mp4",
    "-dash.mp4",
    "a....mp4",
    "e\u0301.mp4",
    "\u00e9.mp4",
    "A.mp4",
    "a.mp4",
    "back\\slash.mp4",
    "written\\xff.mp4",
    " .mp4",
    "'\".mp4",
    "http:/x.mp4",
    "concat:a|b.mp4",
    "%03d.mp4",
    "\U0001f600.mp4",
    "n" * 251 + ".mp4",
]
OF_DISKS = [b"new\nline.mp4", b"\xff\xfe.mp4", b"folder\xff/x.mp4", b"half\xc3.mp4"]
OF_BUCKETS = ["b//x.mp4", "./x.mp4", "up/../x.mp4", "f" * 300 + "/x.mp4", "long/" * 190 + "x.mp4"]


@pytest.fixture(scope="module")
def clip(make_clip, tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clip") / "x.mp4", 8, (32, 32))


def plan_and_preview(root, shard, out, workers):
    dataset, store = open_dataset(root), Store(out)
    context = StepContext(store, workers)
    planned = window_shard(context, dataset, shard, WindowSettings())
    shown = preview_shard(context, shard, PREVIEWS)
    again = window_shard(context, dataset, shard, WindowSettings())
    assert again.reused == planned.ok
    rows = store.read_rows(CLIP_WINDOWS, shard)
    assert all(store.read_bytes(paths.clip_document(row.clip_id)) for row in rows)
    assert all(store.read_bytes(paths.processed_video(row.relative_path)) for row in rows)
    return planned, shown, rows


@pytest.mark.parametrize("shard", [b"s", b"my shard", b"a...b", b"sh\xff", b"x::y", b"-n\n"], ids=repr)
def test_on_a_disk_every_name_is_a_clip(tmp_path, clip, workers, shard):
    names = [os.fsencode(name) for name in BOTH] + OF_DISKS
    for name in names:
        path = os.path.join(os.fsencode(tmp_path), b"in", shard, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(clip, path)
    key = shard_key(os.fsdecode(shard))
    assert open_dataset(str(tmp_path / "in")).shards() == [key]
    planned, shown, rows = plan_and_preview(str(tmp_path / "in"), key, tmp_path / "out", workers)
    assert (planned.ok, planned.failed) == (len(names), 0)
    assert (shown.ok, shown.failed) == (len(names), 0)
    assert len({row.relative_path for row in rows}) == len({row.clip_id for row in rows}) == len(names)
    assert all(row.relative_path.isprintable() and row.relative_path.encode() for row in rows)


def test_in_a_bucket_every_name_is_a_clip(s3, clip, tmp_path):
    names = BOTH + OF_BUCKETS
    for name in names:
        s3.put(f"my shard/{name}", clip.read_bytes())
    s3.put("my shard/empty folder.mp4/", b"")
    with Workers(1) as workers:
        for out in (tmp_path / "out", f"s3://{s3.bucket}/out"):
            planned, shown, rows = plan_and_preview(f"s3://{s3.bucket}", "my%20shard", out, workers)
            assert (planned.ok, planned.failed, planned.figures["files_left_out"]) == (len(names), 0, 0)
            assert (shown.ok, shown.failed) == (len(names), 0)
            assert len({row.relative_path for row in rows}) == len(names)


@pytest.mark.parametrize("remote", [False, True], ids=["disk", "bucket"])
def test_what_is_no_clip_is_counted_and_named(request, tmp_path, clip, caplog, remote):
    folder = tmp_path / "in" / "s"
    files = ["x.mp4", ".hidden.mp4", ".thumbs/a.mp4", ".thumbs/b.mp4", "a.txt", "b.txt", "c.txt", "d.txt", "README"]
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, folder / name)
    root = str(tmp_path / "in")
    if remote:
        s3 = request.getfixturevalue("s3")
        for name in files:
            s3.put(f"s/{name}", clip.read_bytes())
        root = f"s3://{s3.bucket}"
    else:
        os.mkfifo(folder / "pipe.mp4")
    with Workers(1) as workers:
        report = window_shard(StepContext(Store(tmp_path / "out"), workers), open_dataset(root), "s", WindowSettings())
    assert report.ok == 1
    (said,) = [record.getMessage() for record in caplog.records if "left out" in record.message]
    assert "4 *.txt (s/a.txt, s/b.txt, s/c.txt, …)" in said
    assert "1 without a suffix (s/README)" in said
    assert re.search(r"2 hidden \(s/\.hidden\.mp4, s/\.thumbs/?\)", said)
    assert ("1 named pipes (s/pipe.mp4)" in said) is not remote
    assert report.figures["files_left_out"] == 7 + (not remote)


def test_a_pipe_that_takes_a_clips_place_is_a_row(tmp_path, make_clip, workers):
    clip = make_clip(tmp_path / "in" / "s" / "x.mp4", 8, (32, 32))
    make_clip(tmp_path / "in" / "s" / "y.mp4", 8, (32, 32))
    context = StepContext(Store(tmp_path / "out"), workers)
    window_shard(context, open_dataset(str(tmp_path / "in")), "s", WindowSettings())
    clip.unlink()
    os.mkfifo(clip)
    report = preview_shard(context, "s", PREVIEWS)
    assert (report.ok, dict(report.failures)) == (1, {"missing": 1})


def test_linked_folders_are_part_of_a_shard_and_loops_are_said(tmp_path, clip):
    folder = tmp_path / "in" / "s" / "deep"
    folder.mkdir(parents=True)
    shutil.copy(clip, folder / "x.mp4")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(clip, elsewhere / "y.mp4")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "loop").symlink_to(tmp_path / "in" / "s")
    listing = open_dataset(str(tmp_path / "in")).listing("s")
    assert [found.relative_path for found in listing.clips] == ["s/deep/linked/y.mp4", "s/deep/x.mp4"]
    assert [str(left_out) for left_out in listing.left_out] == [
        "1 folders that a link in them leads back to (s/deep/loop/)"
    ]


def test_a_bucket_that_is_missing_and_one_that_refuses_are_told_apart(s3):
    with pytest.raises(DatasetError, match=r"dataset 's3://nowhere/x': it does not exist"):
        open_dataset("s3://nowhere/x").shards()
    s3.fault = lambda method, path: "403"
    with pytest.raises(DatasetError, match=r"access to it is refused .*Check its permissions and credentials"):
        open_dataset(f"s3://{s3.bucket}").shards()
    with pytest.raises(StoreError, match=r"write below s3://.*: (Forbidden|Access|On purpose)"):
        Store(f"s3://{s3.bucket}/out").check_writable()


def test_missing_credentials_are_said_as_such(s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(DatasetError, match=r"dataset 's3://.*: .*(?i:credentials)"):
        open_dataset(f"s3://{s3.bucket}").shards()
