"""Prompts with places for what is known of a window: `{clip.relative_path}`, `{window.start_s}`, `{columns.topic}`."""

import re
from collections.abc import Mapping
from typing import Any

from caption_assets.errors import ConfigError

FIELDS = ("clip.relative_path", "clip.id", "clip.duration_s", "window.start_s", "window.end_s")
PREVIOUS_CAPTION = "previous_caption"
"""The caption of the clip's window before, by the same key."""
COLUMNS = "columns."
"""What the names of a dataset's own columns begin with."""

# Braces around anything else are a text's own.
_PLACE = re.compile(r"\{([A-Za-z_]\w*(?:\.[\w-]+)*)\}")


def places(prompt: str) -> tuple[str, ...]:
    """The names in a prompt, in order. Raises ConfigError for one that stands for nothing."""
    names = tuple(dict.fromkeys(_PLACE.findall(prompt)))
    for name in names:
        if name not in (*FIELDS, PREVIOUS_CAPTION) and not (name.startswith(COLUMNS) and name != COLUMNS):
            known = ", ".join((*FIELDS, PREVIOUS_CAPTION))
            fix = f"choose of {known} and {COLUMNS}<name>, or write it without braces"
            raise ConfigError(f"prompt with {{{name}}}", "nothing of that name is known of a window", fix)
    return names


def filled(prompt: str, values: Mapping[str, Any]) -> str:
    """The prompt with what its names stand for; a number without needless digits, and nothing for what is not known."""
    return _PLACE.sub(lambda found: _shown(values.get(found[1])), prompt)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return "" if value is None else str(value)
