"""How tokens are drawn: the rules against transformers' own, and real models that draw the same again."""

import json
import shutil
from dataclasses import replace

import pytest

from caption_assets.models.chat import chat_prompt
from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.draws import score_changes
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.engines.transformers import TransformersEngine
from caption_assets.models.requests import enhance_request, request_seed
from caption_assets.models.variants import TEXT_VARIANTS, Sampling
from caption_assets.models.weights.checkpoints import checkpoint_of

DRAWN = Sampling(temperature=0.9, top_p=0.95, top_k=50)


def texts(folder, sampling, ids=("a", "b", "c", "d", "e"), batch_size=4):
    variant = TEXT_VARIANTS["qwen_lm"]
    checkpoint = checkpoint_of(variant, str(folder))
    options = EngineOptions("cpu", batch_size=batch_size, sampling=sampling)
    session = EngineSession(variant, checkpoint, TransformersEngine(variant, checkpoint, options))
    try:
        results = session.generate(enhance_request(name, "Rewrite.", "A cat sits.", 12) for name in ids)
        return {result.request_id: result.text for result in results}
    finally:
        session.close()


def test_what_is_drawn_is_drawn_again_in_any_batch_and_order(checkpoints):
    first = texts(checkpoints["text"], DRAWN)
    assert len(set(first.values())) == 5  # each window has a seed of its own
    assert texts(checkpoints["text"], DRAWN) == first
    assert texts(checkpoints["text"], DRAWN, ids=("e", "c"), batch_size=1) == {k: first[k] for k in "ec"}
    other = texts(checkpoints["text"], replace(DRAWN, seed=1))
    assert not set(other.values()) & set(first.values())


@pytest.mark.parametrize("sampling", [Sampling(repetition_penalty=1.3), replace(DRAWN, presence_penalty=1.0)])
def test_tokens_have_the_probabilities_that_the_model_itself_gives_them(checkpoints, sampling, monkeypatch):
    """A pass over prompt and answer together gives the same, whatever the draw has made of them."""
    import torch

    variant = TEXT_VARIANTS["qwen_lm"]
    checkpoint = checkpoint_of(variant, str(checkpoints["text"]))
    engine = TransformersEngine(variant, checkpoint, EngineOptions("cpu", batch_size=4, sampling=sampling))
    engine.start()
    generated, give = {}, engine._result

    def watched(request, opened, tokens, *more):
        generated[request.request_id] = [token for token, _ in tokens]
        return give(request, opened, tokens, *more)

    monkeypatch.setattr(engine, "_result", watched)
    # Of different lengths, so that the batch is padded; and one that ends before the others.
    asked = [enhance_request(name, "Go on.", "A cat. " * len(name), 9) for name in ("a", "bbb", "ccccc")]
    asked[1] = replace(asked[1], max_tokens=4)
    results = {result.request_id: result for result in engine.generate(asked)}
    for request in asked:
        result = results[request.request_id]
        prompt = chat_prompt(engine._processor, engine._family, request.messages).text
        answer = generated[request.request_id][: result.output_tokens]
        assert len(result.tokens) == len(answer) <= request.max_tokens
        ids = torch.tensor([[*engine._tokenizer(prompt)["input_ids"], *answer]])
        with torch.inference_mode():
            scores = engine._model(ids).logits[0, -len(answer) - 1 : -1].log_softmax(dim=1)
        expected = [row[token].item() for row, token in zip(scores, answer, strict=True)]
        assert [score for _, score in result.tokens] == pytest.approx(expected, abs=1e-4)
    engine.close()


def test_a_penalty_gives_the_texts_that_transformers_gives_with_it(checkpoints):
    variant = TEXT_VARIANTS["qwen_lm"]
    checkpoint = checkpoint_of(variant, str(checkpoints["text"]))
    found = {}
    for penalty in (1.0, 1.3):
        options = EngineOptions("cpu", sampling=Sampling(repetition_penalty=penalty))
        engine = TransformersEngine(variant, checkpoint, options)
        engine.start()
        asked = enhance_request("a", "Rewrite.", "A cat sits.", 12)
        (result,) = engine.generate([asked])
        prompt = chat_prompt(engine._processor, engine._family, asked.messages).text
        ids = engine._tokenizer(prompt, return_tensors="pt")
        output = engine._model.generate(**ids, max_new_tokens=12, repetition_penalty=penalty)
        tokens = output[0, ids["input_ids"].shape[1] :]
        assert result.text == engine._tokenizer.decode(tokens, skip_special_tokens=True).strip()
        found[penalty] = result.text
        engine.close()
    assert found[1.0] != found[1.3]


def test_a_checkpoints_own_sampling_counts_for_nothing(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints["text"], tmp_path / "model")
    file = folder / "generation_config.json"
    own = {"do_sample": True, "temperature": 3.0, "top_k": 2, "repetition_penalty": 9.0, "no_repeat_ngram_size": 1}
    file.write_text(json.dumps(json.loads(file.read_text()) | own | {"min_new_tokens": 3}))
    for sampling in (Sampling(), DRAWN):
        assert texts(folder, sampling) == texts(checkpoints["text"], sampling)


@pytest.mark.parametrize("top_k", [0, 1, 7])
@pytest.mark.parametrize("top_p", [1.0, 0.8, 0.01])
def test_the_tokens_that_may_be_drawn_are_those_of_transformers(top_k, top_p):
    import torch
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    scores = torch.randn(3, 40, generator=torch.Generator().manual_seed(0)) * 3
    tokens = torch.zeros(3, 5, dtype=torch.long)
    expected = TemperatureLogitsWarper(0.7)(tokens, scores)
    expected = TopKLogitsWarper(top_k)(tokens, expected) if top_k else expected
    expected = (TopPLogitsWarper(top_p)(tokens, expected) if top_p < 1 else expected).softmax(dim=1)
    drawn = torch.zeros_like(scores)
    (change,) = score_changes(Sampling(0.7, top_p, top_k), [1, 2, 3], 5)
    rounds = 2000
    for _ in range(rounds):
        drawn[torch.arange(3), change(tokens, scores).argmax(dim=1)] += 1
    assert not drawn[expected == 0].any()
    torch.testing.assert_close(drawn / rounds, expected, rtol=0, atol=0.06)


def test_what_the_answer_has_already_is_less_likely_by_the_presence_penalty():
    import torch

    (change,) = score_changes(Sampling(presence_penalty=1.5), [0], 2)
    tokens, scores = torch.tensor([[0, 1, 2, 3, 3]]), torch.zeros(1, 5)
    assert change(tokens, scores).tolist() == [[0, 0, -1.5, -1.5, 0]]  # once, and not for the prompt
    assert change(tokens[:, :2], scores).tolist() == [[0, 0, 0, 0, 0]]
    assert score_changes(Sampling(), [0], 2) == []


def test_a_requests_seed_is_its_own_and_fits_every_engine():
    seeds = {request_seed(seed, f"shard/{k}") for seed in (0, 1) for k in range(500)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert request_seed(0, "a/clip/0_255") == 1_833_311_026
