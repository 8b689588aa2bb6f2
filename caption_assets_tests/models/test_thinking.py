import pytest

from caption_assets.models.thinking import ANSWERS, THINKING, TOKENS, Answer, answer_of, leaves_out_marks, opened_by

UNFINISHED = Answer("", unfinished=True)


@pytest.mark.parametrize(("begins", "ends"), THINKING)
def test_an_answer_is_what_follows_the_thinking_and_there_is_none_before_its_end(begins, ends):
    assert answer_of(f"{begins}\nIs it a cat? It is.\n{ends}\n\nA cat sits.\n") == Answer("A cat sits.")
    assert answer_of(f"{begins}a{ends}{begins}b{ends} A cat sits.") == Answer("A cat sits.")
    assert answer_of(f"Is it a cat? It is.{ends}A cat sits.") == Answer("A cat sits.")  # the prompt has begun it
    assert answer_of(f" {begins}\nIs it a cat? It") == UNFINISHED
    assert answer_of(f"{begins}a{ends}{begins}Is it") == UNFINISHED
    assert answer_of(f"{begins}a{ends}") == Answer("")


@pytest.mark.parametrize(("begins", "ends"), ANSWERS)
def test_a_final_answer_is_what_stands_between_its_marks(begins, ends):
    assert answer_of(f"Is it a cat? It is. {begins}A cat sits.{ends} Done.") == Answer("A cat sits.")
    assert answer_of(f"<think>a {begins} b</think>{begins}\nA cat sits.\n{ends}") == Answer("A cat sits.")
    assert answer_of(f"{begins}A cat si") == Answer("A cat si")
    assert answer_of(f"<think>It goes into {begins}, I") == UNFINISHED


@pytest.mark.parametrize(
    "text",
    [
        "Okay.\n<think>\nThe user wants",
        "assistant\n<think>\nThe user wants",
        "\ufeff<think>The user wants",
        "<think>a</think>\nA cat.\n<think>Is it",
        "<Think>The user wants",
        "<THINK>a</think><Thinking>b",
        "analysisWe need to",
        "assistantanalysisWe need to",
        "<|start|>assistant<|channel|>analysis<|message|>We need",
        "<SUMMARY>I will look.</SUMMARY><CAPTION>A cat.</CAPTION><REASONING>It",
    ],
)
def test_thinking_without_an_end_is_no_answer_wherever_it_begins(text):
    assert answer_of(text) == UNFINISHED


@pytest.mark.parametrize(
    "text",
    [
        "Okay.\n<think>Is it?</think>A cat sits.",
        "\ufeff<think>Is it?</think>A cat sits.",
        "\ufeffA cat sits.",
        "<Think>Is it?</THINK>A cat sits.",
        "<think>Is it?</think><Answer>A cat sits.</ANSWER>",
        "analysisWe need to say it.assistantfinalA cat sits.",
        "analysis“A cat”?assistantfinalA cat sits.",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>A cat sits.<|return|>",
        "<|start|>assistant<|channel|>final<|message|>A cat sits.<|end|>",
        "<SUMMARY>a</SUMMARY>\n<CAPTION>b</CAPTION>\n<REASONING>c</REASONING>\n<CONCLUSION>A cat sits.</CONCLUSION>",
        "<|im_start|>think\nIs it?<|im_start|>answer\nA cat sits.",
    ],
)
def test_an_answer_follows_thinking_wherever_that_begins(text):
    assert answer_of(text) == Answer("A cat sits.")


@pytest.mark.parametrize("text", ["analysis of a ball", "Analysis: a ball rolls.", "<caption>A ball.</caption>"])
def test_words_that_only_look_like_marks_are_text(text):
    assert answer_of(text) == Answer(text)


def test_an_answer_without_marks_is_all_of_the_text():
    text = "A sign says: think [of] <us>. 3 < 4 > 2."
    assert answer_of(f"\n{text} ") == Answer(text)


def test_a_prompt_tells_whether_it_has_begun_the_thinking():
    assert opened_by("<|im_start|>assistant\n<think>\n") == "<think>"
    assert opened_by("<|im_start|>assistant\n<think>\n\n</think>\n\n") == ""
    assert opened_by("<|im_start|>assistant\n") == ""


def test_marks_of_several_tokens_are_known_by_each():
    assert {"<|channel|>", "<|message|>", "[/THINK]", "◁think▷", "</think>"} <= TOKENS


def test_marks_that_are_special_tokens_stay_in_the_text(checkpoints):
    from tokenizers import AddedToken
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoints["text"])
    assert not leaves_out_marks(tokenizer)
    tokenizer.add_tokens([AddedToken("[THINK]", special=True)], special_tokens=True)
    assert leaves_out_marks(tokenizer)
