"""Answers by JSON schemas: what is wrong with one, and how it is kept."""

import json
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Any

from caption_assets.errors import first_line
from caption_assets.models.schemas.composing import compact

_NO_LETTERS = re.compile("\ufffd+")
_MOST_LEVELS = 64
"""Of arrays and objects in each other in an answer: what reads it goes as deep by calls."""
_TOO_DEEP = f"its arrays and objects stand more than {_MOST_LEVELS} deep in each other"


class InvalidAnswerError(ValueError):
    """What a model has written is no answer by its schema; the message says why."""


def edited(text: str, schema: str | None) -> str:
    """What a person has made of an answer, as compact JSON; of one whose `schema` nobody knows, it is to be an object.
    Raises InvalidAnswerError."""
    return checked(text, None, schema or '{"type":"object"}')


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
    while wrong := next(_validator(schema).iter_errors(answer), None):
        if _dropped_repeats(wrong):
            continue
        at = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in wrong.absolute_path)
        raise InvalidAnswerError(f"it does not fit its schema ({at or 'the whole'}: {first_line(wrong)})")
    # Half of a pair of surrogates can be written as JSON, and stored nowhere.
    return compact(answer).encode(errors="replace").decode()


def _finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits} is no number that can be kept")
    return number


@cache
def _validator(schema: str) -> Any:
    import jsonschema
    from jsonschema_specifications import REGISTRY

    kind = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"multipleOf": _multiples})
    # By itself it asks the network, and takes any text for any format.
    return kind(json.loads(schema), registry=REGISTRY, format_checker=kind.FORMAT_CHECKER)


def _multiples(_: Any, step: float, value: Any, __: Any) -> Iterator[Any]:
    """As decimals are read: for floats, 0.3 is no multiple of 0.1."""
    import jsonschema

    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and (Fraction(str(value)) / Fraction(str(step))).denominator != 1:
        yield jsonschema.ValidationError(f"{value!r} is not a multiple of {step}")


def _dropped_repeats(wrong: Any) -> bool:
    """Whether an array of the answer had repeats that it is to have none of, which no grammar keeps out; it has lost
    them."""
    if wrong.validator == "uniqueItems":
        distinct = {json.dumps(item, sort_keys=True): item for item in reversed(wrong.instance)}
        before, wrong.instance[:] = len(wrong.instance), reversed(distinct.values())
        return len(wrong.instance) < before
    return any(map(_dropped_repeats, wrong.context))


def _is_deeper(answer: Any, levels: int) -> bool:
    layer = [answer]
    for _ in range(levels):
        layer = [
            inside
            for value in layer
            for inside in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
        ]
    return bool(layer)
