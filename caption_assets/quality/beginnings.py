"""Rules on how a text begins: with thinking, with a refusal, with words to the user before the caption.

A beginning is what comes first but for white space and marks of emphasis. Not quotation marks: what is quoted belongs
to the video. English, German and Chinese are known (`openings`); other languages pass.
"""

import re

from caption_assets.quality import openings
from caption_assets.quality.texts import Judged
from caption_assets.settings import QualitySettings

_SHOWN = 60


def thinking(judged: Judged, _: QualitySettings) -> str | None:
    """The model thinks aloud before its caption, or instead of it.

    Wrong to fire on a caption that tells a story in the first person ("I need to …"). Thinking between known marks
    never gets here: engines leave it out.
    """
    return _beginning(judged.read, _THINKING, "thinking")


def refusal(judged: Judged, _: QualitySettings) -> str | None:
    """The model declines to answer, apologizes, or asks for a video.

    Wrong to fire where a caption begins with words that a person in the video says, without quotation marks.
    """
    return _beginning(judged.read, _REFUSAL, "a refusal")


def preamble(judged: Judged, _: QualitySettings) -> str | None:
    """Words to the user come before the caption: "Sure!", "Here is a description", "The video shows:", "Caption:".

    "The video shows a man" is a caption, and passes. Wrong to fire where the first words are a title on a screen that
    the caption quotes without marks.
    """
    return _beginning(judged.read, _PREAMBLE, "a preamble")


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"[\s*_>#]*+(?:{'|'.join(patterns)})", re.IGNORECASE)


_THINKING, _REFUSAL, _PREAMBLE = map(_any_of, (openings.THINKING, openings.REFUSAL, openings.PREAMBLE))


def _beginning(text: str, pattern: re.Pattern[str], what: str) -> str | None:
    if not pattern.match(text):
        return None
    return f"it begins like {what}: {' '.join(text[: 2 * _SHOWN].split())[:_SHOWN]!r}"
