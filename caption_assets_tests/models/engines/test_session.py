"""A session keeps its work when the engine dies: real models, whose engine is made to die of chosen requests."""

import pytest

from caption_assets.errors import ModelError
from caption_assets.models.engines.base import EngineDeathError, EngineOptions
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.engines.transformers import TransformersEngine
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
    # The three that it had come first and alone; r0 to r2 were answered and do not come again.
    assert engine.batches == [["r0", "r1", "r2"], ["r3", "r4", "r5"], ["r3"], ["r4"], ["r5"], ["r6", "r7"]]


def test_a_request_that_kills_the_engine_twice_is_set_aside_and_named():
    engine = MortalEngine(deadly={"r4"})
    results = answers(engine)
    assert sorted(results) == [f"r{i}" for i in range(8)]
    assert {name for name, result in results.items() if not result.outcome.ok} == {"r4"}
    assert results["r4"].outcome.kind == "engine_died"
    assert "died on it twice" in results["r4"].outcome.message
    assert engine.starts == 3


def test_an_engine_that_dies_of_everything_is_given_up():
    with pytest.raises(ModelError, match="keeps dying"):
        answers(MortalEngine(deadly={f"r{i}" for i in range(8)}))


def test_an_engine_that_dies_with_nothing_in_flight_is_given_up():
    class Stillborn(MortalEngine):
        def generate(self, requests):
            raise EngineDeathError("engine 'mortal'", "it crashed")
            yield

    engine = Stillborn()
    with pytest.raises(ModelError, match="keeps dying"):
        answers(engine)
    assert engine.starts == 2


def test_what_a_model_thinks_aloud_is_not_its_answer(monkeypatch):
    engine = MortalEngine()
    decode = TransformersEngine._result

    def aloud(self, *arguments):
        from dataclasses import replace

        result = decode(self, *arguments)
        return replace(result, text=f"<think>\nhm\n</think>\n\n{result.text}")

    plain = answers(engine, 1)["r0"].text
    monkeypatch.setattr(TransformersEngine, "_result", aloud)
    assert answers(MortalEngine(), 1)["r0"].text == plain
