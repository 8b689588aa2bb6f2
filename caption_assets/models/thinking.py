"""What of a model's text is its answer: the marks of thinking and of final answers of current models, as data."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

THINKING: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),  # Qwen, DeepSeek, Nemotron, GLM, InternVL, MiMo, Hunyuan, ERNIE, Step, Olmo and many more
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<SUMMARY>", "</REASONING>"),  # LLaVA-CoT, whose <CONCLUSION> comes next
    ("<analysis>", "</analysis>"),  # Keye-VL
    ("<mm:think>", "</mm:think>"),  # MiniMax M3
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),  # Mistral
    ("◁think▷", "◁/think▷"),  # Kimi-VL
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),  # Kimi K3
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|think_start|>", "<|think_end|>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<|im_start|>think", "<|im_start|>answer"),  # s1
    ("<unused94>thought", "<unused95>"),  # MedGemma
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
    ("<ifm|think>", "</ifm|think>"),  # K2
    ("<ifm|think_fast>", "</ifm|think_fast>"),
    ("<ifm|think_faster>", "</ifm|think_faster>"),
    ("Here is my thought process:", "Here is my response:"),  # Granite
    ("Here's my thought process:", "Here's my response:"),
)
"""What thinking begins and ends with. Where the prompt begins it, its beginning is not in the text.

Marks in small letters are the same in capitals.
"""

BARE: tuple[tuple[str, str], ...] = (
    ("analysis", "assistantfinal"),  # gpt-oss
    ("assistantanalysis", "assistantfinal"),
)
"""The same where a server leaves out special tokens: a word with which the text begins, with no blank after it."""

ANSWERS: tuple[tuple[str, str], ...] = (
    ("<answer>", "</answer>"),
    ("<response>", "</response>"),  # ERNIE
    ("<CONCLUSION>", "</CONCLUSION>"),
    ("<|open|>response<|sep|>", "<|close|>response<|sep|>"),
    ("<|begin_of_box|>", "<|end_of_box|>"),  # GLM-4.5V and newer
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|START_TEXT|>", "<|END_TEXT|>"),
    ("[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]"),  # Apriel
)
"""What a final answer stands between; what is before it is thinking, too."""

LAST = ("<|return|>", "<|end|>")
"""What an answer may end with, and is no part of it; of gpt-oss."""

# A mark may be several tokens: `<|channel|>` and `<|message|>`.
_TOKENS = re.compile(r"<[^<>]*>|\[[^\]]*\]|◁[^▷]*▷")
TOKENS = frozenset(token for pair in (*THINKING, *ANSWERS) for mark in pair for token in _TOKENS.findall(mark)) - {
    "<|im_start|>"
}
"""What these marks are made of, where they may be tokens of their own. Without that of each turn of most models."""


def _any_of(marks: Iterable[str]) -> str:
    return "|".join(f"(?i:{re.escape(mark)})" if mark == mark.lower() else re.escape(mark) for mark in marks)


_BARE = "|".join(rf"\A{begins}(?=[\w\"'“])" for begins, _ in BARE)
_BEGINS = re.compile("|".join((_any_of(begins for begins, _ in THINKING), _BARE)))
_END_OF = {begins.lower(): end for begins, end in (*THINKING, *BARE)}
_ENDS = re.compile(_any_of(dict.fromkeys(end for _, end in (*THINKING, *BARE))))


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
    """The answer in a model's text, to which the mark that the prompt ended with belongs (`opened_by`).

    What is before thinking is no answer, either.
    """
    rest = text.removeprefix("\ufeff").strip()
    while True:
        begun, ended = _BEGINS.search(rest), _ENDS.search(rest)
        if begun and (not ended or begun.start() <= ended.start()):
            ended = re.compile(_any_of([_END_OF[begun[0].lower()]])).search(rest, begun.end())
            if not ended:
                return Answer("", unfinished=True)
        if not ended:
            break
        rest = rest[ended.end() :].strip()
    for last in LAST:
        rest = rest.removesuffix(last).rstrip()
    for begins, end in ANSWERS:
        parts = re.split(_any_of([begins]), rest, maxsplit=1)
        if len(parts) > 1:
            return Answer(re.split(_any_of([end]), parts[1], maxsplit=1)[0].strip())
    return Answer(rest)
