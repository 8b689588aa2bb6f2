"""vLLM itself, on the CPU, with the embedded captioner: the texts of transformers, in process and as a server."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from caption_assets.dataset import open_dataset
from caption_assets.demo import checkpoint
from caption_assets.demo.clips import render_dataset
from caption_assets.demo.world import sample_scene, score
from caption_assets.errors import ModelError
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.engines.vllm.launch import vllm_version
from caption_assets.models.engines.vllm.loader import LOAD_FORMAT
from caption_assets.settings import CaptionModelSettings, CaptionSettings, WindowSettings
from caption_assets.steps import StepContext, caption_shards, model_session, window_shard
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, WINDOW_CAPTIONS
from caption_assets.workers.local import Workers
from caption_assets_tests.models.engines.vllm_cpu import CACHE_BYTES, NEEDS_VLLM_CPU
from caption_assets_tests.processes import descendants, vllm_engine

SHARDS = ("a", "b")
CLIPS = 4

pytestmark = NEEDS_VLLM_CPU


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(77)
    return {
        shard: [sample_scene(rng, width=224, height=192, frame_rate=Fraction(24)) for _ in range(CLIPS)]
        for shard in SHARDS
    }


@pytest.fixture(scope="module")
def workers():
    """One process: each takes a core's time to load vLLM."""
    with Workers(1) as workers:
        yield workers


@pytest.fixture(scope="module")
def planned(scenes, workers, tmp_path_factory):
    """Two shards whose windows are planned."""
    root = tmp_path_factory.mktemp("clips")
    render_dataset(root, scenes)
    store = Store(str(tmp_path_factory.mktemp("out")))
    for shard in SHARDS:
        window_shard(StepContext(store, workers), open_dataset(str(root)), shard, WindowSettings())
    return store


def caption(store: Store, workers: Workers, **model):
    """Captions both shards with one engine: reports by shard, and rows by clip."""
    with model_session(CaptionModelSettings(caption_key=model.get("engine"), **model)) as session:
        given = StepContext(store, workers)
        reports = {e.shard: e.outcome for e in caption_shards(given, SHARDS, session, CaptionSettings())}
    rows = [row for shard in SHARDS for row in store.read_rows(WINDOW_CAPTIONS, shard, model["engine"])]
    return reports, {row.clip_id: row for row in rows}


@pytest.fixture(scope="module")
def expected(planned, workers):
    """Captions by transformers, which are true."""
    _, rows = caption(planned, workers, engine="transformers", device="cpu")
    assert len(rows) == len(SHARDS) * CLIPS
    return rows


def texts(rows):
    return {clip: row.text for clip, row in rows.items()}


def confidences(rows):
    """By which tests compare engines; their sums differ in the last digits."""
    scores = {clip: [row.mean_logprob, row.min_logprob, row.low_logprob] for clip, row in rows.items()}
    return scores


def test_one_engine_captions_all_shards_as_transformers_does_and_outlives_its_death(
    planned, scenes, workers, expected, monkeypatch
):
    """The engine's process is killed while it works on the first windows. Its vision weights are padded, as on GPUs."""
    killed = threading.Event()
    generate = EngineSession.generate

    def kill_after_the_first(session, requests):
        for result in generate(session, requests):
            if not killed.is_set():
                killed.set()
                os.kill(vllm_engine(), signal.SIGKILL)
            yield result

    monkeypatch.setattr(EngineSession, "generate", kill_after_the_first)
    wider = {"vision_config": {"intermediate_size": 640}}
    vllm_args = {"kv_cache_memory_bytes": CACHE_BYTES, "load_format": LOAD_FORMAT, "hf_overrides": wider}
    reports, rows = caption(planned, workers, engine="vllm", device="cpu", vllm_args=vllm_args)
    assert killed.is_set()
    assert texts(rows) == texts(expected)
    assert confidences(rows) == {clip: pytest.approx(known, abs=2e-3) for clip, known in confidences(expected).items()}
    for row in planned.read_rows(CLIP_WINDOWS, "a"):
        scene = scenes["a"][int(row.relative_path[-6:-4])]
        assert score(rows[row.clip_id].text, scene, row.start_s, row.end_s)["colour"]
    assert {(row.status, row.engine, row.precision, row.finish_reason) for row in rows.values()} == {
        ("ok", "vllm", "fp32", "stop")
    }
    assert all(row.prompt_tokens > 50 and row.output_tokens > 5 for row in rows.values())
    assert all(min(row.render_s, row.prefill_s, row.generate_s) > 0 for row in rows.values())
    assert {report.ok for report in reports.values()} == {CLIPS}
    assert reports["a"].figures["device"] == "cpu"
    assert reports["a"].figures["engine"] == f"vllm {vllm_version()}"
    assert not [p for p in descendants(os.getpid()) if b"VLLM" in Path(f"/proc/{p}/cmdline").read_bytes()]


def test_an_engine_that_does_not_start_says_what_its_own_process_said_last():
    model = CaptionModelSettings(engine="vllm", device="cpu", vllm_args={"kv_cache_memory_bytes": 1})
    with model_session(model) as session, pytest.raises(ModelError, match=r"\(ValueError: No available memory for the"):
        list(session.generate([]))


@pytest.fixture(scope="module")
def server():
    """`vllm serve` as docs/engines.md starts it, with the embedded checkpoint."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(checkpoint("demo"))]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--limit-mm-per-prompt", '{"image": 0, "video": 1}', "--mm-processor-cache-gb", "0"]
    command += ["--no-enable-prefix-caching", "--max-model-len", "8192", "--max-num-batched-tokens", "8192"]
    command += ["--trust-request-mm-kwargs", "--enable-per-request-metrics"]
    command += ["--enforce-eager", "--kv-cache-memory-bytes", str(CACHE_BYTES), "--dtype", "float32"]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        while True:
            assert process.poll() is None, "vllm serve ended while it started"
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_captions_by_a_vllm_server_are_those_of_the_model_in_this_process(
    planned, workers, expected, server, monkeypatch
):
    monkeypatch.setenv("OPENAI_BASE_URL", server)
    reports, rows = caption(planned, workers, engine="openai", server_video="png")
    assert texts(rows) == texts(expected)
    assert confidences(rows) == {clip: pytest.approx(known, abs=2e-3) for clip, known in confidences(expected).items()}
    assert {report.ok for report in reports.values()} == {CLIPS}
    assert all(row.prefill_s is not None and row.generate_s is not None for row in rows.values())
