"""Parts of a JSON schema said as grammars heed them: they pass over words without a type, and over words beside others.

What is said so takes no answer that the part did not take.
"""

import math
from fractions import Fraction
from typing import Any

from caption_assets.models.schemas.composing import ApartError

_TYPES = {
    "object": {
        "properties",
        "required",
        "patternProperties",
        "additionalProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
    },
    "array": {"items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}
"""Words that mean something for values of one type only."""
_ELSEWHERE = {"$ref", "anyOf", "oneOf", "allOf", "enum", "const", "type"}
_OF_VALUES = frozenset.union(*map(frozenset, (_TYPES["string"], _TYPES["number"]))) | {"type"}
_MOST_VALUES = 256
"""Of a range with steps that is written as an enumeration."""


def typed(part: dict[str, Any]) -> dict[str, Any]:
    """With the type that its words are about, where it names none."""
    if _ELSEWHERE & part.keys() or not (kinds := [kind for kind, words in _TYPES.items() if words & part.keys()]):
        return part
    return part | {"type": kinds[0] if len(kinds) == 1 else kinds}


def enumerated(part: dict[str, Any]) -> dict[str, Any]:
    """With the values of an enumeration that fit the words beside it, and with one for a short range with steps, and
    for the properties of an object whose names are enumerated. Raises ApartError where no value fits."""
    if "enum" in part or "const" in part:
        return _fitting(part)
    if "multipleOf" in part and (values := _steps(part)):
        return {name: value for name, value in part.items() if name not in _TYPES["number"]} | {"enum": values}
    names, more = part.get("propertyNames"), part.get("additionalProperties", True)
    if isinstance(names, dict) and "enum" in names and not {"properties", "patternProperties"} & part.keys():
        rest = {name: value for name, value in part.items() if name != "propertyNames"}
        return rest | {"properties": dict.fromkeys(names["enum"], more), "additionalProperties": False}
    return part


def _fitting(part: dict[str, Any]) -> dict[str, Any]:
    import jsonschema

    beside = {name: value for name, value in part.items() if name in _OF_VALUES}
    fits = jsonschema.Draft202012Validator(beside).is_valid
    values = part.get("enum", [part.get("const")])
    if not (good := [value for value in values if fits(value)]):
        raise ApartError(f"an enumeration of {values!r:.100}, none of which fits what stands beside it")
    return part | {"enum": good} if "enum" in part else part


def _steps(part: dict[str, Any]) -> list[int | float]:
    """The values of a range of one numeric type; empty where it has no ends, or too many values."""
    exact = {name: Fraction(str(part[name])) for name in _TYPES["number"] & part.keys()}
    step = exact.pop("multipleOf")
    first = [math.ceil(low / step) for name, low in exact.items() if name == "minimum"]
    first += [math.floor(low / step) + 1 for name, low in exact.items() if name == "exclusiveMinimum"]
    last = [math.floor(high / step) for name, high in exact.items() if name == "maximum"]
    last += [math.ceil(high / step) - 1 for name, high in exact.items() if name == "exclusiveMaximum"]
    if part.get("type") not in ("integer", "number") or not (first and last):
        return []
    steps = range(max(first), min(last) + 1)
    if len(steps) > _MOST_VALUES:
        return []
    values = [k * step for k in steps]
    if part["type"] == "integer":
        return [int(value) for value in values if value.denominator == 1]
    return [int(value) if step.denominator == 1 else float(value) for value in values]
