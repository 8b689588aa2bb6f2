"""vLLM's own front end, without a GPU: it reads the frames and times of the server engine's requests as they are."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from caption_assets.models.engines.base import EngineOptions, ServerOptions
from caption_assets.models.engines.openai.engine import OpenAIEngine
from caption_assets.models.engines.openai.replies import Answer
from caption_assets.models.engines.openai.trial import Passed
from caption_assets.models.families import FAMILIES
from caption_assets.models.requests import caption_request, frame_size, video_metadata
from caption_assets.models.variants import caption_variant
from caption_assets.models.weights.checkpoints import checkpoint_frame_limits, checkpoint_of
from caption_assets.records import FramePicks, SampledFrames
from caption_assets_tests.models.engines.vllm_cpu import TRUSTED, VLLM

DEMO = caption_variant("demo")
CHECKPOINT = checkpoint_of(DEMO)
# Made for CUDA, it would look for a GPU.
ON_CPU = """
import vllm.platforms
from vllm.platforms.cpu import CpuPlatform
vllm.platforms._current_platform = CpuPlatform()
from vllm.entrypoints.cli.main import main
main()
"""


@contextmanager
def front_end(folder):
    """vLLM's server without its GPU part: it reads requests and renders them, as `vllm serve` does."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", ON_CPU, "launch", "render", str(folder), "--port", str(port)]
    command += ["--mm-processor-cache-gb", "0", "--max-model-len", "8192"]
    command += TRUSTED
    environment = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    process = subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.DEVNULL)
    try:
        for _ in range(400):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "vLLM's front end did not start"
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def window(limits):
    """A window in the model's size; its times are those of a clip of 23.976 frames a second."""
    width, height = frame_size(200, 320, 6, limits)
    frames = np.random.default_rng(1).integers(0, 256, (6, height, width, 3), dtype=np.uint8)
    ids = (0, 14, 28, 43, 57, 71)
    picks = FramePicks(ids, tuple(float(i * 1001 / 24000) for i in ids))
    return caption_request("w", "Describe.", SampledFrames(frames, picks), 64)


@pytest.mark.vllm
@pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not installed")
@pytest.mark.parametrize("family", ["qwen2.5-vl", "qwen3-vl"])
def test_vllm_reads_the_frames_and_their_times_as_they_are(family, checkpoints, monkeypatch):
    from transformers import AutoTokenizer
    from vllm.entrypoints.scale_out.token_in_token_out.mm_serde import decode_mm_kwargs_item

    folder = CHECKPOINT.folder if family == "qwen2.5-vl" else checkpoints[family]
    variant = DEMO if family == "qwen2.5-vl" else replace(DEMO, family=FAMILIES[family])
    checkpoint = checkpoint_of(variant, str(folder))
    limits = checkpoint_frame_limits(folder, FAMILIES[family])
    request = window(limits)
    frames, true = request.frames.frames, video_metadata(request.frames.picks)
    with front_end(folder) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        e = OpenAIEngine(variant, checkpoint, EngineOptions(server=ServerOptions(video="png")))

        async def passed(server, prepare, limits, patience_s, others, again):
            """The front end cannot answer; it lists its model, and reads requests."""
            return Passed(Answer("Yes.", "stop"), b"", prepare)

        monkeypatch.setattr("caption_assets.models.engines.openai.meeting.hold_trial", passed)
        info = e.start()
        data = bytes(info.prepare(request).prepared)
        ask = urllib.request.Request(f"{url}/chat/completions/render", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(ask) as response:
            rendered = json.load(response)
    assert info.engine_version.startswith("vllm 0.")
    item = decode_mm_kwargs_item(rendered["features"]["kwargs_data"]["video"][0])
    patch = limits.factor // 2
    grid = [len(frames) // 2, frames.shape[1] // patch, frames.shape[2] // patch]
    assert item["video_grid_thw"].data.tolist() == grid
    if family == "qwen2.5-vl" and VLLM < (0, 26):
        assert "does not give Qwen2.5-VL the frames' times" in info.notes[-1]
    elif family == "qwen2.5-vl":
        seconds = 2 * true["total_num_frames"] / 1000 / len(frames)
        assert item["second_per_grid_ts"].data.item() == pytest.approx(seconds, rel=2**-8)
    else:
        prompt = AutoTokenizer.from_pretrained(folder).decode(rendered["token_ids"])
        first, second = true["frames_indices"][2:4]
        assert f"<{(first + second) / 2000:.1f} seconds>" in prompt
    pixels = item["pixel_values_videos"].data
    assert pixels.shape[0] == np.prod(grid)
    if str(pixels.dtype) == "torch.uint8":  # each patch of each frame, unchanged
        assert pixels.double().mean().item() == pytest.approx(frames.mean(), abs=1e-6)
