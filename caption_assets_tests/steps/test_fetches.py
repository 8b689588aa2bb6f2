"""What a run asks of an object store: each clip's bytes once, a write a file, and a few requests a shard where nothing
is to do."""

import json
import os
import sys

import pytest

from caption_assets import (
    CaptionModelSettings,
    CaptionSettings,
    EnhanceSettings,
    PreviewSettings,
    StepContext,
    Store,
    TextModelSettings,
    WindowSettings,
    Workers,
    caption_shards,
    enhance_shards,
    model_session,
    open_dataset,
    window_shards,
)
from caption_assets_tests.commands import start_main

SHARDS = {"a": 3, "b/deep": 9, **{f"s{number}": 1 for number in range(6)}}
CLIPS = [f"{folder}/{number}.mp4" for folder, count in SHARDS.items() for number in range(count)]
ASSETS = ("clip_windows", "window_previews", "window_captions", "enhanced_captions")


@pytest.fixture
def run(s3, make_clip, checkpoints, tmp_path):
    """Runs all assets of the bucket's clips; returns how all ended. What was asked is counted anew for each run."""
    clip = make_clip(tmp_path / "x.mp4", 8, (32, 32)).read_bytes()
    for name in CLIPS:
        s3.put(f"in/{name}", clip)

    said, models = tmp_path / "said", (checkpoints["qwen2.5-vl"], checkpoints["text"])

    def go(out):
        s3.asked.clear()
        s3.most_at_once = 0
        process = start_main(__name__, [f"s3://{s3.bucket}/in", out, *models], os.environ, said)
        process.join()
        assert process.exitcode == 0, said.read_text()[-3000:]
        return sorted(json.loads(said.read_text().splitlines()[-1]))

    return go


def main():
    """In a process of its own: runs all assets."""
    root, out, captioner, writer = sys.argv[1:]
    dataset, store = open_dataset(root), Store(out)
    settings = WindowSettings(store_window_mp4=True)
    previews = PreviewSettings(target_height=16, compression_level=1)
    with Workers(2) as workers:
        given = StepContext(store, workers)
        shards = dataset.shards()
        ended = [end.outcome for end in window_shards(given, dataset, shards, settings)]
        with model_session(CaptionModelSettings(device="cpu", model_path=captioner)) as session:
            asked = CaptionSettings(max_output_tokens=4)
            ended += [end.outcome for end in caption_shards(given, shards, session, asked, previews)]
        with model_session(TextModelSettings(device="cpu", model_path=writer)) as session:
            asked = EnhanceSettings(max_output_tokens=4, include_flagged=True)
            ended += [end.outcome for end in enhance_shards(given, shards, "demo", session, asked)]
    print(json.dumps([[report.asset, report.shard, report.ok, report.reused] for report in ended]))


def test_a_clip_is_fetched_once_and_each_file_is_written_once_and_nothing_is_asked_again(s3, run, tmp_path):
    s3.delay_s = 0.01  # else none is under way long enough to meet another
    out, of = f"s3://{s3.bucket}/out", {folder.partition("/")[0]: count for folder, count in SHARDS.items()}

    def asked(folder, *methods):
        return s3.count(f"/{s3.bucket}/{folder}", methods or ("GET", "HEAD", "PUT", "POST", "DELETE"))

    assert run(out) == sorted([asset, shard, of[shard], 0] for asset in ASSETS for shard in of)
    assert [s3.asked["GET", f"/{s3.bucket}/in/{name}"] for name in CLIPS] == [1] * len(CLIPS)
    assert asked("in/") == len(CLIPS)
    # A file that the layout has is written once: a window's preview and mp4, a source video's document. The documents
    # that hold texts are written with the captions, and again with the enhanced ones. Nothing else is asked for a clip.
    writes = {"previews": 1, "window_clips": 1, "processed_videos": 1, "metas": 2, "processed_clip_chunks": 2}
    thumbnails = 3 * sum(min(count, 4) for count in of.values())  # beside the samples of three assets
    for folder, of_each in writes.items():
        assert asked(f"out/{folder}/", "PUT") == of_each * len(CLIPS), folder
        assert asked(f"out/{folder}/") - asked(f"out/{folder}/", "PUT") == thumbnails * (folder == "previews"), folder
    of_shards = asked("") - asked("in/") - sum(asked(f"out/{folder}/") for folder in writes)
    assert of_shards <= 96 * len(of) + 10
    assert s3.count(methods=["HEAD"]) == 0
    assert s3.most_at_once > 8

    assert run(out) == sorted([asset, shard, of[shard], of[shard]] for asset in ASSETS for shard in of)
    assert asked("in/") == sum(asked(f"out/{folder}/") for folder in writes if folder != "previews") == 0
    assert asked("out/previews/") == thumbnails  # which Dagster shows
    # A shard's clips are listed, and for each of four assets its tables, which are read: whatever the number of clips.
    assert asked("") - thumbnails <= 20 * len(of) + 12
    assert s3.most_at_once >= 3  # of different shards

    # To a disk, the root is listed, and each of the shards.
    run(str(tmp_path / "out"))
    assert asked("in/") == len(CLIPS)
    assert s3.count() <= len(CLIPS) + 2 + len(SHARDS)
    run(str(tmp_path / "out"))
    assert s3.count() <= 2 + len(SHARDS)
