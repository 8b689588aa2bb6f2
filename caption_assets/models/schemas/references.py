"""References of a JSON schema: all of them within it, and in the one way that grammars read, `#` or `#/$defs/NAME`."""

import re
from itertools import count
from typing import Any

_PLAIN = re.compile(r"[\w.-]+")
_NAMES = ("$id", "$anchor", "$dynamicAnchor")
"""What a part can be referred to by, beside where it stands."""


class OutsideError(ValueError):
    """A reference that leads nowhere in the schema."""


def localized(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with each reference, by whatever it names a part, as one to the whole or to a part of its "$defs".

    Nothing is fetched. Raises OutsideError for one to what is not in it, and for one whose part depends on the way to
    it ("$dynamicRef").
    """
    from jsonschema_specifications import REGISTRY
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    own, parts = _all_in(schema), dict[int, Any]()
    named: dict[int, str] = {id(part): name for name, part in schema.get("$defs", {}).items() if _PLAIN.fullmatch(name)}
    moved: dict[str, Any] = {}
    places: dict[int, str] = {}

    def look(resource: Any, resolver: Any) -> None:
        part = resource.contents
        if not isinstance(part, dict) or id(part) in parts:
            return
        parts[id(part)] = part
        if "$dynamicRef" in part:
            raise OutsideError(f'{part["$dynamicRef"]} by "$dynamicRef"')
        if (ref := part.get("$ref")) is not None:
            try:
                found = resolver.lookup(ref)
            except Unresolvable:
                raise OutsideError(str(ref)) from None
            target = found.contents
            if isinstance(target, dict) and id(target) not in own:
                raise OutsideError(str(ref))
            places[id(part)] = place(target)
            look(DRAFT202012.create_resource(target), found.resolver)
        for inside in resource.subresources():
            look(inside, resolver.in_subresource(inside))

    def place(target: Any) -> str:
        if target is schema:
            return "#"
        if not isinstance(target, dict) or id(target) not in named:
            taken = schema.get("$defs", {}).keys() | moved.keys()
            name = next(name for k in count(1) if (name := f"part{k}") not in taken)
            moved[name] = target
            named[id(target)] = name
        return f"#/$defs/{named[id(target)]}"

    def rewritten(value: Any) -> Any:
        if isinstance(value, list):
            return [rewritten(inside) for inside in value]
        if not isinstance(value, dict):
            return value
        left_out = _NAMES if id(value) in parts else ()
        copy = {name: rewritten(inside) for name, inside in value.items() if name not in left_out}
        return copy | {"$ref": places[id(value)]} if id(value) in places else copy

    whole = DRAFT202012.create_resource(schema)
    look(whole, REGISTRY.resolver_with_root(whole))
    found = rewritten(schema)
    if moved:
        found["$defs"] = found.get("$defs", {}) | {name: rewritten(part) for name, part in moved.items()}
    return dict(found)


def _all_in(value: Any) -> set[int]:
    """The identities of all objects in a schema."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {id(value)}.union(*map(_all_in, inside))
