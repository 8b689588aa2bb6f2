"""What the tests of the server engine share: windows of demo scenes, and engines that ask for their captions."""

import threading
import time
from contextlib import contextmanager

import cv2
import numpy as np

from caption_assets.demo import draw
from caption_assets.demo.world import sample_scene
from caption_assets.media.mp4 import sampled_mp4
from caption_assets.models.engines.base import EngineOptions, ServerOptions
from caption_assets.models.engines.openai.engine import OpenAIEngine
from caption_assets.models.engines.openai.server import Server
from caption_assets.models.families import FrameLimits
from caption_assets.models.requests import caption_request, frame_size
from caption_assets.models.variants import Sampling, caption_variant
from caption_assets.models.weights.checkpoints import checkpoint_frame_limits, checkpoint_of
from caption_assets.records import FramePicks, SampledFrames

ENGINE, SERVER = (f"caption_assets.models.engines.openai.{name}" for name in ("engine", "server"))
LONG_S = 120.0  # for what a busy machine takes seconds for: only a hang takes longer
DEMO = caption_variant("demo")
CHECKPOINT = checkpoint_of(DEMO)
LIMITS = checkpoint_frame_limits(CHECKPOINT.folder, DEMO.family)
SIZES = ((320, 240), (200, 320), (240, 240))
SMALL = (112, 112)  # a fifth of the model's work
URL, KEY, HEADERS = "OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_HEADERS"


def window(k: int, prompt: str = "Describe.", max_tokens: int = 64, limits: FrameLimits = LIMITS, small: bool = False):
    """A window of a demo scene, sized for the model, or smaller; its times are those of 23.976 frames a second."""
    rng = np.random.default_rng(41_000 + k)
    width, height = SIZES[k % len(SIZES)]
    scene = sample_scene(rng, width=width, height=height, duration_s=2 + k % 3)
    ids = np.linspace(0, scene.num_frames - 1, (4, 6, 8)[k % 3]).round().astype(int)
    size = SMALL if small else frame_size(width, height, len(ids), limits)
    frames = np.stack([cv2.resize(f, size, interpolation=cv2.INTER_CUBIC) for f in draw.pick(scene, ids)])
    picks = FramePicks(tuple(ids.tolist()), tuple(float(i * 1001 / 24000) for i in ids))
    return caption_request(f"w{k}", prompt, SampledFrames(frames, picks), max_tokens)


WINDOWS = [window(k) for k in range(12)]
BRIEF = [window(k, max_tokens=8, small=True) for k in range(12)]  # where the texts need only differ


def engine(variant=DEMO, checkpoint=CHECKPOINT, batch_size=4, sampling=Sampling(), **options):
    server_options = ServerOptions(**{"retry_s": LONG_S, "timeout_s": LONG_S, "encode_mp4": sampled_mp4} | options)
    return OpenAIEngine(
        variant, checkpoint, EngineOptions(batch_size=batch_size, sampling=sampling, server=server_options)
    )


@contextmanager
def started(**options):
    e = engine(**options)
    try:
        e.start()
        yield e
    finally:
        e.close()


def answers(windows=BRIEF[:4], **options):
    with started(**options) as e:
        return {result.request_id: result for result in e.generate(windows)}


def wait_for(condition):
    until = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


def once(condition, act):
    """Does it in a thread of its own as soon as the condition is met."""
    threading.Thread(target=lambda: (wait_for(condition), act())).start()


def no_threads():
    return not [thread for thread in threading.enumerate() if thread.name == "openai-server"]


def impatient(monkeypatch, word, limit_s=1.0):
    """Bodies with this word are waited for shortly, and the others as long as they take."""
    send = Server.send

    async def within(self, body, _, fields=None):
        return await send(self, body, limit_s if word.encode() in body else LONG_S, fields)

    monkeypatch.setattr(Server, "send", within)
