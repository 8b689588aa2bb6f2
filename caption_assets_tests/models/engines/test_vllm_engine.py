"""What the vLLM engine does around vLLM: everything but the GPU and the model, whose part a stand-in plays here."""

import asyncio
import importlib.util
import multiprocessing
import re
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from caption_assets.errors import ModelError
from caption_assets.models.confidence import Confidence, confidence_of
from caption_assets.models.contexts import Context
from caption_assets.models.engines.base import EngineDeathError, EngineOptions, EngineStuckError, Pulse
from caption_assets.models.engines.select import create_engine
from caption_assets.models.engines.vllm import engine as vllm_engine
from caption_assets.models.engines.vllm import launch as vllm_launch
from caption_assets.models.engines.vllm.children import Children
from caption_assets.models.engines.vllm.engine import VllmEngine
from caption_assets.models.engines.vllm.flight import Flight
from caption_assets.models.engines.vllm.inputs import VllmPrepare
from caption_assets.models.requests import caption_request, request_seed
from caption_assets.models.variants import Sampling, caption_variant, text_variant
from caption_assets.models.weights.checkpoints import checkpoint_of
from caption_assets.records import FramePicks, SampledFrames

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not here; make test-vllm brings it"),
]


class Llm:
    """Answers like AsyncLLM; counts what is in flight, refuses, or dies."""

    def __init__(self, refuse=(), die_at=None, hold=()):
        self.refuse, self.die_at, self.hold = refuse, die_at, hold
        self.asked, self.open, self.most, self.cancelled = [], 0, 0, 0
        self.ended = False

    async def generate(self, inputs, sampling, request_id, priority=0):
        from vllm.v1.engine.exceptions import EngineDeadError

        self.asked.append((request_id, inputs, sampling))
        began = time.monotonic()
        self.open += 1
        if not request_id.startswith("warm-up"):
            self.most = max(self.most, self.open)
        try:
            await asyncio.sleep(3600 if request_id in self.hold else 0.01)
            if self.ended or request_id == self.die_at:
                self.ended = True
                raise EngineDeadError
            if request_id in self.refuse:
                raise ValueError("the prompt is too long\nby far")
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.open -= 1
        pieces = [(" answer", -0.5), (f" to {request_id}", -1.5), ("<|im_end|>", -9.0)]
        logprobs = [{k: SimpleNamespace(decoded_token=piece, logprob=value)} for k, (piece, value) in enumerate(pieces)]
        text = SimpleNamespace(
            text=f" answer to {request_id}",
            finish_reason="stop",
            token_ids=[1, 2, 3],
            logprobs=logprobs if sampling.logprobs == 0 else None,
        )
        times = SimpleNamespace(scheduled_ts=began, first_token_ts=began + 0.5, last_token_ts=began + 2.5)
        yield SimpleNamespace(outputs=[text], metrics=times, prompt_token_ids=inputs["prompt_token_ids"])

    def shutdown(self):
        self.ended = True


@pytest.fixture
def start(monkeypatch):
    """Starts an engine whose vLLM is a stand-in, on a machine that is taken to have a GPU."""
    gpu = SimpleNamespace(name="a GPU", uuid="GPU-0")
    lease = SimpleNamespace(gpus=(gpu,), visible_devices="GPU-0", notes=("a note",), since=0.0, close=lambda: None)
    monkeypatch.setattr(vllm_engine, "check_build", lambda *_: None)
    monkeypatch.setattr(vllm_engine, "check", lambda *_, **__: None)
    leased = []
    monkeypatch.setattr(vllm_engine, "lease", lambda *given, **more: leased.append((*given[1:], more)) or lease)
    monkeypatch.setattr(vllm_engine, "fit", lambda variant, *_: variant.vllm)
    engines = []

    really_launch = VllmEngine._launch

    def launch(engine, arguments, *more):
        import torch  # noqa: F401 - a process that has it is not taken for a worker, which sees no GPUs
        from vllm.v1.engine.async_llm import AsyncLLM

        engine.stand_in.renderer = VllmPrepare(arguments, engine._family)._renderer()
        monkeypatch.setattr(AsyncLLM, "from_engine_args", lambda _, stat_loggers: engine.stand_in)
        really_launch(engine, arguments, *more)

    monkeypatch.setattr(VllmEngine, "_launch", launch)

    def make(llm, variant="demo", *, ready=True, **options):
        row = text_variant(variant) if variant.endswith("_lm") else caption_variant(variant)
        engine = VllmEngine(row, checkpoint_of(row), EngineOptions(**options))
        engine.stand_in = llm
        engines.append(engine)
        info = engine.start()
        assert not ready or engine.ready() > 0
        return engine, info

    make.leased = leased
    yield make
    for engine in engines:
        engine.close()


def window(name):
    frames = np.random.default_rng(0).integers(0, 255, (8, 196, 196, 3), dtype=np.uint8)
    return caption_request(name, "Describe.", SampledFrames(frames, FramePicks(tuple(range(8)), tuple(range(8)))), 20)


def test_prepared_windows_reach_vllm_whole_and_their_times_come_back(start):
    llm = Llm()
    engine, info = start(llm, device="cuda:1", precision="bf16")
    assert start.leased == [("bf16", {"device": "cuda:1", "tensor_parallel": 1, "min_gib": None})]
    requests = [info.prepare(window(str(k))) for k in range(3)]
    results = {result.request_id: result for result in engine.generate(iter(requests))}
    assert sorted(results) == ["0", "1", "2"]
    assert all(result.text == f" answer to {name}" for name, result in results.items())
    assert (results["0"].finish_reason, results["0"].output_tokens) == ("stop", 3)
    assert (results["0"].prefill_s, results["0"].generate_s) == pytest.approx((0.5, 2.0))
    first, second, _ = (request.prepared_at for request in requests)
    assert second - first <= results["0"].wait_s < time.monotonic() - first
    assert 0 < results["0"].seconds < time.monotonic() - requests[-1].prepared_at
    folder = checkpoint_of(caption_variant("demo")).folder
    assert info.context == Context(8192, folder / "tokenizer.json")
    assert (info.device, info.precision, info.notes) == ("a GPU GPU-0", "bf16", ("a note",))
    _, inputs, sampling = next(asked for asked in llm.asked if asked[0] == "0")
    assert inputs["type"] == "multimodal"
    assert "pixel_values_videos" in inputs["mm_kwargs"]["video"][0]
    assert results["0"].prompt_tokens == len(inputs["prompt_token_ids"])
    assert (sampling.max_tokens, sampling.temperature) == (20, 0.0)  # 16 is vLLM's own
    assert confidence_of("answer to 0", results["0"].tokens) == Confidence(-1.0, -1.5, -1.5)


def test_the_start_ends_with_requests_like_those_to_come(start):
    llm = Llm()
    _, info = start(llm)
    (_, inputs, _), *_ = llm.asked
    assert [(name, asked.max_tokens) for name, _, asked in llm.asked] == [(f"warm-up{k}", 4) for k in ("", " 1", " 2")]
    grid = inputs["mm_kwargs"]["video"][0]["video_grid_thw"].data.tolist()
    patch = info.frame_limits.factor // 2
    assert grid[0] == 4
    assert 0.7 * info.frame_limits.max_pixels < grid[1] * grid[2] * patch**2 <= info.frame_limits.max_pixels

    llm = Llm()
    _, info = start(llm, "demo_lm")
    assert info.frame_limits is None
    assert {inputs["type"] for _, inputs, _ in llm.asked} == {"token"}


def test_a_start_without_its_warm_up_is_a_start_and_a_dead_one_is_none(start, caplog):
    start(Llm(refuse={"warm-up"}))
    assert "not warmed up, so that the first window takes longer: ValueError: the prompt is too long" in caplog.text
    engine, _ = start(Llm(die_at="warm-up"), ready=False)
    with pytest.raises(ModelError, match="vLLM does not start") as caught:
        engine.ready()
    assert isinstance(caught.value.__cause__, EngineDeathError)


def test_a_process_that_is_killed_before_it_has_answered_is_no_start(start, monkeypatch):
    """vLLM itself does not tell."""
    core = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(3600,), daemon=True)

    class Dying(Llm):
        async def generate(self, *given, **named):
            core.kill()
            async for output in super().generate(*given, **named):
                yield output

    monkeypatch.setattr(Children, "end", lambda children, end=Children.end: core.start() or end(children))
    engine, _ = start(Dying(hold={"warm-up", "warm-up 1", "warm-up 2"}), ready=False)
    with pytest.raises(ModelError, match=r"does not start .*engine process ended"):
        engine.ready()


def test_what_does_not_go_on_before_it_has_answered_is_no_start(start):
    engine, _ = start(Llm(hold={"warm-up 1"}), ready=False, stuck_s=5.0)
    with pytest.raises(ModelError, match=r"does not start .*it has not gone on for 5 seconds"):
        engine.ready()


def test_requests_in_flight_stay_within_their_bytes(start):
    llm = Llm()
    engine, info = start(llm, in_flight_bytes=1)
    request = info.prepare(window("0"))
    assert request.num_bytes > 100_000
    many = [info.prepare(window(str(k))) for k in range(5)]
    assert len(list(engine.generate(many))) == 5
    assert llm.most == 1

    wide = Llm()
    engine, _ = start(wide, in_flight_bytes=3 * request.num_bytes)
    assert len(list(engine.generate(many))) == 5
    assert wide.most == 3


def test_a_request_that_vllm_refuses_fails_alone(start):
    engine, info = start(Llm(refuse={"1"}))
    results = {r.request_id: r for r in engine.generate([info.prepare(window(str(k))) for k in range(3)])}
    assert results["1"].text is None
    assert results["1"].outcome.message == "ValueError: the prompt is too long"
    assert results["0"].outcome.ok
    assert results["2"].outcome.ok


def test_a_dead_process_is_told_with_all_that_was_in_flight(start):
    engine, info = start(Llm(die_at="1"))
    with pytest.raises(EngineDeathError, match="engine process ended") as caught:
        list(engine.generate([info.prepare(window(str(k))) for k in range(3)]))
    assert caught.value.in_flight >= {"1"}


def test_a_process_that_does_not_go_on_is_told_with_all_that_was_in_flight(start):
    engine, info = start(Llm(hold={"1", "2"}), stuck_s=5.0)
    answers = engine.generate([info.prepare(window(str(k))) for k in range(3)])
    assert next(answers).request_id == "0"
    with pytest.raises(EngineStuckError, match="it has not gone on for 5 seconds") as caught:
        next(answers)
    assert caught.value.in_flight == {"1", "2"}


def test_steps_of_the_engine_are_signs_of_work_and_waiting_for_requests_is_no_stop():
    pulse = Pulse(5.0)
    logger = vllm_engine._pulse_logger(pulse)(None, engine_index=0)
    flight = Flight(1, pulse)
    flight.take_off(replace(window("0"), num_bytes=1))
    while pulse.left > 0:
        time.sleep(0.01)
    logger.record(None, None, None, engine_idx=0)
    assert pulse.left > 0
    flight.landed("0")
    while pulse.left > 0:
        time.sleep(0.01)
    threading.Timer(0.1, flight.answers.put, ["an answer"]).start()
    assert flight.next_answer() == "an answer"  # nothing was open, so that nothing was stuck


def test_vllm_is_told_all_of_the_sampling_with_a_seed_for_each_window(start):
    sampling = Sampling(0.7, 0.8, 20, repetition_penalty=1.1, presence_penalty=1.5, seed=3)
    llm = Llm()
    engine, info = start(llm, sampling=sampling)
    engine._variant = replace(engine._variant, stop=("</s>",))
    list(engine.generate([info.prepare(window(str(k))) for k in range(2)]))
    told = {name: given for name, _, given in llm.asked}
    assert [told[k].seed for k in "01"] == [request_seed(3, k) for k in "01"]
    one = told["0"]
    assert (one.temperature, one.top_p, one.top_k) == (0.7, 0.8, 20)
    assert (one.repetition_penalty, one.presence_penalty) == (1.1, 1.5)
    assert (one.stop, one.skip_special_tokens) == (["</s>"], True)
    greedy = Llm()
    engine, info = start(greedy)
    list(engine.generate([info.prepare(window("0"))]))
    assert (greedy.asked[-1][2].temperature, greedy.asked[-1][2].seed) == (0.0, None)


def test_what_nobody_waits_for_any_more_is_taken_back(start):
    llm = Llm(hold={"1", "2"})
    engine, info = start(llm)
    answers = engine.generate([info.prepare(window(str(k))) for k in range(3)])
    assert next(answers).request_id == "0"
    answers.close()
    deadline = time.monotonic() + 120
    while llm.open and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (llm.open, llm.cancelled) == (0, 2)


def test_an_error_of_the_callers_requests_reaches_the_caller(start):
    engine, info = start(Llm())

    def requests():
        yield info.prepare(window("0"))
        raise LookupError("no more clips")

    with pytest.raises(LookupError, match="no more clips"):
        list(engine.generate(requests()))


@pytest.mark.parametrize(
    ("installed", "device", "says"),
    [
        ("0.32.0", "cpu", "transformers or device auto"),
        ("0.32.0+cpu", "auto", "device cpu"),
    ],
)
def test_vllm_does_not_run_on_what_it_was_not_built_for(monkeypatch, installed, device, says):
    monkeypatch.setattr(vllm_launch, "vllm_version", lambda: installed)
    row = caption_variant("demo")
    with pytest.raises(ModelError, match=f"vLLM {re.escape(installed)} was built for .*{says}"):
        create_engine(row, checkpoint_of(row), EngineOptions(device=device), engine="vllm")
