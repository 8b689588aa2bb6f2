"""What a demo clip shows, as facts, and the sentences that say it.

`Facts` hold what a true caption must tell. `write` makes the caption and `elaborate` a longer one; `read` gets the
facts back out of any text that uses the world's words, and `compare` says on which attributes two sets of facts agree.
"""

import re
from dataclasses import dataclass
from itertools import permutations

SHAPES = ("circle", "square", "triangle", "star")
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "white")
BACKGROUNDS = ("black", "gray", "brown", "pink")
MOTIONS = (
    "moving from left to right",
    "moving from right to left",
    "moving from top to bottom",
    "moving from bottom to top",
    "standing still",
    "growing",
    "shrinking",
    "circling clockwise",
    "circling counterclockwise",
)
ATTRIBUTES = ("colour", "shape", "motion", "background", "order")


@dataclass(frozen=True, slots=True)
class Subject:
    """One object of a window: its colour, its shape, and its motions in the order in which they happen."""

    colour: str
    shape: str
    motions: tuple[str, ...]

    def rank(self) -> tuple[int, ...]:
        """Sort key: the order in which objects that act at the same time are named."""
        return COLOURS.index(self.colour), SHAPES.index(self.shape), *(MOTIONS.index(m) for m in self.motions)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a window shows. `in_turn` is True where the second subject acts only after the first has finished."""

    background: str
    subjects: tuple[Subject, ...]
    in_turn: bool = False

    def canonical(self) -> "Facts":
        """The same facts with subjects that act together in naming order."""
        if self.in_turn:
            return self
        return Facts(self.background, tuple(sorted(self.subjects, key=Subject.rank)), False)


def noun(subject: Subject, article: bool = True) -> str:
    """ "a red circle", "an orange star"; without the article, "red circle"."""
    text = f"{subject.colour} {subject.shape}"
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}" if article else text


def write(facts: Facts) -> str:
    """The true caption of the facts: one sentence.

    >>> write(Facts("black", (Subject("red", "circle", ("growing",)),)))
    'A red circle is growing on a black background.'
    """
    facts = facts.canonical()
    where = f"on a {facts.background} background."
    first = facts.subjects[0]
    if len(facts.subjects) == 2:
        a, b = (f"{noun(s)} is {s.motions[0]}" for s in facts.subjects)
        text = f"First {a}, then {b}, {where}" if facts.in_turn else f"{a} and {b} {where}"
    elif len(first.motions) == 2:
        text = f"{noun(first)} is first {first.motions[0]}, then {first.motions[1]}, {where}"
    else:
        text = f"{noun(first)} is {first.motions[0]} {where}"
    return text[0].upper() + text[1:]


_LOOK = {
    "circle": "with a round outline",
    "square": "with four equal sides",
    "triangle": "with three corners",
    "star": "with pointed arms",
}
_MANNER = {
    "standing still": "never leaving its place",
    "growing": "taking up more and more of the picture",
    "shrinking": "taking up less and less of the picture",
    "circling clockwise": "the way the hands of a clock go",
    "circling counterclockwise": "against the way the hands of a clock go",
}
_ACROSS = "crossing the picture in one direction"


def elaborate(facts: Facts) -> str:
    """A longer, richer text with the same facts: what the enhancing demo model learns to write."""
    facts = facts.canonical()
    count = "two objects" if len(facts.subjects) == 2 else "a single object"
    opening = f"The video shows {count} on a plain {facts.background} background"
    names = [f"{noun(s)} {_LOOK[s.shape]}" for s in facts.subjects]
    acts = [[f"{m}, {_MANNER.get(m, _ACROSS)}" for m in s.motions] for s in facts.subjects]
    if len(facts.subjects) == 2 and facts.in_turn:
        return (
            f"{opening}, and they act one after the other. First {names[0]} is {acts[0][0]}. "
            f"Then {names[1]} is {acts[1][0]}. Each rests while the other acts."
        )
    if len(facts.subjects) == 2:
        return (
            f"{opening}. One is {names[0]}, and it is {acts[0][0]}. "
            f"The other is {names[1]}, and it is {acts[1][0]}. Both can be seen at the same time."
        )
    if len(acts[0]) == 2:
        return (
            f"{opening}. It is {names[0]}. At first it is {acts[0][0]}, and then it is {acts[0][1]}. "
            "Nothing else is in sight."
        )
    return f"{opening}. It is {names[0]}, and it is {acts[0][0]}. Nothing else is in sight."


_NOUN = re.compile(rf"\b({'|'.join(COLOURS)})\s+({'|'.join(SHAPES)})\b")
_MOTION = re.compile(rf"\b({'|'.join(MOTIONS)})\b")
_BACKGROUND = re.compile(
    rf"\b({'|'.join(BACKGROUNDS)})(?:\s+\w+)?\s+background\b|\bbackground\s+(?:\w+\s+){{0,2}}({'|'.join(BACKGROUNDS)})\b"
)
_IN_TURN = re.compile(r"\b(then|afterwards|after that|next)\b")


def read(caption: str) -> Facts:
    """The facts that a caption states; parts that it does not state are empty (background "", no subjects).

    Each "colour shape" mention opens a subject, and the motions up to the next mention are that subject's.
    """
    text = caption.lower()
    background = _BACKGROUND.search(text)
    mentions = list(_NOUN.finditer(text))
    ends = [*(m.start() for m in mentions), len(text)][1:]
    subjects = tuple(
        Subject(m[1], m[2], tuple(hit[1] for hit in _MOTION.finditer(text, m.end(), end)))
        for m, end in zip(mentions, ends, strict=True)
    )
    in_turn = len(subjects) > 1 and _IN_TURN.search(text, mentions[0].end()) is not None
    return Facts((background[1] or background[2]) if background else "", subjects, in_turn)


def compare(said: Facts, true: Facts) -> dict[str, bool]:
    """Which attributes of `said` are right: colour, shape, motion, background, order, and "all" of them.

    Subjects are matched one to one so that most attributes agree; a missing or an extra subject makes colour, shape,
    motion and order wrong. "order" asks that events which follow each other are told so, in the right order.
    """
    result = dict.fromkeys(ATTRIBUTES, False)
    result["background"] = said.background == true.background
    if len(said.subjects) == len(true.subjects):
        best = max(
            permutations(said.subjects),
            key=lambda order: sum(sum(_same(s, t).values()) for s, t in zip(order, true.subjects, strict=True)),
        )
        pairs = list(zip(best, true.subjects, strict=True))
        for name in ("colour", "shape", "motion"):
            result[name] = all(_same(s, t)[name] for s, t in pairs)
        same_order = all(len(s.motions) < 2 or len(t.motions) < 2 or s.motions == t.motions for s, t in pairs)
        result["order"] = (
            said.in_turn == true.in_turn
            and same_order
            and (best == said.subjects or not true.in_turn)
            and all(len(s.motions) == len(t.motions) for s, t in pairs)
        )
    return result | {"all": all(result.values())}


def _same(said: Subject, true: Subject) -> dict[str, bool]:
    return {
        "colour": said.colour == true.colour,
        "shape": said.shape == true.shape,
        "motion": sorted(said.motions) == sorted(true.motions),
    }
