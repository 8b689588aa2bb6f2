"""JSON schemas of answers: bounded, so that every answer comes to an end, and what is wrong with an answer."""

import json
import math
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from caption_assets.errors import ConfigError, first_line

MOST_ITEMS, MOST_LETTERS = 16, 600
"""Of an array and of a string that the schema does not bound itself."""
_BOUNDS = ("maxItems", "maxLength", "maxProperties")
_PARTS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NO_LETTERS = re.compile("\ufffd+")


class InvalidAnswerError(ValueError):
    """What a model has written is no answer by its schema; the message says why."""


def bounded(schema: dict[str, Any], asked: str) -> str:
    """The schema as compact JSON, every array and string of it bounded, and nothing allowed that it does not name.

    Raises ConfigError, of what was `asked`, for what is no schema of an object.
    """
    import jsonschema

    if schema.get("type") != "object":
        raise ConfigError(asked, "its answers would be no objects", 'write a schema with "type": "object"')
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConfigError(asked, f"it is no JSON schema ({first_line(error)})", "see json-schema.org") from None
    return _compact(_changed(schema, _bound))


def edited(text: str, schema: str | None) -> str:
    """What a person has made of an answer, as compact JSON; of one whose `schema` nobody knows, it is to be an object.
    Raises InvalidAnswerError."""
    return checked(text, None, schema or '{"type":"object"}')


def tightened(schema: str) -> str:
    """The schema with half the bounds, as far as it asks for no more itself."""
    return _compact(_changed(json.loads(schema), _halve))


def checked(text: str, finish_reason: str | None, schema: str) -> str:
    """The answer in a text, as compact JSON. Raises InvalidAnswerError where there is none by the schema."""
    if finish_reason == "length":
        raise InvalidAnswerError(f"its JSON was cut off after {len(text)} letters (max_output_tokens)")
    # Some grammars let bytes pass that are no letter, and count them as one; a reader makes several marks of those.
    text = _NO_LETTERS.sub("\ufffd", text)
    try:
        # Grammars let control characters pass, and numbers that none of Python's can hold.
        answer = json.loads(text, strict=False, parse_float=_finite, parse_constant=_finite)
    except ValueError as error:
        raise InvalidAnswerError(f"it is not JSON ({error})") from None
    wrong = next(iter(_validator(schema).iter_errors(answer)), None)
    if wrong is not None:
        at = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in wrong.absolute_path)
        raise InvalidAnswerError(f"it does not fit its schema ({at or 'the whole'}: {first_line(wrong)})")
    # Half of a pair of surrogates can be written as JSON, and stored nowhere.
    return _compact(answer).encode(errors="replace").decode()


def texts_of(answer: str) -> str:
    """All texts in an answer, one after the other: what there is to read in it."""

    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        else:
            for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
                yield from texts(part)

    return "\n".join(filter(None, texts(json.loads(answer))))


def _finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits} is no number that can be kept")
    return number


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@cache
def _validator(schema: str) -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(json.loads(schema))


def _changed(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """The schema with each of its parts changed."""
    if not isinstance(schema, dict):
        return schema
    inside = dict(schema)
    for name in _PARTS:
        if isinstance(inside.get(name), dict):
            inside[name] = {key: _changed(part, change) for key, part in inside[name].items()}
    for name in _LISTS:
        if isinstance(inside.get(name), list):
            inside[name] = [_changed(part, change) for part in inside[name]]
    for name in ("items", "additionalProperties"):
        if isinstance(inside.get(name), dict):
            inside[name] = _changed(inside[name], change)
    return change(inside)


def _bound(schema: dict[str, Any]) -> dict[str, Any]:
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "array" in kinds:
        schema.setdefault("maxItems", max(MOST_ITEMS, schema.get("minItems", 0)))
    if "string" in kinds and not {"enum", "const", "pattern", "format"} & schema.keys():
        schema.setdefault("maxLength", max(MOST_LETTERS, schema.get("minLength", 0)))
    if "object" in kinds and "properties" in schema:
        schema.setdefault("additionalProperties", False)
    return schema


def _halve(schema: dict[str, Any]) -> dict[str, Any]:
    for name in _BOUNDS:
        if isinstance(most := schema.get(name), int):
            schema[name] = max(1, most // 2, schema.get(name.replace("max", "min"), 0))
    return schema
