"""Chat messages as prompts: in the model's template, with users' texts and captions as text, whatever they look like.

A tokenizer takes `<|im_end|>` for the end of a turn wherever it stands, and a template acts on words such as
`/no_think`. A text that holds such a mark is therefore kept out of the template, and its tokens are made by a
tokenizer that knows no marks. All other prompts are tokenized whole, as ever.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Any

from caption_assets.models.families import Family
from caption_assets.models.requests import without_thinking

# What templates and processors act on, besides the tokens that a tokenizer knows.
_SWITCHES = re.compile(r"</?(?:image|video|audio|think)>|/(?:no_)?think")
_MARK = re.compile(r"<.*>|\[.*\]|◁.*▷")
# Where a mark of any model may begin: <|…, …|>, also with full-width bars, <tag>, </tag>, <tag 1>, [TAG], [/TAG],
# [gMASK], ◁tag▷ and the switches.
_BEGINS = re.compile(
    r"<(?=[|｜]|/?[A-Za-z_][\w:.-]*(?: \d+)?>)|[|｜](?=>)|\[(?=/?[A-Z][A-Z_\d]*\]|[gs]MASK\])|◁(?=/?\w+▷)"
    r"|/(?=(?:no_)?think)"
)
_PLACE = "\ue000{}\ue001"
_PLACES = re.compile("\ue000(\\d+)\ue001")


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A prompt, ready for the model's answer.

    The even ones of `pieces` are the template's, the odd ones plain text between them; mostly there is one piece.
    """

    pieces: tuple[str, ...]

    @property
    def is_plain_inside(self) -> bool:
        """Whether some of it must be tokenized apart."""
        return len(self.pieces) > 1

    @property
    def text(self) -> str:
        """All of it; what to tokenize where nothing is to be tokenized apart."""
        return "".join(self.pieces)

    def token_ids(self, tokenizer: Any, *, add_special_tokens: bool = False) -> list[int]:
        """All tokens, with those that a tokenizer adds by itself where asked for."""
        ids: list[int] = list(tokenizer(self.pieces[0], add_special_tokens=add_special_tokens)["input_ids"])
        for k, piece in enumerate(self.pieces[1:], 1):
            ids += plain_ids(tokenizer, piece) if k % 2 else tokenizer(piece, add_special_tokens=False)["input_ids"]
        return ids


def chat_prompt(tool: Any, family: Family, messages: Sequence[dict[str, Any]], **options: Any) -> ChatPrompt:
    """The messages in the model's chat template, thinking switched off.

    `tool` is the checkpoint's processor or tokenizer; `options` go to its `apply_chat_template`.
    """
    tokenizer, texts = getattr(tool, "tokenizer", tool), list(_texts(messages))
    if not any(_has_marks(tokenizer, text) for text in texts):
        return ChatPrompt((_rendered(tool, family, messages, options),))
    places = iter(range(len(texts)))
    hidden = [_with_texts(message, lambda _: _PLACE.format(next(places))) for message in messages]
    pieces = _PLACES.split(_rendered(tool, family, hidden, options))
    return ChatPrompt(tuple(texts[int(piece)] if k % 2 else piece for k, piece in enumerate(pieces)))


def kept_tokens(known: Sequence[int], before: Sequence[int], now: Sequence[int]) -> tuple[int, int] | None:
    """What a prompt shares with another one about the same video: how many tokens of it, and of its own they stand for.

    `known` are those of the other prompt with the video's filled in, `before` those without, and `now` this prompt's.
    At least one is left, for the model to go on from. None where the video does not stand before all that differs.
    """
    pairs = zip(before, now[:-1], strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    kept = len(known) - (len(before) - same)
    if list(known[:kept]) == list(before[:same]) or list(known[kept:]) != list(before[same:]):
        return None
    return kept, same


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text in which nothing is a mark."""
    ids: list[int] = _without_marks(tokenizer).encode(text, add_special_tokens=False).ids
    return ids


def without_marks(message: dict[str, Any]) -> dict[str, Any]:
    """A user's message for a server, which tokenizes it itself: whatever could be a mark is broken by a blank.

    A blank only ever parts a mark, so that no other one can come of it.
    """
    return _with_texts(message, lambda text: _BEGINS.sub(lambda found: found[0] + " ", text))


def _rendered(tool: Any, family: Family, messages: Sequence[dict[str, Any]], options: dict[str, Any]) -> str:
    messages, switches = without_thinking(family, messages)
    text: str = tool.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=True, **options, **switches
    )
    return text


def _has_marks(tokenizer: Any, text: str) -> bool:
    return bool(_SWITCHES.search(text)) or any(mark in text for mark in _marks(tokenizer))


def _texts(messages: Sequence[dict[str, Any]]) -> Iterator[str]:
    for message in messages:
        content = message["content"]
        parts = [{"text": content}] if isinstance(content, str) else content
        yield from (part["text"] for part in parts if "text" in part)


def _with_texts(message: dict[str, Any], change: Any) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": change(content)}
    return {
        **message,
        "content": [{**part, "text": change(part["text"])} if "text" in part else part for part in content],
    }


@lru_cache(maxsize=4)
def _marks(tokenizer: Any) -> frozenset[str]:
    """Those that the tokenizer knows. Some have runs of blanks or line ends beside them, which are no marks."""
    added = (token for token in tokenizer.get_added_vocab() if _MARK.search(token))
    return frozenset((*added, *tokenizer.all_special_tokens))


@lru_cache(maxsize=4)
def _without_marks(tokenizer: Any) -> Any:
    from tokenizers import Tokenizer

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return Tokenizer.from_str(json.dumps(state | {"added_tokens": [], "post_processor": None}))
