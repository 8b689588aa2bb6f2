"""How sure a model was of what it wrote: the log-probabilities of its answer's tokens, summed up in three numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from caption_assets.models.thinking import answer_of

# What OpenAI and vLLM write for a token that a model would never have chosen; JSON has no infinity.
_LEAST = -9999.0

Tokens = Sequence[tuple[str, float]]
"""A text's tokens in order: what each reads, and its natural log-probability."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """Natural log-probabilities of a text's tokens, each given those before it: 0 is certain, -0.7 a toss of a coin.

    The mean of all, the lowest, and the mean of the lowest tenth: a soft minimum that does not grow with the length.
    """

    mean_logprob: float
    min_logprob: float
    low_logprob: float


def confidence_of(answer: str, tokens: Tokens) -> Confidence | None:
    """The confidence of an answer that stands somewhere in the text that the tokens make, None where nothing is known.

    What is around it does not count: thinking, white space, the mark that ends it.
    """
    found = _of_answer(answer, tokens)
    if not found or any(map(math.isnan, found)):
        return None
    values = [min(0.0, max(_LEAST, value)) for value in found]
    return Confidence(fmean(values), min(values), lowest_tenth(values))


def lowest_tenth(values: Iterable[float]) -> float:
    """The mean of the lowest tenth of values, of at least one."""
    ordered = sorted(values)
    return fmean(ordered[: max(1, len(ordered) // 10)])


def _of_answer(answer: str, tokens: Tokens) -> list[float]:
    text = "".join(piece for piece, _ in tokens)
    if answer not in text:
        # Tokens alone may read differently than together: halves of a letter, blanks between words. Marks do not.
        answer = answer_of(text).text
    start = text.rfind(answer)
    found, begins = [], 0
    for piece, value in tokens:
        ends = begins + len(piece)
        # Half a letter may read as nothing; it belongs to where it stands.
        if begins < start + len(answer) and max(ends, begins + 1) > start:
            found.append(value)
        begins = ends
    return found or [value for _, value in tokens]
