"""How engines keep answers to JSON schemas: tokens that cannot come next are not chosen. vLLM does so by itself."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from caption_assets.errors import ConfigError, first_line
from caption_assets.extras import importing
from caption_assets.models.schemas import grammatical, tell_unkept
from caption_assets.models.schemas.composing import parts_of

# Where blanks may stand anywhere, some models write nothing else.
_FORM: dict[str, Any] = {"any_whitespace": False, "separators": (",", ":")}
_MOST_OPTIONAL = 1000
"""Of an object: to compile its grammar takes the cube of it, 3 s for 1,200 and minutes for 5,000."""


class Grammars:
    """Compiles schemas for one tokenizer, of so many tokens; `ends` are those that an answer ends with."""

    def __init__(self, tokenizer: Any, num_tokens: int, ends: list[int]) -> None:
        import xgrammar

        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=num_tokens, stop_token_ids=ends)
        self._xgrammar, self._num_tokens = xgrammar, num_tokens
        self._compiler = xgrammar.GrammarCompiler(info)

    def limits(self, schemas: Sequence[str | None]) -> Callable[[Any, Any], Any]:
        """What is to be done to the scores of each step, a row for each schema; rows without one are left alone."""
        matchers = [None if schema is None else self._matcher(schema) for schema in schemas]
        allowed = self._xgrammar.allocate_token_bitmask(len(schemas), self._num_tokens)
        begun: list[bool] = []

        def limit(tokens: Any, scores: Any) -> Any:
            rows = []
            for row, matcher in enumerate(matchers):
                if matcher is None or matcher.is_terminated():
                    continue
                if begun:
                    matcher.accept_token(int(tokens[row, -1]))
                if not matcher.is_terminated():
                    matcher.fill_next_token_bitmask(allowed, row)
                    rows.append(row)
            begun.append(True)
            if rows:
                scores = scores.clone()
                self._xgrammar.apply_token_bitmask_inplace(scores, allowed.to(scores.device), indices=rows)
            return scores

        return limit

    def _matcher(self, schema: str) -> Any:
        return self._xgrammar.GrammarMatcher(self._compiler.compile_json_schema(grammatical(schema), **_FORM))


def check_schema(schema: str, asked: str) -> None:
    """Raises ConfigError, of what was `asked`, where no grammar can be made of the schema, and tells what a grammar
    does not keep answers to. Needs no tokenizer."""
    if (wrong := _not_compiled(schema)) is not None:
        raise ConfigError(asked, f"no grammar can be made of it ({wrong})", "correct it, or ask without a schema")
    tell_unkept(schema, asked)


@cache
def _not_compiled(schema: str) -> str | None:
    whole = json.loads(grammatical(schema))
    for at, part in parts_of(whole):
        optional = len(part.get("properties", {}).keys() - set(part.get("required", ())))
        if optional > _MOST_OPTIONAL:
            where = f"at {at}, " if at else ""
            return f"{where}an object has {optional} properties that are not required, and may have {_MOST_OPTIONAL}"
    if (wrong := _fault(whole)) is None:
        return None
    # The smallest part that is wrong by itself, and the word without which it is not.
    parts = [(at, part) for at, part in parts_of(whole) if at and _fault(part | {"$defs": whole.get("$defs", {})})]
    at, part = min(parts, key=lambda each: len(json.dumps(each[1])), default=("", whole))
    in_order = sorted(part, key=lambda word: word in ("type", "properties", "items"))
    words = (word for word in in_order if not _fault({name: part[name] for name in part if name != word}))
    return f"{next(words, 'the whole')!r} of {at or 'the whole'}: {_fault(part) or wrong}"


def _fault(schema: dict[str, Any]) -> str | None:
    with importing():
        import xgrammar

    try:
        xgrammar.Grammar.from_json_schema(json.dumps(schema), **_FORM)
    except Exception as error:  # xgrammar has no class for it
        return first_line(error)
    return None
