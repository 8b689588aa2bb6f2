"""Prompts with places for what is known of a window: `{clip.relative_path}`, `{window.start_s}`, `{columns.topic}`,
`{sidecar.txt}`."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from caption_assets.errors import ConfigError

FIELDS = ("clip.relative_path", "clip.id", "clip.duration_s", "window.start_s", "window.end_s")
PREVIOUS_CAPTION = "previous_caption"
"""The caption of the clip's window before, by the same key."""
COLUMNS = "columns."
"""What the names of a dataset's own columns begin with."""
SIDECAR = "sidecar."
"""What the names of the files beside a clip begin with."""
_SIDECARS = tuple(f"{SIDECAR}{kind}" for kind in ("txt", "vtt", "json"))
_JSON_FIELD = f"{SIDECAR}json."

# A name, or what begins as one does: columns and fields of JSON may be called anything, and a name that is written
# with blanks, or with a format, was meant for one. Braces around anything else are a text's own.
_PLACE = re.compile(
    r"\{([A-Za-z_]\w*(?:\.[\w-]+)*|\s*(?:(?:clip|window|columns|sidecar)\.|previous_caption\b)[^{}]*)\}"
)


def places(prompt: str) -> tuple[str, ...]:
    """The names in a prompt, in order. Raises ConfigError for one that stands for nothing."""
    names = tuple(dict.fromkeys(_PLACE.findall(prompt)))
    for name in names:
        is_named = name.startswith((COLUMNS, _JSON_FIELD)) and name == name.strip() and not name.endswith(".")
        if name not in (*FIELDS, PREVIOUS_CAPTION, *_SIDECARS) and not is_named:
            known = ", ".join((*FIELDS, PREVIOUS_CAPTION, f"{COLUMNS}<name>", *_SIDECARS))
            fix = f"choose of {known} and {_JSON_FIELD}<name>, or write it without braces"
            raise ConfigError(f"prompt with {{{name}}}", "nothing of that name is known of a window", fix)
    return names


def filled(prompt: str, values: Mapping[str, Any]) -> str:
    """The prompt with what its names stand for: seconds to the millisecond, what a dataset or a file says as JSON has
    it, texts without their quotes, and nothing for what is not known."""
    return _PLACE.sub(lambda found: _shown(values.get(found[1]), found[1] in FIELDS), prompt)


def _shown(value: Any, is_ours: bool) -> str:
    if isinstance(value, float) and math.isfinite(value):
        text = f"{value:.3f}" if is_ours else np.format_float_positional(_as_written(value))
        return text.rstrip("0").rstrip(".")
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _as_written(value: float) -> float | np.float32:
    """The number with its fewest digits: a float of 32 bits that a table holds has more of them as one of 64."""
    with np.errstate(over="ignore"):
        short = np.float32(value)
    return short if float(short) == value else value
