"""How the transformers engine keeps answers to JSON schemas: tokens that cannot come next are not chosen."""

from collections.abc import Callable, Sequence
from typing import Any


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
        # Where blanks may stand anywhere, some models write nothing else.
        compiled = self._compiler.compile_json_schema(schema, any_whitespace=False, separators=(",", ":"))
        return self._xgrammar.GrammarMatcher(compiled)
