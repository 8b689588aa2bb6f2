"""What of a JSON schema grammars keep answers to. The rest is for whoever checks an answer.

xgrammar passes over these words, most of them without a word, and vLLM refuses schemas that have them
(`has_xgrammar_unsupported_json_features` of 0.32).
"""

import json
import logging
from collections.abc import Iterator
from functools import cache
from typing import Any

from caption_assets.models.schemas.composing import changed, compact, parts_of

log = logging.getLogger(__name__)
FORMATS = {
    *("date", "time", "date-time", "duration", "uuid", "email", "hostname", "ipv4", "ipv6"),
    *("uri", "uri-reference", "uri-template", "json-pointer", "relative-json-pointer"),
}
"""Of texts, those that grammars know."""
_NEVER = {
    *("multipleOf", "uniqueItems", "contains", "minContains", "maxContains"),
    *("not", "if", "then", "else", "dependentRequired", "dependentSchemas"),
}
_NAMED = ("properties", "patternProperties", "additionalProperties", "unevaluatedProperties")
# Repeats are dropped from an answer; names by patterns then go without saying; and other formats bind nobody.
_UNSAID = {"uniqueItems", "patternProperties", "format", "minContains", "maxContains", "then", "else"}


@cache
def grammatical(schema: str) -> str:
    """The schema that a grammar is made of: without the words that grammars do not keep to."""
    return compact(changed(json.loads(schema), _without))


def unkept(schema: str) -> list[str]:
    """The words that answers have to be checked for, each with where in the schema it stands: `'contains' of .tags`."""
    found = dict.fromkeys(
        f"{word!r} of {at or 'the whole'}"
        for at, part in parts_of(json.loads(schema))
        for word in part
        if word not in _UNSAID and word in _passed_over(part)
    )
    return list(found)


@cache
def tell_unkept(schema: str, asked: str) -> None:
    """Says once, of what was `asked`, what answers are only checked for."""
    if words := unkept(schema):
        log.warning("%s: answers are not kept to %s, but checked for that.", asked, ", ".join(words))


def _without(part: dict[str, Any]) -> dict[str, Any]:
    gone = set(_passed_over(part))
    kept = {word: value for word, value in part.items() if word not in gone}
    if "oneOf" in kept and "anyOf" not in kept:
        # As xgrammar takes it, with a warning, wherever it cannot tell that no two fit at once.
        kept["anyOf"] = kept.pop("oneOf")
    return kept


def _passed_over(part: dict[str, Any]) -> Iterator[str]:
    yield from _NEVER & part.keys()
    is_formatted = part.get("format") in FORMATS
    if not is_formatted:
        yield "format"
    if is_formatted or "pattern" in part:
        yield from ("minLength", "maxLength")
    if any(name in part for name in _NAMED):
        yield "propertyNames"
    if "properties" in part or len(part.get("patternProperties", ())) > 1:
        yield "patternProperties"
