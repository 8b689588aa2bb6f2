import math

import pytest

from caption_assets.models.confidence import Confidence, confidence_of, lowest_tenth


def of(answer, *tokens):
    found = confidence_of(answer, tokens)
    assert found is not None
    return found


def test_a_confidence_is_the_mean_the_lowest_and_the_lowest_tenth_of_the_answers_tokens():
    tokens = [(f" w{k}", -k / 10) for k in range(30)]
    found = of("".join(word for word, _ in tokens).strip(), *tokens)
    assert found == Confidence(pytest.approx(-1.45), -2.9, pytest.approx(-2.8))
    assert of("A cat.", ("A", -0.1), (" cat", -0.4), (".", -0.1)).low_logprob == -0.4  # a token at least
    assert lowest_tenth([5.0, 1.0, 3.0]) == 1.0


@pytest.mark.parametrize(
    "tokens",
    [
        [("<think>", -9), ("A cat?", -9), ("</think>", -9), ("\n\n", -9), ("A", -1), (" cat.", -3), ("<|im_end|>", -9)],
        [("A cat.", -9), ("</think>", -9), ("A", -1), (" cat.", -3)],  # the prompt has begun the thinking
        [(" ", -9), ("A", -1), (" cat.", -3), ("\n", -9), ("</s>", -9)],
        [("<answer>", -9), ("A", -1), (" cat.", -3), ("</answer>", -9)],
        # Tokens that read differently alone: without the blank between them.
        [("</think>", -9), ("A", -1), ("cat.", -3)],
    ],
)
def test_what_stands_around_the_answer_does_not_count(tokens):
    assert of("A cat.", *tokens) == Confidence(-2, -3, -3)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([("猫", -1), ("", -2), ("坐", -3), ("。", -4), ("</s>", -9)], Confidence(-2.5, -4, -4)),  # as vLLM reads them
        ([("猫", -1), ("\ufffd", -2), ("\ufffd", -3), ("。", -4)], Confidence(-2.5, -4, -4)),  # as transformers does
    ],
)
def test_letters_that_are_split_over_tokens_belong_to_the_answer(tokens, expected):
    assert of("猫坐。", ("</think>", -9), *tokens) == expected


def test_an_impossible_token_is_as_unlikely_as_servers_say_and_nothing_known_is_nothing():
    assert of("A cat", ("A", 1e-9), (" cat", -math.inf)) == Confidence(-4999.5, -9999, -9999)
    assert confidence_of("A cat", []) is None
    assert confidence_of("A cat", [("A", math.nan), (" cat", -1)]) is None
