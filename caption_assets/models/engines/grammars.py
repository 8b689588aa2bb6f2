"""How engines keep answers to JSON schemas: tokens that cannot come next are not chosen. vLLM does so by itself."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from caption_assets.errors import ConfigError, first_line
from caption_assets.extras import importing
from caption_assets.models.composing import changed

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
        return self._xgrammar.GrammarMatcher(self._compiler.compile_json_schema(schema, **_FORM))


def check_schema(schema: str, asked: str) -> None:
    """Raises ConfigError, of what was `asked`, where no grammar can be made of the schema. Needs no tokenizer."""
    if (wrong := _not_compiled(schema)) is not None:
        raise ConfigError(asked, f"no grammar can be made of it ({wrong})", "correct it, or ask without a schema")


@cache
def _not_compiled(schema: str) -> str | None:
    if (optional := _most_optional(json.loads(schema))) > _MOST_OPTIONAL:
        return f"it has an object of {optional} properties that are not required, and may have {_MOST_OPTIONAL}"
    with importing():
        import xgrammar

    try:
        xgrammar.Grammar.from_json_schema(schema, **_FORM)
    except Exception as error:  # xgrammar has no class for it
        return first_line(error)
    return None


def _most_optional(schema: Any) -> int:
    found = [0]

    def count(part: dict[str, Any]) -> dict[str, Any]:
        found.append(len(part.get("properties", {}).keys() - set(part.get("required", ()))))
        return part

    changed(schema, count)
    return max(found)
