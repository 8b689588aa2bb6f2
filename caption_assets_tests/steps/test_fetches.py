"""What a run asks of an object store: each clip's bytes once, a few requests a clip, and next to none where nothing is
to do."""

import json
import os
import subprocess
import sys

import pytest

# A process of its own: file systems are kept by their address for as long as one lives.
RUN = """
import json, sys
from caption_assets import *

dataset, store = open_dataset(sys.argv[1]), Store(sys.argv[2])
settings = WindowSettings(store_window_mp4=True)
previews = PreviewSettings(target_height=16, compression_level=1)
with Workers(2) as workers:
    given = StepContext(store, workers)
    shards = dataset.shards()
    ended = [window_shard(given, dataset, shard, settings) for shard in shards]
    with model_session(CaptionModelSettings(device="cpu")) as session:
        asked = CaptionSettings(max_output_tokens=4)
        ended += [end.outcome for end in caption_shards(given, shards, session, asked, previews)]
    with model_session(TextModelSettings(device="cpu")) as session:
        asked = EnhanceSettings(max_output_tokens=4)
        ended += [end.outcome for end in enhance_shards(given, shards, "demo", session, asked)]
print(json.dumps([[report.asset, report.shard, report.ok, report.reused] for report in ended]))
"""
CLIPS = [f"a/{number}.mp4" for number in range(3)] + [f"b/deep/{number}.mp4" for number in range(9)]
ASSETS = ("clip_windows", "window_previews", "window_captions", "enhanced_captions")


@pytest.fixture
def run(s3, make_clip, tmp_path):
    """Runs all assets of the bucket's clips; returns what was asked by what it was asked about, and how all ended."""
    clip = make_clip(tmp_path / "x.mp4", 8, (32, 32)).read_bytes()
    for name in CLIPS:
        s3.put(f"in/{name}", clip)

    def go(out):
        s3.asked.clear()
        command = [sys.executable, "-c", RUN, f"s3://{s3.bucket}/in", out]
        done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
        assert done.returncode == 0, done.stderr[-3000:]
        return sorted(json.loads(done.stdout))

    return go


def test_a_clip_is_fetched_once_and_costs_a_few_writes_and_nothing_when_all_is_done(s3, run):
    out, of = f"s3://{s3.bucket}/out", {shard: sum(name.startswith(shard) for name in CLIPS) for shard in "ab"}
    assert run(out) == sorted([asset, shard, of[shard], 0] for asset in ASSETS for shard in of)
    assert [s3.asked["GET", f"/{s3.bucket}/in/{name}"] for name in CLIPS] == [1] * len(CLIPS)
    assert s3.count(f"/{s3.bucket}/in/") == len(CLIPS)
    # A document is written once with captions and previews and once with enhanced captions; only a clip's own, which
    # may have been written by others, is read before.
    per_clip = {"metas": 4, "processed_videos": 1, "processed_clip_chunks": 2, "window_clips": 1}
    for folder, most in per_clip.items():
        assert s3.count(f"/{s3.bucket}/out/{folder}/") == most * len(CLIPS), folder
    assert s3.count(f"/{s3.bucket}/out/previews/", ["PUT"]) == len(CLIPS)
    assert s3.most_at_once > 4

    assert run(out) == sorted([asset, shard, of[shard], of[shard]] for asset in ASSETS for shard in of)
    assert s3.count(f"/{s3.bucket}/in/") == 0
    assert s3.count() - s3.count(f"/{s3.bucket}/out/previews/") <= 36 * len(of)  # whatever the number of clips
    for folder in per_clip:
        assert s3.count(f"/{s3.bucket}/out/{folder}/") == 0, folder


def test_a_run_that_writes_to_a_disk_asks_for_each_clip_once_and_then_lists_only(s3, run, tmp_path):
    run(str(tmp_path / "out"))
    assert s3.count(f"/{s3.bucket}/in/") == len(CLIPS)
    assert s3.count() <= len(CLIPS) + 4  # the root, and each of the two shards
    run(str(tmp_path / "out"))
    assert s3.count() <= 4
