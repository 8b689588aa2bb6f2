"""JSON schemas of answers, as engines are given them: bounded, so that every answer comes to an end."""

import json
from typing import Any

from caption_assets.errors import ConfigError, first_line
from caption_assets.models.schemas.composing import ApartError, changed, compact, composed, named
from caption_assets.models.schemas.grammatical import FORMATS
from caption_assets.models.schemas.plain import enumerated, typed
from caption_assets.models.schemas.references import OutsideError, localized

MOST_ITEMS, MOST_LETTERS = 16, 600
"""Of an array and of a string that the schema does not bound itself."""
_BOUNDS = ("maxItems", "maxLength", "maxProperties")
# What may name further properties.
_NOT_SEEN = {"if", "dependentSchemas", "unevaluatedProperties"}


def bounded(schema: dict[str, Any], asked: str) -> str:
    """The schema as compact JSON, every array and string of it bounded, and nothing allowed that it does not name.

    Raises ConfigError, of what was `asked`, for what is no schema of objects, and where it refers to what is not in
    it: nothing is fetched.
    """
    import jsonschema

    if not isinstance(schema, dict):
        raise ConfigError(asked, "it is no JSON object, as schemas are", "see json-schema.org")
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConfigError(asked, f"it is no JSON schema ({first_line(error)})", "see json-schema.org") from None
    try:
        whole = changed(composed(localized(schema)), lambda part: named(enumerated(typed(part))))
    except OutsideError as error:
        raise ConfigError(asked, f"it refers to {error}, which is not in it", 'put that into its "$defs"') from None
    except ApartError as error:
        raise ConfigError(asked, f"its parts cannot be put together: {error}", "write them as one object") from None
    if not _is_of_objects(whole, whole):
        raise ConfigError(asked, "its answers need not be objects", 'write a schema with "type": "object"')
    return compact(changed(whole, _bound))


def tightened(schema: str) -> str:
    """The schema with half the bounds, as far as it asks for no more itself."""
    return compact(changed(json.loads(schema), _halve))


def _is_of_objects(part: Any, whole: dict[str, Any], seen: tuple[str, ...] = ()) -> bool:
    """Whether all that fits is an object."""
    if not isinstance(part, dict) or (ref := part.get("$ref")) in seen:
        return False
    if ref is not None:
        there = whole if ref == "#" else whole["$defs"][ref.removeprefix("#/$defs/")]
        return _is_of_objects(there, whole, (*seen, ref))
    if "enum" in part or "const" in part:
        return all(isinstance(value, dict) for value in part.get("enum", [part.get("const")]))
    choices = [part[name] for name in ("anyOf", "oneOf") if name in part]
    return part.get("type") in ("object", ["object"]) or any(
        all(_is_of_objects(each, whole, seen) for each in choice) for choice in choices
    )


def _bound(schema: dict[str, Any]) -> dict[str, Any]:
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "array" in kinds:
        schema.setdefault("maxItems", max(MOST_ITEMS, schema.get("minItems", 0)))
    if "string" in kinds and not {"enum", "const", "pattern"} & schema.keys() and schema.get("format") not in FORMATS:
        schema.setdefault("maxLength", max(MOST_LETTERS, schema.get("minLength", 0)))
    if "object" in kinds and "properties" in schema and not _NOT_SEEN & schema.keys():
        schema.setdefault("additionalProperties", False)
    return schema


def _halve(schema: dict[str, Any]) -> dict[str, Any]:
    least = {"maxProperties": len(schema.get("required", ())), "maxItems": len(schema.get("prefixItems", ()))}
    for name in _BOUNDS:
        if isinstance(most := schema.get(name), int):
            least_of = max(1, schema.get(name.replace("max", "min"), 0), least.get(name, 0))
            schema[name] = min(most, max(least_of, most // 2))
    return schema
