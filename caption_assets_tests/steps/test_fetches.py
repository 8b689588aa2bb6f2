"""How often a remote clip is fetched: once by the first run, whatever it makes, and never by one with nothing to do."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from urllib.parse import unquote

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

# A process of its own: file systems are kept by their address for as long as one lives.
RUN = """
import json, sys
from caption_assets import *

dataset, store = open_dataset("s3://clips"), Store(sys.argv[1])
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


class CountedServer:
    """An S3 server that counts what is asked of it, by method and path."""

    def __init__(self):
        self.asked = Counter()
        self._s3 = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._count, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _count(self, environ, start_response):
        self.asked[environ["REQUEST_METHOD"], unquote(environ["PATH_INFO"])] += 1
        return self._s3(environ, start_response)

    def close(self):
        self._server.shutdown()
        self._thread.join()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = CountedServer()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    yield server
    server.close()


def test_a_first_run_fetches_each_clip_once_and_a_second_one_none(server, clips_root, tmp_path):
    s3 = boto3.client("s3", endpoint_url=server.url)
    s3.create_bucket(Bucket="clips")
    clips = [path.relative_to(clips_root).as_posix() for path in clips_root.rglob("*.mp4")]
    for clip in clips:
        s3.upload_file(str(clips_root / clip), "clips", clip)

    def run():
        server.asked.clear()
        command = [sys.executable, "-c", RUN, str(tmp_path / "out")]
        done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
        assert done.returncode == 0, done.stderr[-3000:]
        gets = {clip: server.asked["GET", f"/clips/{clip}"] for clip in clips}
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
