"""JSON schemas in which each part says by itself what may stand there: grammars heed one of $ref, allOf, anyOf, oneOf
and an object's own properties, and whoever closes an object must see all that it may have."""

import json
from collections.abc import Callable, Iterator
from typing import Any

_OBJECT = frozenset({"properties", "required", "patternProperties", "additionalProperties"})
_COMPOSE = ("$ref", "allOf", "anyOf", "oneOf")
_WORDS = frozenset({"title", "description", "default", "examples", "$comment"})
_OUTSIDE = _WORDS | {"type", "$defs", "definitions", "$schema"}
_SHARED = ("$defs", "definitions")
_PARTS = ("properties", "patternProperties", *_SHARED)
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_WITHIN = ("items", "additionalProperties", "propertyNames")

Change = Callable[[dict[str, Any]], dict[str, Any]]


def compact(value: Any) -> str:
    """JSON without blanks."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class ApartError(ValueError):
    """Parts that cannot be put together."""


def changed(schema: Any, change: Change) -> Any:
    """The schema with each of its parts changed, those inside of others first."""
    if not isinstance(schema, dict):
        return schema
    inside = dict(schema)
    for name in _PARTS:
        if isinstance(inside.get(name), dict):
            inside[name] = {key: changed(part, change) for key, part in inside[name].items()}
    for name in _LISTS:
        if isinstance(inside.get(name), list):
            inside[name] = [changed(part, change) for part in inside[name]]
    for name in _WITHIN:
        if isinstance(inside.get(name), dict):
            inside[name] = changed(inside[name], change)
    return change(inside)


def parts_of(schema: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each part of the schema that `changed` visits, with where it stands: `.pets[].name`, `$defs.Pet`."""
    if not isinstance(schema, dict):
        return
    yield at, schema
    for name in _PARTS:
        for key, part in schema.get(name, {}).items():
            yield from parts_of(part, f"{name}.{key}" if name in _SHARED else f"{at}.{key}")
    for name in _LISTS:
        for part in schema.get(name, ()):
            yield from parts_of(part, f"{at}[]" if name == "prefixItems" else at)
    for name in _WITHIN:
        yield from parts_of(schema.get(name), at if name == "propertyNames" else f"{at}[]")


def composed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with allOf put together, what stands beside $ref, anyOf and oneOf put into each of them, a root that
    is no reference, and whatever an object requires among its properties. Takes the same answers.

    All references are `localized`. Raises ApartError where that cannot be.
    """
    whole: dict[str, Any] = changed(schema, lambda part: named(_put_together(part, schema)))
    seen = []
    while "$ref" in whole:
        if (ref := whole.pop("$ref")) in seen:
            raise ApartError("a reference that leads back to itself")
        seen.append(ref)
        whole = _merged(whole, _at(ref, schema))
    return whole


def _put_together(part: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    names = part.get("propertyNames")
    if isinstance(names, dict) and names.keys() == {"$ref"}:
        part = part | {"propertyNames": _at(names["$ref"], root)}
    used = [name for name in _COMPOSE if name in part]
    own = {name: value for name, value in part.items() if name not in used}
    if not used or (len(used) == 1 and used != ["allOf"] and not own.keys() & _OBJECT):
        return part
    if used == ["allOf"] and len(part["allOf"]) == 1 and own.keys() <= _OUTSIDE:
        return _merged(own, part["allOf"][0])
    choice = "oneOf" if "oneOf" in used and "anyOf" not in used else "anyOf"
    outside = {name: value for name, value in own.items() if name in _OUTSIDE}
    branches = [{name: value for name, value in own.items() if name == "type" or name not in _OUTSIDE}]
    members = [[{"$ref": part["$ref"]}]] if "$ref" in part else []
    members += [[member] for member in part.get("allOf", ())]
    members += [part[name] for name in ("anyOf", "oneOf") if name in part]
    for alternatives in members:
        each = [found for member in alternatives for found in _alternatives(member, root)]
        branches = [_merged(branch, found) for branch in branches for found in each]
    branches = [named(branch) for branch in branches]
    return outside | branches[0] if len(branches) == 1 else outside | {choice: branches}


def _alternatives(member: Any, root: dict[str, Any]) -> Iterator[Any]:
    """What a part may be, none of it a reference or a choice itself."""
    if isinstance(member, dict) and "$ref" in member:
        member = _merged({name: value for name, value in member.items() if name != "$ref"}, _at(member["$ref"], root))
    if isinstance(member, dict) and (choice := next((name for name in ("anyOf", "oneOf") if name in member), None)):
        for each in member[choice]:
            rest = {name: value for name, value in member.items() if name not in (choice, *_WORDS)}
            yield from _alternatives(_merged(rest, each), root)
    else:
        yield member


def _at(ref: str, root: dict[str, Any]) -> Any:
    found = root if ref == "#" else root["$defs"][ref.removeprefix("#/$defs/")]
    return changed(found, lambda part: named(_put_together(part, root)))


def _merged(one: Any, other: Any) -> Any:
    """What both allow. Raises ApartError where one schema cannot say that."""
    if one is True or other is True:
        return other if one is True else one
    if not (isinstance(one, dict) and isinstance(other, dict)):
        raise ApartError("a part that allows nothing")
    both = {**other, **one}
    for name in one.keys() & other.keys():
        a, b = one[name], other[name]
        if a == b or name in _WORDS:
            continue
        if name == "properties":
            shared = {key: _merged(a[key], b[key]) for key in a.keys() & b.keys()}
            both[name] = a | b | shared
        elif name == "required":
            both[name] = list(dict.fromkeys([*a, *b]))
        elif name in ("$defs", "definitions"):
            both[name] = b | a
        elif name == "enum":
            both[name] = [value for value in a if value in b]
        elif name == "type":
            kinds = _kinds_of_both(_listed(a), _listed(b))
            both[name] = kinds[0] if len(kinds) == 1 else kinds
        elif name.startswith(("min", "max", "exclusiveM")):
            both[name] = max(a, b) if "min" in name.lower() else min(a, b)
        else:
            raise ApartError(f"two that differ in {name!r}")
        if both[name] == []:
            raise ApartError(f"two that have no {name!r} in common")
    closed = [(x, y) for x, y in ((one, other), (other, one)) if x.get("additionalProperties") is False]
    if any(y.get("properties", {}).keys() - x.get("properties", {}).keys() for x, y in closed):
        raise ApartError('one that has properties which another excludes by "additionalProperties"')
    return both


def named(part: dict[str, Any]) -> dict[str, Any]:
    """The part with what is required among the properties: as whatever may stand there."""
    more = part.get("additionalProperties", True)
    missing = [name for name in part.get("required", ()) if name not in part.get("properties", {})]
    if not missing or "patternProperties" in part or "object" not in _listed(part.get("type")):
        return part
    if more is False:
        raise ApartError(f"{missing[0]!r}, which is required and excluded")
    return part | {"properties": part.get("properties", {}) | dict.fromkeys(missing, {} if more is True else more)}


def _kinds_of_both(a: list[Any], b: list[Any]) -> list[Any]:
    """Integers are numbers."""
    both = [kind for kind in a if kind in b or (kind == "integer" and "number" in b)]
    return both + [kind for kind in b if kind == "integer" and "number" in a and kind not in both]


def _listed(kinds: Any) -> list[Any]:
    return kinds if isinstance(kinds, list) else [kinds]
