"""vLLM itself, on the CPU, with the embedded text model: what transformers says, what is drawn, and an engine that is
stopped."""

import os
import signal
import time

import numpy as np
import pytest

from caption_assets.demo.world import sample_scene
from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.select import create_engine
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.prompts import enhance_prompt
from caption_assets.models.requests import Request, enhance_request
from caption_assets.models.variants import Sampling, text_variant
from caption_assets.models.weights.checkpoints import checkpoint_of
from caption_assets_tests.models.engines.vllm_cpu import CACHE_BYTES, NEEDS_VLLM_CPU
from caption_assets_tests.processes import vllm_engine

pytestmark = NEEDS_VLLM_CPU


@pytest.fixture(scope="module")
def captions():
    rng = np.random.default_rng(77)
    return [sample_scene(rng).caption() for _ in range(8)]


def test_texts_are_rewritten_as_by_transformers_and_what_is_too_long_fails_alone(captions):
    variant = text_variant("demo_lm")
    checkpoint = checkpoint_of(variant)
    prompt = enhance_prompt("default")
    good = [enhance_request(str(k), prompt, text, 160) for k, text in enumerate(captions)]
    long = Request("long", ({"role": "user", "content": "red " * 20_000},), max_tokens=8)

    def answers(name: str, requests: list[Request]):
        options = EngineOptions(device="cpu", vllm_args={"kv_cache_memory_bytes": CACHE_BYTES})
        engine = create_engine(variant, checkpoint, options, engine=name)
        session = EngineSession(variant, checkpoint, engine)
        try:
            return {result.request_id: result for result in session.generate(requests)}
        finally:
            session.close()

    here, there = answers("transformers", good), answers("vllm", [*good[:2], long, *good[2:]])
    failed = there.pop("long")
    assert failed.text is None
    assert "token" in failed.outcome.message
    assert {k: r.text for k, r in there.items()} == {k: r.text for k, r in here.items()}
    mean = {k: r.confidence.mean_logprob for k, r in here.items()}
    assert {k: r.confidence.mean_logprob for k, r in there.items()} == pytest.approx(mean, abs=2e-3)


def test_an_engine_that_is_stopped_is_started_again_and_what_is_drawn_is_drawn_again(captions):
    """Its process is stopped, not ended, once it has answered the first request."""
    # Of what the model does not know, it is not sure what to say.
    variant, captions = text_variant("demo_lm"), [*captions[:3], "la la la", "la la la"]
    checkpoint = checkpoint_of(variant)
    sampling = Sampling(temperature=2.0, seed=5)
    options = EngineOptions("cpu", sampling=sampling, stuck_s=30.0, vllm_args={"kv_cache_memory_bytes": CACHE_BYTES})
    session = EngineSession(variant, checkpoint, create_engine(variant, checkpoint, options, engine="vllm"))
    requests = [enhance_request(str(k), "Rewrite.", text, 40) for k, text in enumerate(captions)]
    rounds = []
    try:
        for stops in (False, True):
            found = {}
            for result in session.generate(requests if not stops else _one_then(requests, found)):
                found[result.request_id] = result
                if stops and len(found) == 1:
                    os.kill(vllm_engine(), signal.SIGSTOP)
            rounds.append(found)
    finally:
        session.close()
    first, again = rounds
    assert all(result.outcome.ok for result in again.values())
    assert {k: r.text for k, r in again.items()} == {k: r.text for k, r in first.items()}
    assert first["3"].text != first["4"].text  # each window has draws of its own


def _one_then(requests, found):
    """The first request, and the others once it has been answered."""
    yield requests[0]
    while not found:
        time.sleep(0.05)
    yield from requests[1:]
