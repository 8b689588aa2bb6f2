"""Prompts with places for what is known of a window: `{clip.relative_path}`, `{window.start_s}`, `{columns.topic}`,
`{sidecar.txt}`."""

import json
import re
from collections.abc import Mapping
from typing import Any

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

# Braces around anything else are a text's own.
_PLACE = re.compile(r"\{([A-Za-z_]\w*(?:\.[\w-]+)*)\}")


def places(prompt: str) -> tuple[str, ...]:
    """The names in a prompt, in order. Raises ConfigError for one that stands for nothing."""
    names = tuple(dict.fromkeys(_PLACE.findall(prompt)))
    for name in names:
        if name not in (*FIELDS, PREVIOUS_CAPTION, *_SIDECARS) and not name.startswith((COLUMNS, _JSON_FIELD)):
            known = ", ".join((*FIELDS, PREVIOUS_CAPTION, f"{COLUMNS}<name>", *_SIDECARS))
            fix = f"choose of {known} and {_JSON_FIELD}<name>, or write it without braces"
            raise ConfigError(f"prompt with {{{name}}}", "nothing of that name is known of a window", fix)
    return names


def filled(prompt: str, values: Mapping[str, Any]) -> str:
    """The prompt with what its names stand for; a number without needless digits, and nothing for what is not known."""
    return _PLACE.sub(lambda found: _shown(values.get(found[1])), prompt)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)
