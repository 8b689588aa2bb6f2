"""Every kind of dataset, with real clips, from its listing to the windows of its clips."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from caption_assets.dataset import open_dataset
from caption_assets.errors import ConfigError, DatasetError
from caption_assets.media.files import open_clip
from caption_assets.media.probe import probe
from caption_assets.names import Bytes, Cell, part_of
from caption_assets.settings import DatasetSettings, WindowSettings
from caption_assets.steps import StepContext
from caption_assets.steps.sharding import dataset_for
from caption_assets.steps.windows import window_shard
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS
from caption_assets.workers.local import Workers


@pytest.fixture(scope="module")
def base(make_clip, tmp_path_factory):
    """Clips of 30, 31, 32 and 33 frames, whose number tells which one was read."""
    root = tmp_path_factory.mktemp("base")
    return [make_clip(root / f"{k}.mp4", 30 + k) for k in range(4)]


@pytest.fixture
def planned(tmp_path, workers):
    """Plans all shards of a dataset; returns the rows of each clip's window, by path."""
    context = StepContext(Store(tmp_path / "out"), workers)

    def plan(dataset):
        rows = {}
        for shard in dataset.shards():
            window_shard(context, dataset, shard, WindowSettings())
            rows |= {row.relative_path: row for row in context.store.read_rows(CLIP_WINDOWS, shard)}
        assert dict(dataset.versions(dataset.shards())) == {s: dataset.listing(s).version for s in dataset.shards()}
        return rows

    return plan


def frames(rows):
    return {path: row.clip_frames for path, row in rows.items()}


def columns(rows):
    return {path: json.loads(row.columns) if row.columns else None for path, row in rows.items()}


def put(source, *targets):
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def test_a_flat_folder_in_shards_keeps_every_clip_in_its_shard_as_clips_come(tmp_path):
    for k in range(300):
        (tmp_path / f"{k}.mp4").write_bytes(b"x")

    def shards():
        dataset = open_dataset(str(tmp_path), DatasetSettings(shards=4))
        return {clip.relative_path: key for key in dataset.shards() for clip in dataset.clips(key)}

    before = shards()
    assert set(before.values()) == {f"hash-{k}-of-4" for k in range(4)}
    assert all(40 < list(before.values()).count(key) < 110 for key in before.values())
    # The rule is the one that is documented, so that others can follow it.
    digest = hashlib.sha256(b"7.mp4").digest()
    assert before["7.mp4"] == f"hash-{int.from_bytes(digest[:8], 'big') % 4}-of-4"
    for k in range(300, 400):
        (tmp_path / f"{k}.mp4").write_bytes(b"x")
    after = shards()
    assert len(after) == 400
    assert before.items() <= after.items()


def test_the_number_of_shards_of_a_size_is_decided_once_for_an_output(tmp_path):
    settings, out = DatasetSettings(shard_size=10), str(tmp_path / "out")
    for k in range(25):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{k}.mp4").write_bytes(b"x")
    first = dataset_for(str(tmp_path / "in"), settings, out).shards()
    assert first == ["hash-0-of-3", "hash-1-of-3", "hash-2-of-3"]
    for k in range(25, 80):
        (tmp_path / "in" / f"{k}.mp4").write_bytes(b"x")
    assert dataset_for(str(tmp_path / "in"), settings, out).shards() == first
    other = DatasetSettings(shard_size=20)
    assert dataset_for(str(tmp_path / "in"), other, out).shards()[0] == "hash-0-of-4"
    with pytest.raises(ConfigError, match="kept in an output root, and none is given"):
        dataset_for(str(tmp_path / "in"), settings, None)


def test_the_output_root_of_a_splitter_has_its_clips_for_shards_and_nothing_else(tmp_path, base, planned):
    names = [str(uuid.uuid5(uuid.NAMESPACE_URL, f"/data/a.mp4_{k}")) for k in range(4)]
    for name, clip in zip(names, base, strict=True):
        put(clip, tmp_path / "root" / "clips" / f"{name}.mp4", tmp_path / "root" / "filtered_clips" / f"{name}.mp4")
    for folder in ("metas/v0", "previews/x", "processed_videos"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    assert open_dataset(str(tmp_path / "root")).shards() == ["clips"]
    dataset = open_dataset(str(tmp_path / "root"), DatasetSettings(shards=2))
    assert dataset.shards() == ["hash-0-of-2", "hash-1-of-2"]
    rows = planned(dataset)
    assert frames(rows) == {f"clips/{name}.mp4": 30 + k for k, name in enumerate(names)}
    assert {row.clip_id for row in rows.values()} == set(names)


ENCODED = {
    "a.ts": "-c:v libx264",
    "b.MTS": "-c:v mpeg2video -f mpegts",
    "c.m2ts": "-c:v libx264 -f mpegts -mpegts_m2ts_mode 1",
    "d.mpg": "-c:v mpeg1video",
    "e.mpeg": "-c:v mpeg2video -f vob",
    "f.wmv": "-c:v wmv2",
    "g.flv": "-c:v flv1",
    "h.3gp": "-c:v mpeg4",
    "i.ogv": "-c:v libtheora",
    "j.gif": "",
}


def test_clips_of_further_containers_have_all_their_frames_at_their_times(tmp_path, planned):
    (tmp_path / "in" / "s").mkdir(parents=True)
    for name, options in ENCODED.items():
        source = ["-f", "lavfi", "-i", "testsrc=size=160x112:rate=25", "-frames:v", "30", *options.split()]
        subprocess.run([get_ffmpeg_exe(), "-v", "error", *source, str(tmp_path / "in" / "s" / name)], check=True)
    rows = planned(open_dataset(str(tmp_path / "in")))
    assert frames(rows) == {f"s/{name}": 30 for name in ENCODED}
    for row in rows.values():
        assert row.status == "ok"
        assert row.times_s == pytest.approx([number / 25 for number in row.frame_ids], abs=0.002)


CSV = "path,id,shard,weather\n{0},one,a,sun\n{1},two,b,\n,,,\n{0},three,a,rain\n"


def test_a_manifest_names_clips_with_ids_shards_and_further_columns(tmp_path, base, planned):
    put(base[0], tmp_path / "in" / "x.mp4")
    manifest = tmp_path / "in" / "list.csv"
    manifest.write_text(CSV.format("x.mp4", base[1]))
    dataset = open_dataset(str(manifest))
    rows = planned(dataset)
    elsewhere = str(base[1]).lstrip("/")
    assert frames(rows) == {"x.mp4": 30, elsewhere: 31}
    assert columns(rows) == {"x.mp4": {"weather": "sun"}, elsewhere: None}
    assert [rows[path].clip_id for path in ("x.mp4", elsewhere)] == ["one", "two"]
    assert [clip.relative_path for clip in dataset.clips("b")] == [elsewhere]
    assert [str(of) for of in dataset.listing("a").left_out] == ["1 named before (x.mp4)", "1 without a path (row 3)"]

    before = dict(dataset.versions(dataset.shards()))
    manifest.write_text(CSV.format("x.mp4", base[1]).replace("sun", "snow"))
    dataset = open_dataset(str(manifest))
    after = dict(dataset.versions(dataset.shards()))
    assert [before[shard] == after[shard] for shard in ("a", "b")] == [False, True]
    assert columns(planned(dataset))["x.mp4"] == {"weather": "snow"}


def test_manifests_are_lines_of_paths_or_json_or_parquet_too(tmp_path, base, planned):
    (tmp_path / "l.txt").write_text(f"# mine\n{base[0]}\r\n{base[1]}\n")
    (tmp_path / "l.jsonl").write_text(
        f"{json.dumps({'video': str(base[2]), 'tags': ['x', 1, float('nan')], 'of': 1e400})}\n{{broken\n"
    )
    pq.write_table(pa.table({"file_name": [str(base[3])], "stars": [5], "thumb": [b"1"]}), tmp_path / "l.parquet")
    several = open_dataset("\n".join(str(tmp_path / f"l.{suffix}") for suffix in ("txt", "jsonl", "parquet")))
    assert several.shards() == ["l.txt%2Fl", "l.jsonl%2Fl", "l.parquet%2Fl"]
    rows = planned(several)
    assert sorted(frames(rows).values()) == [30, 31, 32, 33]
    assert columns(rows)[f"l.jsonl{base[2]}"] == {"tags": ["x", 1, None]}
    assert columns(rows)[f"l.parquet{base[3]}"] == {"stars": 5}
    assert str(several.listing("l.jsonl%2Fl").left_out[0]) == "1 that cannot be read (row 2)"
    (tmp_path / "l.csv").write_text(",path,sky\n0,~/x.mp4,rain,\n1,y.mp4,rain,extra\n")
    (clip,), left_out = (listing := open_dataset(str(tmp_path / "l.csv")).listing("l")).clips, listing.left_out
    assert (clip.location, clip.columns) == (f"{Path.home()}/x.mp4", {"sky": "rain"})
    assert list(map(str, left_out)) == ["1 with more cells than there are columns (row 2)"]
    (tmp_path / "l.csv").write_text("path,sky,path\nx,rain,y\n")
    with pytest.raises(DatasetError, match="two of its columns are called 'path'"):
        open_dataset(str(tmp_path / "l.csv")).shards()
    (tmp_path / "l.csv").write_text("name\nx\n")
    with pytest.raises(DatasetError, match=r"no column for the clip's path \(its columns: name\)"):
        open_dataset(str(tmp_path / "l.csv")).shards()


def make_tar(path: Path, clips):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for k, clip in enumerate(clips):
            tar.add(clip, f"deep/{k}.x.mp4")
            for suffix, text in ((".json", json.dumps({"scene": k})), (".txt", f"text {k}\n"), (".flac", "no")):
                info = tarfile.TarInfo(f"deep/{k}{suffix}")
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))


def test_a_tar_is_a_shard_whose_members_are_read_where_they_lie(tmp_path, base, planned):
    make_tar(tmp_path / "in" / "00000.tar", base[:2])
    make_tar(tmp_path / "in" / "00001.tar", base[2:])
    root = str(tmp_path / "in")
    dataset = open_dataset(root)
    assert dataset.shards() == ["00000", "00001"]
    rows = planned(dataset)
    assert frames(rows) == {f"0000{k // 2}.tar/deep/{k % 2}.x.mp4": 30 + k for k in range(4)}
    assert columns(rows)["00001.tar/deep/1.x.mp4"] == {"scene": 1, "txt": "text 1"}
    assert str(dataset.listing("00000").left_out[0]) == "2 *.flac (deep/0.flac, deep/1.flac)"
    # Anybody can get at the bytes.
    part = part_of(rows["00001.tar/deep/1.x.mp4"].location)
    assert isinstance(part, Bytes)
    assert (part.file, part.name) == (f"{root}/00001.tar", "deep/1.x.mp4")
    data = (tmp_path / "in" / "00001.tar").read_bytes()
    assert data[part.first : part.last + 1] == base[3].read_bytes()


def test_a_tar_that_breaks_off_gives_what_is_whole(tmp_path, base, planned):
    make_tar(tmp_path / "in" / "x.tar", base)
    data = (tmp_path / "in" / "x.tar").read_bytes()
    (tmp_path / "in" / "x.tar").write_bytes(data[: len(data) // 2])
    rows = planned(open_dataset(str(tmp_path / "in")))
    assert [(row.clip_frames, row.status, row.error_kind) for row in rows.values()] == [
        (30, "ok", ""),
        (31, "ok", ""),
        (None, "failed", "truncated"),
    ]
    (tmp_path / "in" / "y.tar").write_text("no tar at all")
    with pytest.raises(DatasetError, match=r"y\.tar is no tar, or a compressed one"):
        open_dataset(str(tmp_path / "in")).listing("y")


def test_videos_in_parquet_files_are_clips(tmp_path, base, planned):
    """As `datasets.Video` embeds them."""
    file = tmp_path / "in" / "data" / "train-0.parquet"
    file.parent.mkdir(parents=True)
    videos = [{"bytes": clip.read_bytes(), "path": f"{k}.mp4"} for k, clip in enumerate(base)]
    videos[3] = {"bytes": None, "path": "3.mp4"}
    pq.write_table(pa.table({"label": list("abcd"), "video": videos}), file, row_group_size=2)
    root = str(tmp_path / "in")
    dataset = open_dataset(root)
    assert dataset.shards() == ["data%2Ftrain-0"]
    rows = planned(dataset)
    assert frames(rows) == {f"data/train-0.parquet/{k}.mp4": [30, 31, 32, None][k] for k in range(4)}
    assert columns(rows)["data/train-0.parquet/2.mp4"] == {"label": "c"}
    assert part_of(rows["data/train-0.parquet/2.mp4"].location) == Cell(f"{root}/data/train-0.parquet", "video", 2)
    assert "its cell is empty" in rows["data/train-0.parquet/3.mp4"].error


def test_of_a_lerobot_dataset_the_videos_are_clips_with_their_tasks(tmp_path, base, planned):
    v2, v3, camera = tmp_path / "v2", tmp_path / "v3", "observation.images.top"
    put(base[0], v2 / "videos" / "chunk-000" / camera / "episode_000000.mp4")
    put(base[1], v2 / "videos" / "chunk-000" / camera / "episode_000001.mp4")
    put(base[2], v3 / "videos" / camera / "chunk-000" / "file-000.mp4")
    for root, version in ((v2, "v2.1"), (v3, "v3.0")):
        (root / "meta").mkdir()
        (root / "meta" / "info.json").write_text(json.dumps({"codebase_version": version}))
        (root / "data" / "chunk-000").mkdir(parents=True)
        pq.write_table(pa.table({"action": [[0.5]]}), root / "data" / "chunk-000" / "x.parquet")
    lines = [json.dumps({"episode_index": k, "tasks": [f"pick {k}"]}) for k in range(2)]
    (v2 / "meta" / "episodes.jsonl").write_text("\n".join(lines))
    (v3 / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
    start, end = f"videos/{camera}/from_timestamp", f"videos/{camera}/to_timestamp"
    episodes = {"episode_index": [0, 1], "tasks": [["pick"], ["place"]], start: [0.0, 0.5], end: [0.5, 1.3]}
    episodes |= {f"videos/{camera}/chunk_index": [0, 0], f"videos/{camera}/file_index": [0, 0]}
    pq.write_table(pa.table(episodes), v3 / "meta" / "episodes" / "chunk-000" / "file-000.parquet")

    rows = planned(open_dataset(f"{v2}\nthree={v3}"))
    assert sorted(frames(rows).values()) == [30, 31, 32]
    one = columns(rows)[f"v2/videos/chunk-000/{camera}/episode_000001.mp4"]
    assert one == {"camera": camera, "episode_index": 1, "tasks": ["pick 1"]}
    three = columns(rows)[f"three/videos/{camera}/chunk-000/file-000.mp4"]
    assert [(e["tasks"], e["start_s"], e["end_s"]) for e in three["episodes"]] == [
        (["pick"], 0.0, 0.5),
        (["place"], 0.5, 1.3),
    ]
    (v3 / "meta" / "info.json").write_text("{")
    with pytest.raises(DatasetError, match=r"meta/info\.json is no JSON"):
        open_dataset(str(v3)).shards()


def test_two_roots_of_one_name_are_given_names(tmp_path, base):
    put(base[0], tmp_path / "x" / "clips" / "s" / "0.mp4", tmp_path / "y" / "clips" / "s" / "0.mp4")
    roots = [str(tmp_path / name / "clips") for name in "xy"]
    with pytest.raises(DatasetError, match=r"two of them are called 'clips'.*cars="):
        open_dataset("\n".join(roots))
    dataset = open_dataset(f"{roots[0]}\ncars={roots[1]}/")
    assert dataset.shards() == ["clips%2Fs", "cars%2Fs"]
    assert len({clip.clip_id for shard in dataset.shards() for clip in dataset.clips(shard)}) == 2


def test_kinds_are_read_from_an_object_store_as_from_a_folder(tmp_path, s3, base):
    url = f"s3://{s3.bucket}"
    make_tar(tmp_path / "00000.tar", base)
    whole = (tmp_path / "00000.tar").read_bytes()
    s3.put("wds/00000.tar", whole)
    pq.write_table(pa.table({"video": [clip.read_bytes() for clip in base]}), tmp_path / "x.parquet", row_group_size=3)
    s3.put("hf/x.parquet", (tmp_path / "x.parquet").read_bytes())
    s3.put("flat/0.mp4", base[0].read_bytes())
    s3.put("lists/list.txt", f"../flat/0.mp4\n{url}/flat/0.mp4\n".encode())
    s3.put("0.mp4", base[0].read_bytes())  # a bucket with clips in its root, and folders that hold some
    read = {}
    with Workers(1) as workers:  # with the environment of this server
        context = StepContext(Store(tmp_path / "out"), workers)
        for root in (f"{url}/wds/", f"{url}/hf", f"{url}/flat/", f"{url}/lists/list.txt"):
            dataset = open_dataset(root)
            s3.asked.clear()
            (shard,) = dataset.shards()
            window_shard(context, dataset, shard, WindowSettings())
            read[shard] = [row.clip_frames for row in context.store.read_rows(CLIP_WINDOWS, shard)]
    assert {shard: sorted(found) for shard, found in read.items()} == {
        "00000": [30, 31, 32, 33],
        "x": [30, 31, 32, 33],
        "flat": [30],
        "list": [30],
    }
    with pytest.raises(DatasetError, match="both clips"):
        open_dataset(f"{url}/").shards()
    everything = open_dataset(f"{url}/", DatasetSettings(dataset_format="flat"))
    assert everything.shards() == [s3.bucket]
    assert [clip.location for clip in everything.clips(s3.bucket)] == [f"{url}/0.mp4", f"{url}/flat/0.mp4"]


class IndexPages(SimpleHTTPRequestHandler):
    """Pages as Apache has them, with links that sort them and one to the folder above."""

    def log_message(self, *_):
        pass

    def list_directory(self, path):
        names = [quote(entry.name) + "/" * entry.is_dir() for entry in os.scandir(path)]
        links = [f'<a href="{name}">{name}</a>' for name in ("?C=N;O=D", "?C=M;O=A", "../", *names)]
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        return io.BytesIO("\n".join(links).encode())


def test_pages_with_links_are_datasets(tmp_path, base):
    put(base[0], tmp_path / "in" / "a" / "0.mp4", tmp_path / "in" / "b c" / "1.mp4")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(IndexPages, directory=str(tmp_path)))
    with server, ThreadPoolExecutor() as threads:
        threads.submit(server.serve_forever)
        try:
            dataset = open_dataset(f"http://127.0.0.1:{server.server_port}/in/")
            assert dataset.shards() == ["a", "b%2520c"]
            assert not dataset.listing("a").left_out
            (clip,) = dataset.clips("b%2520c")
            with open_clip(clip.location) as opened:
                assert probe(opened).num_frames == 30
            with pytest.raises(DatasetError, match="does not exist"):
                open_dataset(f"http://127.0.0.1:{server.server_port}/none").shards()
        finally:
            server.shutdown()


def test_what_has_its_own_shards_takes_no_number_of_them(tmp_path, base):
    make_tar(tmp_path / "x.tar", base[:1])
    with pytest.raises(DatasetError, match="a tar is a shard"):
        open_dataset(str(tmp_path / "x.tar"), DatasetSettings(shards=2)).shards()
    put(base[0], tmp_path / "y.mp4")
    with pytest.raises(DatasetError, match=r"both clips .* and tars"):
        open_dataset(str(tmp_path)).shards()
    (tmp_path / "y.mp4").unlink()
    put(base[0], tmp_path / "cars" / "y.mp4")
    with pytest.raises(DatasetError, match=r"both folders of clips \(cars\) and tars"):
        open_dataset(str(tmp_path)).shards()
    with pytest.raises(DatasetError, match="it is one clip"):
        open_dataset(str(base[0])).shards()
