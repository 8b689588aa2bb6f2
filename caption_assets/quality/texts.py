"""A text as rules see it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

from caption_assets.quality.words import units


@dataclass(frozen=True)
class Judged:
    """A text with what is known of it.

    `prompt` is the instruction that it answers, `clip` and `window` say which window it is about, and `caption` is the
    text that it was made of, for one that was enhanced. `confidence` has the log-probabilities that are known, by name.
    `is_json` says that the text is JSON because that was asked for: then what there is to read are the texts in it.
    """

    text: str
    prompt: str = ""
    clip: str = ""
    window: str = ""
    finish_reason: str | None = None
    caption: str | None = None
    confidence: dict[str, float] = field(default_factory=dict)
    is_json: bool = False

    @cached_property
    def values(self) -> tuple[Any, ...]:
        """All numbers, booleans and texts of JSON, but for blank ones; of another text, itself."""
        return tuple(_values(json.loads(self.text))) if self.is_json else (self.text,)

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The texts among its values: each is one that somebody wrote, and goes on in no other."""
        return tuple(value for value in self.values if isinstance(value, str))

    @cached_property
    def read(self) -> str:
        """All that there is to read in it."""
        return "\n".join(self.parts)

    @cached_property
    def part_units(self) -> tuple[list[str], ...]:
        """The words of each part: see `words.units`."""
        return tuple(map(units, self.parts))

    @cached_property
    def units(self) -> list[str]:
        """All words to read in it."""
        return list(chain.from_iterable(self.part_units))


def _values(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for inside in value.values() if isinstance(value, dict) else value:
            yield from _values(inside)
    elif value is not None and (not isinstance(value, str) or value.strip()):
        yield value
