"""How often a remote clip is fetched: once by the first run, whatever it makes, and never by one with nothing to do."""

import json
import os
import subprocess
import sys

# A process of its own: file systems are kept by their address for as long as one lives.
RUN = """
import json, sys
from caption_assets import *

dataset, store = open_dataset(sys.argv[1]), Store(sys.argv[2])
settings = WindowSettings(window_size=64, remainder_threshold=32, store_window_mp4=True)
with Workers(2) as workers:
    given = StepContext(store, workers)
    for shard in dataset.shards():
        window_shard(given, dataset, shard, settings)
    with model_session(CaptionModelSettings(device="cpu")) as session:
        asked = CaptionSettings(max_output_tokens=4)
        ended = list(caption_shards(given, dataset.shards(), session, asked, PreviewSettings()))
print(json.dumps([[e.asset, e.shard, e.outcome.ok, e.outcome.reused] for e in ended]))
"""


def test_a_first_run_fetches_each_clip_once_and_a_second_one_none(s3, clips_root, tmp_path):
    clips = [path.relative_to(clips_root).as_posix() for path in clips_root.rglob("*.mp4")]
    for clip in clips:
        s3.put(clip, (clips_root / clip).read_bytes())

    def run():
        s3.asked.clear()
        command = [sys.executable, "-c", RUN, f"s3://{s3.bucket}", str(tmp_path / "out")]
        done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
        assert done.returncode == 0, done.stderr[-3000:]
        gets = {clip: s3.asked["GET", f"/{s3.bucket}/{clip}"] for clip in clips}
        return gets, sorted(json.loads(done.stdout))

    gets, ended = run()
    assert gets == dict.fromkeys(clips, 1)
    assert [(asset, shard, ok) for asset, shard, ok, _ in ended] == [
        ("window_captions", "a", 3),
        ("window_captions", "b", 1),
        ("window_previews", "a", 3),
        ("window_previews", "b", 1),
    ]
    assert not any(reused for *_, reused in ended)
    gets, ended = run()
    assert gets == dict.fromkeys(clips, 0)
    assert all(ok == reused for *_, ok, reused in ended)
