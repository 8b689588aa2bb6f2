"""What of a model's text is its answer: the marks of thinking and of final answers of current models, as data."""

import re
from dataclasses import dataclass
from typing import Any

THINKING: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),  # Qwen, DeepSeek, Nemotron, GLM, InternVL, MiMo, Hunyuan, ERNIE, Step, Olmo and many more
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<analysis>", "</analysis>"),  # Keye-VL
    ("<mm:think>", "</mm:think>"),  # MiniMax M3
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),  # Mistral
    ("◁think▷", "◁/think▷"),  # Kimi-VL
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),  # Kimi K3
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
    ("<ifm|think>", "</ifm|think>"),  # K2
    ("<ifm|think_fast>", "</ifm|think_fast>"),
    ("<ifm|think_faster>", "</ifm|think_faster>"),
    ("Here is my thought process:", "Here is my response:"),  # Granite
    ("Here's my thought process:", "Here's my response:"),
)
"""What thinking begins and ends with. Where the prompt begins it, its beginning is not in the text."""

ANSWERS: tuple[tuple[str, str], ...] = (
    ("<answer>", "</answer>"),
    ("<response>", "</response>"),  # ERNIE
    ("<|open|>response<|sep|>", "<|close|>response<|sep|>"),
    ("<|begin_of_box|>", "<|end_of_box|>"),  # GLM-4.5V and newer
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|START_TEXT|>", "<|END_TEXT|>"),
    ("[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]"),  # Apriel
)
"""What a final answer stands between; what is before it is thinking, too."""

# A mark may be several tokens: `<|channel|>` and `<|message|>`.
_TOKENS = re.compile(r"<[^<>]*>|\[[^\]]*\]|◁[^▷]*▷")
TOKENS = frozenset(token for pair in (*THINKING, *ANSWERS) for mark in pair for token in _TOKENS.findall(mark))
"""What these marks are made of, where they may be tokens of their own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` without any thinking; `unfinished` says that there is nothing but thinking, which has no end."""

    text: str
    unfinished: bool = False


def leaves_out_marks(tokenizer: Any) -> bool:
    """Whether texts without the tokenizer's special tokens lack what an answer is found by."""
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return not TOKENS.isdisjoint(special)


def opened_by(prompt: str) -> str:
    """The mark by which a prompt has begun the model's thinking; empty where it has not."""
    end = prompt.rstrip()
    return next((begins for begins, _ in THINKING if end.endswith(begins)), "")


def answer_of(text: str) -> Answer:
    """The answer in a model's text, to which the mark that the prompt ended with belongs (`opened_by`)."""
    rest = text.strip()
    while True:
        begun = next((pair for pair in THINKING if rest.startswith(pair[0])), None)
        ends = [(rest.find(end), end) for _, end in ((begun,) if begun else THINKING) if end in rest]
        if not ends:
            break
        at, end = min(ends)
        rest = rest[at + len(end) :].strip()
    if begun:
        return Answer("", unfinished=True)
    for begins, end in ANSWERS:
        if begins in rest:
            return Answer(rest.partition(begins)[2].partition(end)[0].strip())
    return Answer(rest)
