"""A text as rules see it."""

from dataclasses import dataclass, field
from functools import cached_property

from caption_assets.quality.words import units


@dataclass(frozen=True)
class Judged:
    """A text with what is known of it.

    `prompt` is the instruction that it answers, `clip` and `window` say which window it is about, and `caption` is the
    text that it was made of, for one that was enhanced. `confidence` has the log-probabilities that are known, by name.
    """

    text: str
    prompt: str = ""
    clip: str = ""
    window: str = ""
    finish_reason: str | None = None
    caption: str | None = None
    confidence: dict[str, float] = field(default_factory=dict)

    @cached_property
    def units(self) -> list[str]:
        """The text's words: see `words.units`."""
        return units(self.text)
