"""What can be used of a document that another tool has written: JSON holds anything in any field. No I/O."""

from collections.abc import Callable, Mapping
from typing import Any

Clean = Callable[[Any], Any]
"""Gives what can be used of a field's value. Raises ValueError where nothing can."""

_LARGEST = 2**53  # integers beyond are not told apart by most readers of JSON


def usable(document: dict[str, Any], fields: Mapping[str, Clean]) -> tuple[dict[str, Any], list[str]]:
    """The document with what can be used of `fields` and all that is not named there; and the fields that differ."""
    kept, wrong = dict(document), []
    for key, clean in fields.items():
        if key not in document:
            continue
        try:
            kept[key] = clean(document[key])
        except ValueError:
            del kept[key]
        if key not in kept or kept[key] != document[key]:
            wrong.append(key)
    return kept, wrong


def number(value: Any) -> float:
    """A number that can be added to."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST:
        raise ValueError
    return value


def count(value: Any) -> int:
    """A number of things, or of a frame."""
    if not isinstance(value, int) or number(value) < 0:
        raise ValueError
    return value


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def texts(value: Any) -> list[str]:
    """Those of a list's elements that are texts."""
    if not isinstance(value, list):
        raise ValueError
    return [element for element in value if isinstance(element, str)]


def mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError
    return value


def codes(value: Any) -> Any:
    """Of `errors`, which is a list but may be what another tool made of it: one code, or codes with words."""
    return value if isinstance(value, str) else list(mapping(value)) if isinstance(value, dict) else texts(value)


def windows(value: Any) -> list[dict[str, Any]]:
    """Those of a list's elements that are windows with a first and a last frame."""
    if not isinstance(value, list):
        raise ValueError
    return [element for element in value if isinstance(element, dict) and _has_frames(element)]


def _has_frames(window: Mapping[str, Any]) -> bool:
    try:
        return count(window.get("start_frame")) <= count(window.get("end_frame"))
    except ValueError:
        return False
