"""What the real readers, and the trainers' rules of reading in our words, get out of each format."""

import csv
import glob
import io
import json
import os
from pathlib import Path

import av
import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import webdataset

from caption_assets.media.decode import probe
from caption_assets.store import CLIP_WINDOWS
from caption_assets.store.rows import WindowRow
from caption_assets_tests.exports.conftest import change

SPLIT = {"validation": 0.3, "test": 0.3}


@pytest.fixture(autouse=True)
def _caches(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def windows(out):
    """Frames of each window by name."""
    rows = [row for shard in ("a", "b") for row in out.read_rows(CLIP_WINDOWS, shard)]
    return {f"{row.clip_id}_{row.start_frame}_{row.end_frame}": row for row in rows}


def name(path: str) -> str:
    return Path(path).stem


def frames(video: bytes | str) -> np.ndarray:
    """All frames, (T, H, W) in grey."""
    with av.open(io.BytesIO(video) if isinstance(video, bytes) else video) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)]).astype(int)


def is_cut(video: bytes | str, row: WindowRow) -> bool:
    """Whether a video has the frames of its window and no others. Neighbours differ by more than 5 on average."""
    found, wanted = frames(video), frames(row.location)[row.start_frame : row.end_frame + 1]
    return found.shape == wanted.shape and np.abs(found - wanted).mean((1, 2)).max() < 3


def test_datasets_loads_a_video_folder(export, tmp_path, texts, windows):
    export("videofolder", tmp_path / "x")
    # As finetrainers does, whose samples are `video` and `caption`.
    loaded = datasets.load_dataset("videofolder", data_dir=str(tmp_path / "x"), split="train")
    assert isinstance(loaded.features["video"], datasets.Video)
    rows = list(loaded.cast_column("video", datasets.Video(decode=False)))
    assert {name(row["video"]["path"]): row["caption"] for row in rows} == texts
    assert all(is_cut(row["video"]["path"], windows[name(row["video"]["path"])]) for row in rows)
    for row in rows:
        info = probe(row["video"]["path"])
        assert (info.num_frames, info.display_width, info.display_height) == (
            row["num_frames"],
            row["width"],
            row["height"],
        )
        assert info.duration_s == pytest.approx(row["duration_s"], abs=1e-4)
        assert float(info.frame_rate) == pytest.approx(row["fps"], rel=1e-3)


@pytest.mark.parametrize("form", ["videofolder", "webdataset", "parquet", "jsonl", "csv", "musubi", "open-sora"])
def test_datasets_loads_an_export_by_its_card(export, out, tmp_path, texts, form):
    for number in range(5):  # of the first shard, all that there is: types must not be guessed from it
        change(out, "a", number, mean_logprob=None)
    _, contents, _ = export(form, tmp_path / "x", **SPLIT)
    export(form, tmp_path / "whole")
    assert len(contents.splits) > 1
    loaded = datasets.load_dataset(str(tmp_path / "x"))
    whole = datasets.load_dataset(str(tmp_path / "whole"), split="train")
    column = next(name for name in ("caption", "txt", "text") if name in whole.features)
    assert {name: split.num_rows for name, split in loaded.items()} == {
        name: totals.samples for name, totals in contents.splits.items()
    }
    assert sorted(text for split in loaded.values() for text in split[column]) == sorted(texts.values())
    assert sorted(whole[column]) == sorted(texts.values())
    if form in ("videofolder", "webdataset", "parquet"):
        columns = whole.features["json"] if form == "webdataset" else whole.features
        assert columns.get("mean_logprob", datasets.Value("float64")) == datasets.Value("float64")
        video = "mp4" if form == "webdataset" else "video"
        assert all(isinstance(split.features[video], datasets.Video) for split in loaded.values())


def test_webdataset_loads_tars(export, tmp_path, texts, windows):
    export("webdataset", tmp_path / "x")
    tars = sorted(map(str, (tmp_path / "x" / "data").glob("*.tar")))
    samples = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode())
    assert {sample["__key__"]: sample["txt"] for sample in samples} == texts
    assert {sample["__key__"]: sample["json"]["caption"] for sample in samples} == texts
    assert all(is_cut(sample["mp4"], windows[sample["__key__"]]) for sample in samples)


def test_pandas_and_pyarrow_load_parquet(export, tmp_path, texts, windows):
    export("parquet", tmp_path / "x")
    table = pq.read_table(tmp_path / "x" / "data").to_pylist()
    assert {name(row["video"]["path"]): row["caption"] for row in table} == texts
    assert all(is_cut(row["video"]["bytes"], windows[name(row["video"]["path"])]) for row in table)
    frame = pd.read_parquet(tmp_path / "x" / "data")
    assert sorted(frame["caption"]) == sorted(texts.values())
    assert frame["start_frame"].dtype == np.int64


def test_pandas_loads_csv_and_json_lines(export, tmp_path, texts):
    export("csv", tmp_path / "csv")
    frame = pd.read_csv(tmp_path / "csv" / "metadata.csv")
    assert dict(zip(frame["video"].map(name), frame["caption"], strict=True)) == texts
    with open(tmp_path / "csv" / "metadata.csv", encoding="utf-8", newline="") as file:
        assert {name(row["video"]): row["caption"] for row in csv.DictReader(file)} == texts
    export("jsonl", tmp_path / "jsonl")
    frame = pd.read_json(tmp_path / "jsonl" / "metadata.jsonl", lines=True)
    assert dict(zip(frame["video"].map(name), frame["caption"], strict=True)) == texts
    assert all((tmp_path / "jsonl" / video).is_file() for video in frame["video"])


def test_musubi_tuner_loads_its_json_lines(export, tmp_path, texts, windows, monkeypatch):
    export("musubi", tmp_path / "x")
    monkeypatch.chdir(tmp_path.anchor)  # paths are opened as they stand
    with open(tmp_path / "x" / "metadata.jsonl", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert {name(row["video_path"]): row["caption"] for row in rows} == texts
    assert all(is_cut(row["video_path"], windows[name(row["video_path"])]) for row in rows)


def test_diffsynth_loads_its_csv(export, tmp_path, texts):
    export("diffsynth", tmp_path / "x")
    table = pd.read_csv(str(tmp_path / "x" / "metadata.csv"))
    rows = [table.iloc[number].to_dict() for number in range(len(table))]
    assert {name(row["video"]): row["prompt"] for row in rows} == texts
    assert all(probe(os.path.join(tmp_path / "x", row["video"])).num_frames for row in rows)


def test_open_sora_loads_its_csv(export, tmp_path, texts):
    export("open-sora", tmp_path / "x")
    table = pd.read_csv(str(tmp_path / "x" / "metadata.csv"))
    assert list(table.columns) == ["path", "text", "num_frames", "height", "width", "aspect_ratio", "resolution", "fps"]
    assert {name(row.path): row.text for row in table.itertuples()} == texts
    for row in table.itertuples():
        info = probe(row.path)
        assert (info.num_frames, info.display_height, info.display_width) == (row.num_frames, row.height, row.width)
        assert (row.aspect_ratio, row.resolution) == (row.height / row.width, row.height * row.width)


def test_directories_of_videos_with_texts_hold_nothing_else(export, tmp_path, texts, windows):
    export("txt", tmp_path / "x")
    folder = tmp_path / "x" / "videos"
    # musubi-tuner: videos by their suffix, whose text has the same name.
    videos = sorted(glob.glob(os.path.join(glob.escape(str(folder)), "*.mp4")))
    assert {name(video): Path(video).with_suffix(".txt").read_bytes() for video in videos} == {
        window: text.encode() for window, text in texts.items()
    }
    # diffusion-pipe: every file that is no text, npz, json, parquet, bak or db is a video.
    others = (".txt", ".npz", ".json", ".parquet", ".bak", ".db")
    assert sorted(str(file) for file in folder.glob("*") if file.suffix not in others) == videos
    assert all(is_cut(video, windows[name(video)]) for video in videos)


def test_cosmos_framework_converts_the_lines(export, tmp_path, texts, windows):
    export("cosmos", tmp_path / "x")
    found = {}
    for file in sorted((tmp_path / "x" / "metas_jsonl" / "v0").glob("*.jsonl")):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            # What the converter asks of a clip and its windows, and takes for the caption: the first by name.
            assert record["num_frames"] / record["framerate"] <= 61
            assert min(record["width"], record["height"]) > 0
            for window in record["windows"]:
                key = next(key for key in sorted(window) if key.endswith("_caption"))
                assert probe(record["clip_location"]).num_frames > window["end_frame"]
                found[f"{record['span_uuid']}_{window['start_frame']}_{window['end_frame']}"] = window[key]
    assert found == texts


def test_cosmos_curate_shards_the_clips(export, tmp_path, texts):
    export("cosmos", tmp_path / "x", videos="clips")
    summary = json.loads((tmp_path / "x" / "summary.json").read_text())
    clips = [clip for video in summary.values() if isinstance(video, dict) for clip in video.get("clips", ())]
    assert len(clips) == len(set(clips)) == 4
    assert summary["total_num_clips_with_caption"] == 4
    found = {}
    for clip in clips:
        document = json.loads((tmp_path / "x" / "metas" / "v0" / f"{clip}.json").read_text())
        assert document["valid"]
        assert os.path.getsize(document["clip_location"]) == document["num_bytes"]
        assert Path(document["clip_location"]).parent == tmp_path / "x" / "clips"
        assert all(document[key] for key in ("span_uuid", "width", "height", "num_frames", "framerate"))
        for window in document["windows"]:
            found[f"{clip}_{window['start_frame']}_{window['end_frame']}"] = window["qwen_caption"]
    assert found == texts


def test_an_export_to_an_object_store_is_read_from_there(export, tmp_path, texts, s3):
    url = f"s3://{s3.bucket}/x"
    export("webdataset", url)
    export("parquet", f"{url}-parquet")
    export("diffsynth", f"{url}-csv")
    objects = {item["Key"] for item in s3.client.list_objects_v2(Bucket=s3.bucket)["Contents"]}

    def read(key: str) -> bytes:
        return s3.client.get_object(Bucket=s3.bucket, Key=key)["Body"].read()

    tars = [read(key) for key in objects if key.endswith(".tar")]
    samples = [sample for tar in tars for sample in _samples(tar)]
    assert {sample["__key__"]: sample["txt"].decode() for sample in samples} == texts
    rows = [
        row for key in objects if key.endswith(".parquet") for row in pq.read_table(io.BytesIO(read(key))).to_pylist()
    ]
    assert sorted(row["caption"] for row in rows) == sorted(texts.values())
    table = pd.read_csv(io.BytesIO(read("x-csv/metadata.csv")))
    assert dict(zip(table["video"].map(name), table["prompt"], strict=True)) == texts
    assert all(f"x-csv/{video}" in objects for video in table["video"])
    s3.asked.clear()
    export("diffsynth", f"{url}-csv")
    # Nothing has changed; it tries whether it could write.
    assert not [path for method, path in s3.asked if method in ("PUT", "POST") and "/.caption_assets-" not in path]


def _samples(tar: bytes):
    return webdataset.tariterators.group_by_keys(
        webdataset.tariterators.tar_file_expander([{"url": "x", "stream": io.BytesIO(tar)}])
    )
