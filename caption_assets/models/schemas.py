"""JSON schemas of answers: bounded, so that every answer comes to an end, and what is wrong with an answer."""

import json
import math
import re
from functools import cache
from typing import Any

from caption_assets.errors import ConfigError, first_line
from caption_assets.models.composing import ApartError, changed, composed

MOST_ITEMS, MOST_LETTERS = 16, 600
"""Of an array and of a string that the schema does not bound itself."""
_BOUNDS = ("maxItems", "maxLength", "maxProperties")
# What may name further properties.
_NOT_SEEN = {"if", "dependentSchemas", "unevaluatedProperties"}
_NO_LETTERS = re.compile("\ufffd+")
_MOST_LEVELS = 64
"""Of arrays and objects in each other in an answer: what reads it goes as deep by calls."""
_TOO_DEEP = f"its arrays and objects stand more than {_MOST_LEVELS} deep in each other"


class InvalidAnswerError(ValueError):
    """What a model has written is no answer by its schema; the message says why."""


def bounded(schema: dict[str, Any], asked: str) -> str:
    """The schema as compact JSON, every array and string of it bounded, and nothing allowed that it does not name.

    Raises ConfigError, of what was `asked`, for what is no schema of an object, and where it refers to what is not in
    it: nothing is fetched.
    """
    import jsonschema

    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise ConfigError(asked, "its answers would be no objects", 'write a schema with "type": "object"')
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConfigError(asked, f"it is no JSON schema ({first_line(error)})", "see json-schema.org") from None
    if (missing := _unresolved(schema)) is not None:
        raise ConfigError(asked, f"it refers to {missing}, which is not in it", 'put that into its "$defs"')
    try:
        return _compact(changed(composed(schema), _bound))
    except ApartError as error:
        raise ConfigError(asked, f"its parts cannot be put together: {error}", "write them as one object") from None


def edited(text: str, schema: str | None) -> str:
    """What a person has made of an answer, as compact JSON; of one whose `schema` nobody knows, it is to be an object.
    Raises InvalidAnswerError."""
    return checked(text, None, schema or '{"type":"object"}')


def tightened(schema: str) -> str:
    """The schema with half the bounds, as far as it asks for no more itself."""
    return _compact(changed(json.loads(schema), _halve))


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
    except RecursionError:
        raise InvalidAnswerError(_TOO_DEEP) from None
    if _is_deeper(answer, _MOST_LEVELS):
        raise InvalidAnswerError(_TOO_DEEP)
    wrong = next(iter(_validator(schema).iter_errors(answer)), None)
    if wrong is not None:
        at = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in wrong.absolute_path)
        raise InvalidAnswerError(f"it does not fit its schema ({at or 'the whole'}: {first_line(wrong)})")
    # Half of a pair of surrogates can be written as JSON, and stored nowhere.
    return _compact(answer).encode(errors="replace").decode()


def _finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits} is no number that can be kept")
    return number


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@cache
def _validator(schema: str) -> Any:
    import jsonschema
    from jsonschema_specifications import REGISTRY

    return jsonschema.Draft202012Validator(json.loads(schema), registry=REGISTRY)  # by itself it asks the network


def _unresolved(schema: dict[str, Any]) -> str | None:
    """What the schema, or any part of it, refers to and does not have; None where it has everything."""
    from jsonschema_specifications import REGISTRY
    from referencing import Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    def look(part: Resource[Any], resolver: Any) -> str | None:
        for name in ("$ref", "$dynamicRef"):
            if isinstance(part.contents, dict) and (ref := part.contents.get(name)) is not None:
                try:
                    resolver.lookup(ref)
                except Unresolvable:
                    return str(ref)
        found = (look(inside, resolver.in_subresource(inside)) for inside in part.subresources())
        return next((ref for ref in found if ref is not None), None)

    whole = DRAFT202012.create_resource(schema)
    return look(whole, REGISTRY.resolver_with_root(whole))


def _is_deeper(answer: Any, levels: int) -> bool:
    layer = [answer]
    for _ in range(levels):
        layer = [
            inside
            for value in layer
            for inside in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
        ]
    return bool(layer)


def _bound(schema: dict[str, Any]) -> dict[str, Any]:
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "array" in kinds:
        schema.setdefault("maxItems", max(MOST_ITEMS, schema.get("minItems", 0)))
    if "string" in kinds and not {"enum", "const", "pattern", "format"} & schema.keys():
        schema.setdefault("maxLength", max(MOST_LETTERS, schema.get("minLength", 0)))
    if "object" in kinds and "properties" in schema and not _NOT_SEEN & schema.keys():
        schema.setdefault("additionalProperties", False)
    return schema


def _halve(schema: dict[str, Any]) -> dict[str, Any]:
    for name in _BOUNDS:
        if isinstance(most := schema.get(name), int):
            schema[name] = max(1, most // 2, schema.get(name.replace("max", "min"), 0))
    return schema
