"""What servers answer, as they spell it."""

import json

import pytest

from caption_assets.models.engines.openai.replies import (
    NoAnswerError,
    error_text,
    listed_models,
    read_answer,
    refused_field,
)
from caption_assets_tests.openai_kinds import ENDINGS, answer


def read(**spelled):
    return read_answer(json.dumps(answer(**{"content": "A cat.", **spelled})).encode())


@pytest.mark.parametrize(("ending", "reason"), [(e, reason) for e, reasons in ENDINGS.items() for reason in reasons])
def test_a_text_is_kept_unless_its_ending_means_filtered_or_broken_off(ending, reason):
    found = read(finish=reason)
    kept = ending in ("stop", "length")
    assert (found.text, found.finish_reason) == (("A cat.", ending) if kept else (None, None))
    assert found.kind == {"filtered": "filtered", "broken": "reply"}.get(ending, "")
    assert kept or str(reason) in found.problem


@pytest.mark.parametrize(
    ("logprobs", "tokens"),
    [
        ({"content": [{"token": "A", "logprob": -1, "bytes": [65]}, {"token": " cat.", "logprob": -2.5}]}, 2),
        ({"content": [{"token": "A \ud83d", "logprob": -1.5, "top_logprobs": []}]}, 1),
        ({"content": None, "tokens": ["A", " cat."], "token_logprobs": [-1.0, -2.5]}, 2),  # Together
        ({"token_logprobs": [-1.0], "tokens": [65]}, 1),  # mlx_lm
        ({"token_logprobs": [None, -1.0], "tokens": ["A", "cat"]}, 0),
        ({"token_logprobs": [-1.0], "tokens": ["A", "cat"]}, 0),
        ({"content": [{"token": "A"}]}, 0),
        ({"content": [{"token": "A", "logprob": True}]}, 0),
        ({"content": ["A"]}, 0),
        ({"content": []}, 0),
        ([-1.0], 0),
        ("none", 0),
        (None, 0),
    ],
)
def test_log_probabilities_are_there_or_not(logprobs, tokens):
    found = read(choice={"logprobs": logprobs})
    assert found.text == "A cat."
    assert len(found.tokens) == tokens
    for piece, value in found.tokens:
        piece.encode()
        assert value in (-1, -1.5, -2.5)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (" A cat.\n", "A cat."),
        ([{"type": "text", "text": "A "}, {"type": "text", "text": "cat."}], "A cat."),
        ([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "A cat."}], "A cat."),
        ([{"type": "output_text", "text": "A cat."}, {"type": "image", "text": "no"}], "A cat."),
        (["A cat."], "A cat."),
        ({"type": "text", "text": "A cat."}, "A cat."),
        ("A \ud83d cat \U0001f408.", "A \ufffd cat \U0001f408."),
        ([{"type": "text", "text": 7}, None, 3], None),
        (None, None),
        (7, None),
        ({"cat": 1}, None),
    ],
)
def test_content_may_be_a_list_of_parts(content, text):
    found = read(content=content)
    assert found.text == text
    assert bool(found.problem) is (text is None)
    (found.text or "").encode()  # as tables and documents will


@pytest.mark.parametrize(
    ("spelled", "kind", "problem"),
    [
        ({"content": None, "message": {"refusal": "I cannot help."}}, "refusal", "the model refuses: I cannot help."),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "refusal", "the model refuses: No."),
        (
            {
                "content": "",
                "finish": "content_filter",
                "choice": {"content_filter_results": {"hate": {"filtered": True}, "sexual": {"filtered": False}}},
            },
            "filtered",
            "the server filtered the text (content_filter: hate)",
        ),
        ({"content": "", "message": {"tool_calls": [{}]}}, "reply", "it calls a tool"),
        ({"content": "", "message": {"reasoning_content": "Hm."}, "finish": "length"}, "reply", "has only thought"),
        ({"content": None, "message": {"reasoning": "Hm."}}, "reply", "has only thought"),
        ({"content": " "}, "reply", "has no text; it ended for the reason 'stop'"),
    ],
)
def test_why_there_is_no_text_is_said(spelled, kind, problem):
    found = read(**spelled)
    assert (found.text, found.finish_reason, found.kind) == (None, None, kind)
    assert problem in found.problem


@pytest.mark.parametrize(
    ("code", "status"), [(400, 400), ("429", 429), (599, 599), (600, 0), (399, 0), ("rate_limit", 0), (None, 0)]
)
def test_an_error_that_comes_as_if_all_were_well_has_the_status_that_it_names(code, status):
    for reply in ({"error": {"code": code}}, {"choices": [{"error": {"status": code}}]}):
        with pytest.raises(NoAnswerError) as error:
            read_answer(json.dumps(reply).encode())
        assert error.value.status == status


def test_what_is_not_as_it_should_be_beside_a_text_is_left():
    odd = {"prompt_tokens": 10**30, "completion_tokens": True}
    found = read(usage=odd, metrics={"time_to_first_token_ms": 1e400, "generation_time_ms": -1}, model=["m"])
    assert (found.prompt_tokens, found.output_tokens, found.prefill_s, found.generate_s) == (None,) * 4
    assert (found.text, found.model) == ("A cat.", "")
    assert read(model="m" * 999).model == "m" * 200


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ('{"error": {"code": 429, "message": "slow down"}}', 429, "slow down"),  # OpenRouter
        ('{"error": {"code": "502", "message": "bad"}, "choices": []}', 502, "bad"),
        ('{"choices": [{"error": {"code": 503, "message": "overloaded"}}]}', 503, "overloaded"),
        ('{"error": "boom"}', 0, "boom"),
        ('{"error": {"code": "x", "message": "boom"}}', 0, "boom"),
        ("<html><head><title>Sign in</title>", 0, "is no JSON object: Sign in"),
        ("[" * 100_000, 0, "is no JSON object"),
        ('{"a":' * 100_000, 0, "is no JSON object"),
        ("", 0, "is no JSON object"),
        ("\x00\xff", 0, "is no JSON object"),
        ("null", 0, "is no JSON object"),
        ('{"choices": {}}', 0, "has no choices"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_error_that_comes_as_an_answer_is_none(body, status, message):
    with pytest.raises(NoAnswerError, match=message) as error:
        read_answer(body.encode())
    assert error.value.status == status


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"error": {"message": "no"}}', "no"),
        ('{"error": "no"}', "no"),
        ('{"detail": "no"}', "no"),
        ('{"detail": [{"loc": ["body", "seed"], "msg": "no"}, {"msg": "never"}]}', "seed: no; never"),
        ('[{"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}]', "no"),  # Gemini
        ('{"object": "error", "message": "no"}', "no"),  # LMDeploy
        (
            '{"error": {"message": "Provider returned error", "metadata": {"raw": "no"}}}',
            "Provider returned error (no)",
        ),
        ('{"errors": [{"message": "no"}]}', "no"),
        ("<html><title>502 Bad Gateway</title>", "502 Bad Gateway"),
        ("upstream timed out", "upstream timed out"),
        ('{"error": ' + '{"error": ' * 400 + '"deep"' + "}" * 401, ""),
        ("{}", ""),
        ("[]", ""),
    ],
    ids=lambda value: str(value)[:30],
)
def test_the_words_of_an_error_are_found(body, text):
    assert error_text(body.encode()) == text


@pytest.mark.parametrize(
    ("error", "field"),
    [
        ({"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."}, "max_tokens"),
        ({"message": "Unsupported value: 'temperature' does not support 0", "param": "temperature"}, "temperature"),
        ({"message": "`temperature` and `top_p` cannot both be specified for this model."}, "top_p"),
        ({"message": "Unrecognized request argument supplied: seed"}, "seed"),
        ({"message": "Extra inputs are not permitted: stop_it"}, None),
        ({"message": "max_tokens is too large: 9"}, None),  # nothing that another name would mend
        ({"message": "Unsupported parameter: 'messages'"}, None),
        ({"message": "Unsupported parameter: 'presence_penalty'"}, None),  # was not sent
        ("Input validation error: `top_p` must be > 0.0 and < 1.0", "top_p"),
        ("Input validation error: `temperature` must be strictly positive", "temperature"),
        ("top_k must be at least 1", None),  # which 5 is
        ("max_tokens must be at most 4", None),
        ("messages must be two", None),
    ],
)
def test_a_field_that_can_be_done_without_is_found_in_the_error_about_it(error, field):
    sent = {"messages": [], "max_tokens": 9, "temperature": 0.0, "top_p": 1.0, "top_k": 5, "seed": 0, "stop": ["."]}
    assert refused_field(json.dumps({"error": error}).encode(), sent) == field


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        ('{"data": [{"id": "a"}, {"id": ""}, {"id": 3}, "b", null]}', ["a", "b"]),
        ('[{"id": "a"}]', ["a"]),
        ('[{"id": "a\\ud83d"}]', ["a\ufffd"]),
        ('{"models": [{"name": "a"}]}', ["a"]),
        ('{"object": "list", "data": null}', []),
        ('{"data": "a"}', None),
        ('"a"', None),
        ("<html>", None),
    ],
)
def test_lists_of_models_are_read_in_all_their_shapes(body, ids):
    cards = listed_models(body.encode())
    assert (cards and [card["id"] for card in cards]) == ids
