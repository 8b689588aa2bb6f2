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
from caption_assets.demo.structured import FACTS_PROMPT, Shown
from caption_assets.demo.world import sample_scene, score
from caption_assets.models.choice import prompt_key
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.engines.vllm.launch import vllm_version
from caption_assets.models.engines.vllm.loader import LOAD_FORMAT
from caption_assets.models.requests import Question, caption_request, frame_size
from caption_assets.models.variants import caption_variant
from caption_assets.records import FramePicks, SampledFrames
from caption_assets.settings import CaptionModelSettings, CaptionSettings, WindowSettings
from caption_assets.steps import StepContext, caption_shards, model_session, window_shard
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, WINDOW_CAPTIONS
from caption_assets.workers.local import Workers
from caption_assets_tests.models.engines.vllm_cpu import (
    CACHE_BYTES,
    NEEDS_VLLM_CPU,
    ONE_PROCESS,
    TRUSTED,
    VLLM,
    VLLM_ARGS,
)
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


@pytest.fixture(scope="module")
def prompts():
    """What is asked of every window, by the names of prompts: what the model has learned to say, so that no engine's
    last digits decide."""
    return {
        "": CaptionSettings(),
        "short": CaptionSettings(prompt_variant="short", max_output_tokens=12, generate_stage2_caption=True),
        "facts": CaptionSettings(
            prompt_text=FACTS_PROMPT, max_output_tokens=160, json_schema="caption_assets.demo.structured:Shown"
        ),
    }


@contextlib.contextmanager
def session_of(engine: str, several: bool = True, **model):
    settings = CaptionModelSettings(engine=engine, caption_key=engine, **model)
    with model_session(settings, several=several) as session:
        yield session


def caption(store: Store, workers: Workers, session: EngineSession, prompts):
    """Captions both shards in one visit to each window: reports by shard, and rows by key and clip."""
    ended = list(caption_shards(StepContext(store, workers), SHARDS, session, prompts))
    reports = {e.shard: e.outcome for e in ended if e.key == session.variant.name}
    keys = {name: prompt_key(session.variant.name, name) for name in prompts}
    rows = {
        (name, row.clip_id): row
        for name, key in keys.items()
        for shard in SHARDS
        for row in store.read_rows(WINDOW_CAPTIONS, shard, key)
    }
    return reports, rows


@pytest.fixture(scope="module")
def expected(planned, workers, prompts):
    """Captions by transformers, which are true: a run for each prompt."""
    rows = {}
    with session_of("transformers", several=False, device="cpu") as session:
        for name, settings in prompts.items():
            rows |= caption(planned, workers, session, {name: settings})[1]
    assert len(rows) == len(prompts) * len(SHARDS) * CLIPS
    assert all(Shown.model_validate_json(row.text) for (name, _), row in rows.items() if name == "facts")
    return rows


def texts(rows):
    """Not of JSON by vLLM 0.25, which writes blanks between its parts: a model may go on otherwise after them."""
    return {name: row.text for name, row in rows.items() if not row.is_json or VLLM >= (0, 32)}


def confidences(rows):
    """By which tests compare engines; their sums differ in the last digits. Not of texts by a schema, whose scores are
    those among what it allows."""
    kept = {name: row for name, row in rows.items() if not row.is_json}
    return {name: [row.mean_logprob, row.min_logprob, row.low_logprob] for name, row in kept.items()}


def nearly(confidences, within=1e-5):
    return {name: pytest.approx(known, abs=within) for name, known in confidences.items()}


def test_one_engine_captions_all_shards_as_transformers_does_and_outlives_its_death(
    planned, scenes, workers, prompts, expected, monkeypatch
):
    """By each prompt, in one visit to a window, of which the others have the video's tokens from the first. The
    engine's process is killed while it works on the first windows. Its vision weights are padded, as on GPUs."""
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
    vllm_args = {**VLLM_ARGS, "load_format": LOAD_FORMAT, "hf_overrides": wider}
    with session_of("vllm", device="cpu", vllm_args=vllm_args) as session:
        reports, rows = caption(planned, workers, session, prompts)
        share_nothing(session)
    assert killed.is_set()
    assert texts(rows) == texts(expected)
    assert confidences(rows) == nearly(confidences(expected))
    for row in planned.read_rows(CLIP_WINDOWS, "a"):
        scene = scenes["a"][int(row.relative_path[-6:-4])]
        assert score(rows["", row.clip_id].text, scene, row.start_s, row.end_s)["colour"]
    assert {(row.status, row.engine, row.precision, row.finish_reason) for row in rows.values()} == {
        ("ok", "vllm", "fp32", "stop"),
        ("ok", "vllm", "fp32", "length"),
    }
    assert share_a_prefix(rows)
    assert all(row.prompt_tokens > 50 and row.output_tokens > 5 for row in rows.values())
    assert all(min(row.prefill_s, row.generate_s) > 0 for row in rows.values())
    # A window is prepared once.
    assert all(row.render_s > 0 if name == "" else row.render_s is None for (name, _), row in rows.items())
    assert {report.ok for report in reports.values()} == {CLIPS}
    assert reports["a"].figures["device"] == "cpu"
    assert reports["a"].figures["engine"] == f"vllm {vllm_version()}"
    assert not [p for p in descendants(os.getpid()) if b"VLLM" in Path(f"/proc/{p}/cmdline").read_bytes()]


def share_a_prefix(rows) -> bool:
    """Whether a window's further prompts begin with tokens of its first. vLLM keeps whole blocks of 128 on a CPU."""
    first = {clip: row for (name, clip), row in rows.items() if not name}
    long = {clip for clip, row in first.items() if row.prompt_tokens > 2 * 128}
    shared = [row.cached_tokens >= 128 for (name, clip), row in rows.items() if name and clip in long]
    return len(shared) > 2 and all(shared) and not any(row.cached_tokens for row in first.values())


def share_nothing(session: EngineSession) -> None:
    """Of windows that differ in one pixel, one time, one frame or the size, none is answered by what another has left;
    the same window again is."""
    prepare, limits = session.info.prepare, session.info.frame_limits
    width, height = frame_size(320, 240, 8, limits)
    pixels = np.random.default_rng(5).integers(0, 255, (8, height, width, 3), dtype=np.uint8)
    times = tuple(k / 2 for k in range(8))
    pixel = pixels.copy()
    pixel[7, -1, -1, 2] ^= 1
    windows = {
        "one": (pixels, times),
        "pixel": (pixel, times),
        "time": (pixels, (*times[:-1], 3.501)),
        "frame": (pixels[:6], times[:6]),
        "size": (np.ascontiguousarray(pixels.transpose(0, 2, 1, 3)), times),
        "again": (pixels, times),
    }
    cached = {}
    for name, (frames, shown) in windows.items():
        sampled = SampledFrames(frames, FramePicks(tuple(range(len(shown))), shown))
        asked = caption_request(name, "Describe it.", sampled, 4, then=(Question("more", "What moves?", 4),))
        (result,) = session.generate([prepare(asked)])
        assert result.then[0].cached_tokens > 0
        cached[name] = result.cached_tokens
    assert cached.pop("again") > 0
    assert set(cached.values()) == {0}, cached


@pytest.fixture(scope="module")
def server():
    """`vllm serve` as docs/engines.md starts it, with the embedded checkpoint."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(checkpoint("demo"))]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--limit-mm-per-prompt", '{"image": 0, "video": 1}', "--enable-prompt-tokens-details"]
    command += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
    command += ["--max-model-len", "8192", "--max-num-batched-tokens", "8192"]
    command += [*TRUSTED, "--enable-per-request-metrics"]
    command += ["--enforce-eager", "--kv-cache-memory-bytes", str(CACHE_BYTES), "--dtype", "float32"]
    command += ["--distributed-executor-backend", ONE_PROCESS]
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
    planned, workers, prompts, expected, server, monkeypatch
):
    monkeypatch.setenv("OPENAI_BASE_URL", server)
    with session_of("openai", server_video="png") as session:
        reports, rows = caption(planned, workers, session, prompts)
    assert share_a_prefix(rows)
    assert texts(rows) == texts(expected)
    right_times = caption_variant("demo").family.server_times_since <= VLLM
    assert confidences(rows) == nearly(confidences(expected), within=1e-5 if right_times else 2e-3)
    assert {report.ok for report in reports.values()} == {CLIPS}
    assert all(row.prefill_s is not None and row.generate_s is not None for row in rows.values())
