import os
import uuid

import fsspec
import pytest

from caption_assets.dataset import NO_CLIPS, clip_id, open_dataset, shard_key, shard_name, split_duplicates
from caption_assets.errors import DatasetError
from caption_assets.settings import DatasetSettings


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_sub_folders_are_the_shards_and_clips_lie_anywhere_below(tmp_path):
    touch(tmp_path, "b/x.mp4", "a/deep/er/y.MOV", "a/z.mkv", "a/notes.txt", "a/.hidden.mp4", ".git/q.mp4")
    dataset = open_dataset(str(tmp_path))
    assert dataset.shards() == ["a", "b"]
    assert [clip.relative_path for clip in dataset.clips("a")] == ["a/deep/er/y.MOV", "a/z.mkv"]
    assert dataset.clips("b")[0].location == str(tmp_path / "b" / "x.mp4")


def test_a_root_that_holds_clips_is_one_shard_named_after_it(tmp_path):
    touch(tmp_path, "my clips/x.mp4", "my clips/y.mp4", "my clips/sub/notes.txt")
    dataset = open_dataset(str(tmp_path / "my clips"))
    assert dataset.shards() == ["my%20clips"]
    assert [clip.relative_path for clip in dataset.clips("my%20clips")] == ["x.mp4", "y.mp4"]
    assert [str(left_out) for left_out in dataset.listing("my%20clips").left_out] == ["1 *.txt (sub/notes.txt)"]


def test_clips_beside_folders_of_clips_are_refused_and_collapse_nothing(place):
    root, put = place
    put("a/x.mp4", b"1")
    dataset = open_dataset(root)
    assert dataset.shards() == ["a"]
    put("stray.mp4", b"1")
    for each in (dataset, open_dataset(root)):
        with pytest.raises(DatasetError, match=r"both clips \(1: stray.mp4\) and folders.* --shards N, .* flat"):
            each.shards()
    flat = open_dataset(root, DatasetSettings(dataset_format="flat"))
    assert [clip.relative_path for clip in flat.clips(*flat.shards())] == ["a/x.mp4", "stray.mp4"]


def test_an_fsspec_url_is_a_dataset_too():
    fs = fsspec.filesystem("memory")
    fs.pipe("/ds-url/s one/x.mp4", b"1")
    dataset = open_dataset("memory://ds-url")
    assert dataset.shards() == ["s%20one"]
    assert dataset.clips("s%20one")[0].location == "memory://ds-url/s one/x.mp4"


NAMES = ["plain-1.x_Y", "a b", "a,b", "…", "a...b", "日本", "50%", "a%20b", "~t", "x=1&y", "\t"]


@pytest.mark.parametrize("name", NAMES)
def test_shard_names_are_encoded_reversibly_into_what_dagster_takes(name):
    key = shard_key(name)
    assert shard_name(key) == name
    assert all(c.isalnum() or c in "._-%" for c in key)
    assert key.isascii()
    assert "..." not in key


def test_a_uuid_stem_is_the_clip_id_and_anything_else_is_named_by_its_path():
    curator = "551d3b9d-7328-5ca5-bd5a-4a3736c25b54"
    assert clip_id(f"s/{curator}.mp4") == curator
    assert clip_id(f"s/{curator.upper()}.mp4") == curator
    assert clip_id("s/x.mp4") == str(uuid.uuid5(uuid.NAMESPACE_URL, "s/x.mp4"))
    assert clip_id(f"s/{curator.replace('-', '')}.mp4") != curator  # not how the original writes it


def test_a_second_clip_with_the_same_id_keeps_its_place_under_another_id(tmp_path):
    curator = "551d3b9d-7328-5ca5-bd5a-4a3736c25b54"
    touch(tmp_path, f"s/a/{curator}.mp4", f"s/b/{curator}.mp4", f"s/c/{curator}.mov")
    clips, duplicates = split_duplicates(open_dataset(str(tmp_path)).clips("s"))
    assert len({clip.clip_id for clip in clips}) == 3
    assert clips[0].clip_id == curator
    assert duplicates == {clip.clip_id: f"s/a/{curator}.mp4" for clip in clips[1:]}


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda root: root / "missing", "does not exist"),
        (lambda root: root / "file", "is a file"),
        (lambda root: root / "empty", "neither clips"),
        (lambda root: "nonsense://x", "cannot be read"),
    ],
)
def test_what_is_no_dataset_is_one_clear_error(tmp_path, make, wrong):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=wrong):
        open_dataset(str(make(tmp_path))).shards()


def test_a_folder_without_clips_is_no_shard_and_one_that_has_lost_them_is_empty(place):
    root, put = place
    for name in ("a/x.mp4", "b/x.mp4", "docs/deep/readme.txt", "b/notes.txt", "notes.csv", ".c/x.mp4"):
        put(name, b"x")
    dataset = open_dataset(root)
    assert dataset.shards() == ["a", "b"]
    beside = ["1 *.csv (notes.csv)", "1 folders without clips (docs/)", "1 hidden (.c/)"]
    assert [str(of) for of in dataset.beside()] == beside
    put("b/x.mp4", None)
    listing = dataset.listing("b")
    assert (listing.clips, listing.version) == ([], NO_CLIPS)
    assert [str(left_out) for left_out in listing.left_out] == ["1 *.txt (b/notes.txt)"]
    assert dataset.shards() == ["a"]
    with pytest.raises(DatasetError, match=r"it is unknown\. Choose: a"):
        open_dataset(root).clips("other")


def test_an_output_in_the_root_adds_no_shard_and_hides_none(tmp_path):
    touch(tmp_path, "a/x.mp4", "clips/x.mp4", "exports/videofolder/x.mp4", "window_clips/x.mp4", "tables/t", "metas/m")
    with pytest.raises(
        DatasetError, match=r"both folders of clips \(a\) and clips/.*--dataset-format folders, or .*curator"
    ):
        open_dataset(str(tmp_path)).shards()
    dataset = open_dataset(str(tmp_path), DatasetSettings(dataset_format="folders"))
    assert dataset.shards() == ["a", "clips"]
    assert "2 folders of an output (exports/, window_clips/)" in map(str, dataset.beside())


def test_an_output_below_the_root_gives_neither_clips_nor_a_shard(place):
    root, put = place
    for name in ("x.mp4", "out/window_clips/y.mp4", "out/exports/z.mp4", "out/tables/t", "out/metas/m"):
        put(name, b"x")
    (shard,) = (dataset := open_dataset(root)).shards()
    assert [clip.relative_path for clip in dataset.clips(shard)] == ["x.mp4"]
    written = ["4 folders of an output (out/exports/, out/metas/, out/tables/, …)"]
    assert [str(of) for of in dataset.listing(shard).left_out] == written
    put("x.mp4", None)
    put("a/x.mp4", b"x")
    assert open_dataset(root).shards() == ["a"]


def test_the_clips_of_a_shard_are_listed_without_its_neighbours(tmp_path, monkeypatch):
    for shard in range(50):
        touch(tmp_path, f"s{shard}/x.mp4")
    dataset = open_dataset(str(tmp_path))
    shards = dataset.shards()
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(os.path.basename(path)) or scandir(path))
    assert sum(len(dataset.clips(shard)) for shard in shards) == 50
    assert sorted(set(listed) - {tmp_path.name}) == sorted(shards)
    assert listed.count(tmp_path.name) <= 1  # whether the root holds clips itself


def test_a_bucket_is_listed_twice_for_its_shards_and_once_for_each(s3):
    for shard in range(20):
        for clip in range(3):
            s3.put(f"s{shard}/{clip}.mp4", b"x")
    for name in ("marked/", "marked/below/", "other/notes.txt"):  # no shards
        s3.put(name, b"")
    dataset = open_dataset(f"s3://{s3.bucket}/")
    s3.asked.clear()
    shards = dataset.shards()
    assert s3.count() == 2  # its folders, and what lies in them
    assert sum(len(dataset.clips(shard)) for shard in shards) == 60
    assert s3.count() <= 22
    assert [str(of) for of in dataset.beside()] == ["2 folders without clips (marked/, other/)"]


@pytest.mark.parametrize("key", ["..", "%2E%2E", "a%2Fb", "", ".", ".hidden", "a%20"])
def test_no_key_leads_out_of_the_root_or_to_what_is_no_shard(tmp_path, key):
    touch(tmp_path, "in/a/b/x.mp4", "in/.hidden/x.mp4", "x.mp4")
    with pytest.raises(DatasetError, match="it is unknown"):
        open_dataset(str(tmp_path / "in")).clips(key)


@pytest.fixture(params=["local", "memory", "s3"])
def place(request, tmp_path):
    """The URL of a dataset, and what puts a file into it or takes it away."""
    if request.param == "s3":
        s3 = request.getfixturevalue("s3")

        def put_object(name, data):
            if data:
                s3.put(f"in/{name}", data)
            else:
                s3.client.delete_object(Bucket=s3.bucket, Key=f"in/{name}")

        return f"s3://{s3.bucket}/in", put_object
    fs, root = fsspec.filesystem("file" if request.param == "local" else "memory"), f"{tmp_path}/in"

    def put(name, data):
        if data:
            fs.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
            fs.pipe_file(f"{root}/{name}", data)
        else:
            fs.rm_file(f"{root}/{name}")

    return (root if request.param == "local" else f"memory://{root}"), put


# One name begins another, many begin alike, some have marks of their own.
FOLDERS = ["s", "s a", "s#1", "t", *(f"s-{k:03}" for k in range(120))]


def versions(root, start=0):
    dataset = open_dataset(root)
    return dict(dataset.versions(dataset.shards(), start))


def test_the_version_of_a_listing_changes_with_its_clips_and_with_nothing_else(place):
    root, put = place
    for folder in FOLDERS:
        put(f"{folder}/deep/x.mp4", b"1")
    put("t/y.mp4", b"1")
    before, dataset = versions(root), open_dataset(root)
    assert list(before) == dataset.shards()
    assert len(set(before.values())) == len(FOLDERS)
    assert {shard: dataset.listing(shard).version for shard in before} == before

    put("s/new.mp4", b"1")  # added, changed, removed, and what is none
    put("s a/deep/x.mp4", b"22")
    put("t/y.mp4", None)
    put("s-007/notes.txt", b"1")
    put("s-008/.hidden/x.mp4", b"1")
    after = versions(root)
    assert {shard for shard in before if before[shard] != after[shard]} == {"s", "s%20a", "t"}

    start = dataset.shards().index("s-060")
    assert versions(root, start) == {s: after[s] for s in dataset.shards()[start:]}


def test_a_shard_without_a_clip_and_one_that_is_gone_have_that_for_a_version(place):
    root, put = place
    for name in ("a/x.mp4", "b/x.mp4", "b/notes.txt", "c/x.mp4"):
        put(name, b"1")
    dataset = open_dataset(root)
    shards = dataset.shards()
    put("b/x.mp4", None)
    put("c/x.mp4", None)
    found = dict(dataset.versions(shards))
    assert (found["b"], found["c"]) == (NO_CLIPS, NO_CLIPS) != (found["a"], found["a"])


def test_a_root_that_is_one_shard_has_one_version(place):
    root, put = place
    put("x.mp4", b"1")
    put("y.mp4", b"1")
    ((shard, version),) = versions(root).items()
    assert version == open_dataset(root).listing(shard).version != NO_CLIPS


def test_the_versions_of_a_bucket_take_a_request_for_many_shards(s3):
    for folder in FOLDERS:
        s3.put(f"{folder}/x.mp4", b"x")
    dataset = open_dataset(f"s3://{s3.bucket}")
    shards = dataset.shards()
    s3.asked.clear()
    found = dataset.versions(shards)
    next(found)
    assert s3.count() == 1
    assert len(list(found)) == len(FOLDERS) - 1
    assert s3.count() <= 20
