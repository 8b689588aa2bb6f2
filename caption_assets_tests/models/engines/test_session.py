"""A session keeps its work when the engine dies: real models, whose engine is made to die of chosen requests."""

import json
import threading
import time
from dataclasses import replace

import pytest

from caption_assets.errors import ModelError
from caption_assets.models.engines.base import EngineDeathError, EngineOptions
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.engines.transformers import TransformersEngine
from caption_assets.models.engines.watched import Watched
from caption_assets.models.requests import enhance_request
from caption_assets.models.variants import text_variant
from caption_assets.models.weights.checkpoints import checkpoint_of

CAPTION = "A red circle is standing still on a black background."
VARIANT = text_variant("demo_lm")


class MortalEngine(TransformersEngine):
    """Dies when it gets one of `deadly`, with everything else of the batch in flight; `lives` bounds how often."""

    def __init__(self, deadly=(), lives=99, batch_size=3):
        checkpoint = checkpoint_of(VARIANT)
        super().__init__(VARIANT, checkpoint, EngineOptions("cpu", batch_size=batch_size))
        self.deadly, self.lives, self.starts, self.batches = set(deadly), lives, 0, []

    def start(self):
        self.starts += 1
        return super().start()

    def _batch(self, batch):
        ids = [request.request_id for request in batch]
        self.batches.append(ids)
        if self.deadly & set(ids) and self.lives:
            self.lives -= 1
            self.ended = frozenset(ids)
            raise _CrashError
        return super()._batch(batch)

    def generate(self, requests):
        try:
            yield from super().generate(requests)
        except _CrashError:
            raise EngineDeathError("engine 'mortal'", "it crashed", in_flight=self.ended) from None


class _CrashError(BaseException):
    pass


def answers(engine, count=8):
    requests = [enhance_request(f"r{i}", "Rewrite this caption.", CAPTION, 8) for i in range(count)]
    session = EngineSession(VARIANT, checkpoint_of(VARIANT), engine)
    try:
        return {result.request_id: result for result in session.generate(iter(requests))}
    finally:
        session.close()


def test_an_engine_that_dies_once_is_started_again_and_only_what_is_unfinished_is_sent_again():
    engine = MortalEngine(deadly={"r4"}, lives=1)
    results = answers(engine)
    assert sorted(results) == [f"r{i}" for i in range(8)]
    assert all(result.outcome.ok and result.text for result in results.values())
    assert engine.starts == 2
    # The three that it had come first, alone and the last one first; r0 to r2 were answered and do not come again.
    assert engine.batches == [["r0", "r1", "r2"], ["r3", "r4", "r5"], ["r5"], ["r4"], ["r3"], ["r6", "r7"]]


class LeasedEngine(MortalEngine):
    """One that counts this machine's CPU as a GPU, and notes from when till when it has it."""

    def __init__(self, **how):
        super().__init__(**how)
        self.held = []

    def start(self):
        since = time.monotonic()
        self.held.append([since, None])
        return replace(super().start(), gpus=2, held_since=since)

    def close(self):
        super().close()
        if self.held and self.held[-1][1] is None:
            self.held[-1][1] = time.monotonic()


def test_gpu_seconds_are_those_of_all_its_leases_and_busy_ones_those_with_requests():
    engine = LeasedEngine(deadly={"r4"}, lives=1)
    session = EngineSession(VARIANT, checkpoint_of(VARIANT), engine)
    requests = (enhance_request(f"r{i}", "Rewrite this caption.", CAPTION, 8) for i in range(8))
    seconds = sum(result.seconds for result in session.generate(requests))
    worked_till = time.monotonic()
    assert session.answered_s == pytest.approx(seconds)
    time.sleep(0.2)  # held, and idle
    session.close()
    held = sum(till - since for since, till in engine.held)
    assert len(engine.held) == session.usage.starts == 2
    assert session.usage.held_s == pytest.approx(2 * held, rel=0.02)
    assert session.usage.busy_s <= session.usage.held_s - 2 * 0.2
    assert session.usage.busy_s <= 2 * (worked_till - engine.held[0][0])
    assert session.usage.busy_s >= 2 * seconds * 0.9
    after = session.usage.held_s
    time.sleep(0.05)
    assert session.usage.held_s == after


@pytest.mark.parametrize(("most", "reason"), [(8, "length"), (160, "stop")])
def test_an_answer_says_whether_it_was_cut_off(most, reason):
    session = EngineSession(VARIANT, checkpoint_of(VARIANT), MortalEngine())
    try:
        (result,) = session.generate([enhance_request("a", "Rewrite this caption.", CAPTION, most)])
        assert str(session._engine._model.dtype) == "torch.float32"
    finally:
        session.close()
    assert result.finish_reason == reason
    assert (result.output_tokens == most) == (reason == "length")


def test_a_request_that_kills_the_engine_twice_is_set_aside_and_named():
    engine = MortalEngine(deadly={"r4"})
    results = answers(engine)
    assert sorted(results) == [f"r{i}" for i in range(8)]
    assert {name for name, result in results.items() if not result.outcome.ok} == {"r4"}
    assert results["r4"].outcome.kind == "engine_died"
    assert "died on it twice" in results["r4"].outcome.message
    assert engine.starts == 3


@pytest.mark.parametrize(
    ("batch_size", "answered", "batches"),
    [
        # It has never answered, and dies of the one that came last, too.
        (3, 0, [["r0", "r1", "r2"], ["r2"]]),
        # r0 alone could be to blame, and is set aside; then it dies of another one.
        (1, 0, [["r0"], ["r0"], ["r1"]]),
        # It has answered, and dies of one after the other.
        (3, 3, [["r0", "r1", "r2"], ["r3", "r4", "r5"], ["r5"], ["r4"]]),
    ],
)
def test_an_engine_that_dies_of_whatever_it_is_given_is_given_up_with_its_last_error(batch_size, answered, batches):
    engine = MortalEngine({f"r{i}" for i in range(answered, 8)}, batch_size=batch_size)
    with pytest.raises(ModelError, match=r"engine 'mortal': it keeps dying \(it crashed\)"):
        answers(engine)
    assert engine.batches == batches


def test_a_first_request_that_kills_the_engine_is_set_aside_and_the_others_are_answered():
    results = answers(MortalEngine(deadly={"r0"}))
    assert {name for name, result in results.items() if not result.outcome.ok} == {"r0"}
    assert len(results) == 8


def test_an_engine_that_answers_a_little_and_dies_of_another_request_each_time_is_given_up():
    class Wearing(MortalEngine):
        def _batch(self, batch):
            self.deadly = {batch[0].request_id} if len(batch) > 1 else set()
            return super()._batch(batch)

    engine = Wearing(batch_size=2)
    with pytest.raises(ModelError, match=r"it keeps dying \(it crashed\)"):
        answers(engine, count=40)
    assert engine.starts == 6


def test_an_engine_that_dies_with_nothing_in_flight_is_given_up():
    class Stillborn(MortalEngine):
        def generate(self, requests):
            raise EngineDeathError("engine 'mortal'", "it crashed")
            yield

    engine = Stillborn()
    with pytest.raises(ModelError, match="keeps dying"):
        answers(engine)
    assert engine.starts == 2


class StuckEngine(MortalEngine):
    """Does not go on when it gets one of `deadly`, until `resumed` is set."""

    def __init__(self, deadly, lives=99):
        super().__init__(deadly, lives)
        self._options = replace(self._options, stuck_s=3.0)
        self.resumed = threading.Event()

    def _batch(self, batch):
        ids = [request.request_id for request in batch]
        self.batches.append(ids)
        if self.deadly & set(ids) and self.lives:
            self.lives -= 1
            self.stuck = threading.current_thread()
            self.resumed.wait()
        return TransformersEngine._batch(self, batch)


def test_an_engine_that_gets_stuck_once_is_started_again_and_nothing_is_lost():
    engine = StuckEngine({"r4"}, lives=1)
    results = answers(engine)
    assert sorted(results) == [f"r{i}" for i in range(8)]
    assert all(result.outcome.ok and result.text for result in results.values())
    assert engine.starts == 2
    assert engine.batches == [["r0", "r1", "r2"], ["r3", "r4", "r5"], ["r5"], ["r4"], ["r3"], ["r6", "r7"]]
    engine.resumed.set()
    engine.stuck.join(60)  # what was left behind ends where it goes on
    assert not engine.stuck.is_alive()


def test_a_request_on_which_the_engine_gets_stuck_twice_is_set_aside_and_named():
    engine = StuckEngine({"r4"})
    results = answers(engine)
    assert {name for name, result in results.items() if not result.outcome.ok} == {"r4"}
    assert results["r4"].outcome.kind == "engine_stuck"
    assert "got stuck on it twice, so it was set aside (it has not gone on for 3 sec" in results["r4"].outcome.message
    engine.resumed.set()


def test_an_engine_that_does_nothing_but_get_stuck_is_given_up():
    engine = StuckEngine({f"r{i}" for i in range(8)})
    with pytest.raises(ModelError, match=r"engine 'transformers': it keeps getting stuck .* Raise engine_timeout_s"):
        answers(engine)
    assert engine.starts == 3
    engine.resumed.set()


def test_every_layer_tells_that_the_engine_goes_on(monkeypatch):
    beats = []
    monkeypatch.setattr(Watched, "beat", lambda self: beats.append(1))
    (result,) = answers(MortalEngine(), 1).values()
    layers = json.loads((checkpoint_of(VARIANT).folder / "config.json").read_text())["num_hidden_layers"]
    assert len(beats) >= layers * result.output_tokens


def test_a_mark_that_a_model_puts_before_each_answer_is_no_thinking(monkeypatch):
    decode = TransformersEngine._result
    monkeypatch.setattr(TransformersEngine, "_result", lambda *given: replace(decode(*given), text="<think> A cat."))
    monkeypatch.setattr(f"{__name__}.VARIANT", replace(VARIANT, begins_with="<think>"))
    assert answers(MortalEngine(), 1)["r0"].text == "A cat."


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("<think>\nhm\n</think>\n\nA cat.", "A cat."),
        ("hm</think>A cat.", "A cat."),
        ("[THINK]hm[/THINK]A cat.", "A cat."),
        ("<think>\nhm", None),
        (" A cat. ", "A cat."),
    ],
)
def test_what_a_model_thinks_aloud_is_not_its_answer(monkeypatch, written, answer):
    decode = TransformersEngine._result
    monkeypatch.setattr(TransformersEngine, "_result", lambda *given: replace(decode(*given), text=written))
    result = answers(MortalEngine(), 1)["r0"]
    assert result.text == answer
    if answer is None:
        assert (result.outcome.status, result.outcome.kind) == ("failed", "unfinished_thinking")
        assert result.outcome.message.startswith("the model was still thinking after 8 tokens; raise max_output_tokens")
    else:
        assert result.outcome.ok
