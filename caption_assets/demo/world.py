"""The demo world: which scenes there are. Everything is drawn from a seeded NumPy Generator.

Equal seeds give equal scenes on every machine. This module is the room's front door: it also names the records of
`scene` and the vocabulary of `facts`.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from caption_assets.demo.facts import ATTRIBUTES, BACKGROUNDS, COLOURS, MOTIONS, SHAPES, Facts, Subject
from caption_assets.demo.scene import Act, Event, Object, Scene, score

__all__ = ["ATTRIBUTES", "BACKGROUNDS", "COLOURS", "FRAME_RATES", "KINDS", "MOTIONS", "SHAPES"]
__all__ += ["SKEWED", "Act", "Event", "Facts", "Object", "Scene", "Subject", "sample_scene", "score"]

KINDS = ("one", "two", "one_sequence", "two_sequence")
FRAME_RATES = tuple(
    Fraction(*r)
    for r in ((8, 1), (10, 1), (12, 1), (15, 1), (24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (50, 1),
              (60000, 1001), (60, 1))
)  # fmt: skip
WINDOW_FRAMES = 256
# At its fastest an orbit turns by so many revolutions from one sampled frame to the next (from a half on, nobody can
# tell which way), and an orbit has at least so many in all: less is an arc.
MOST_TURNS_A_STEP, FEWEST_TURNS = 1 / 3, 0.8

SKEWED: Mapping[str, float] = MappingProxyType(
    dict.fromkeys(
        ("orange", "purple", "star", "pink", "moving from bottom to top", "circling counterclockwise"), 1 / 20
    )
)
"""A second language of the same world, for `sample_scene`: these words are twenty times rarer than others."""

# Shades (RGB) of each colour word. A scene mixes two of them.
SHADES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((255, 0, 0), (220, 20, 30), (200, 30, 30), (235, 60, 50)),
    "green": ((0, 255, 0), (0, 128, 0), (34, 139, 34), (50, 205, 50), (60, 180, 75)),
    "blue": ((0, 0, 255), (30, 80, 230), (65, 105, 225), (0, 0, 160)),
    "yellow": ((255, 255, 0), (255, 225, 25), (240, 225, 60)),
    "orange": ((255, 165, 0), (255, 140, 0), (245, 130, 48), (255, 120, 20)),
    "purple": ((128, 0, 128), (160, 32, 240), (145, 30, 180), (110, 40, 160)),
    "white": ((255, 255, 255), (240, 240, 240), (250, 246, 238)),
    "black": ((0, 0, 0), (12, 12, 12), (25, 25, 28)),
    "gray": ((128, 128, 128), (105, 105, 105), (150, 150, 150), (130, 132, 138)),
    "brown": ((139, 69, 19), (120, 75, 40), (101, 67, 33), (150, 85, 35)),
    "pink": ((255, 192, 203), (255, 105, 180), (255, 170, 190), (240, 150, 180)),
}


class _Stage(NamedTuple):
    """Where and when an act plays: the frame's width and height, and the most seconds between two sampled frames."""

    right: float
    bottom: float
    step_s: float


def sample_scene(
    rng: np.random.Generator,
    *,
    width: int | None = None,
    height: int | None = None,
    frame_rate: Fraction | None = None,
    duration_s: float | None = None,
    windows: int = 1,
    kind: str | None = None,
    odds: Mapping[str, float] = MappingProxyType({}),
) -> Scene:
    """Draw a scene; what is not given is drawn too.

    Sizes run from 160x120 to 1280x720 with aspect ratios from 1:2 to 2:1 (even numbers of pixels), rates from 8 to 60.
    A clip of one window lasts 2 to 8 s but at most 256 frames; with more `windows` every window but the last has 256
    frames, the last at least 128, and each is an act of its own. `kind` fixes every act's kind (`KINDS`).
    `odds` are those of words of the world against words that it does not name; a scene that has no room for what was
    drawn is drawn again, which makes rare motions rarer still.
    """
    if width is None or height is None:
        width, height = _frame_size(rng)
    rate = frame_rate or FRAME_RATES[rng.integers(len(FRAME_RATES))]
    if windows == 1:
        seconds = duration_s or rng.uniform(2.0, min(8.0, WINDOW_FRAMES / float(rate)))
        lengths = [max(4, round(seconds * rate))]
    else:
        lengths = [WINDOW_FRAMES] * (windows - 1) + [int(rng.integers(WINDOW_FRAMES // 2, WINDOW_FRAMES + 1))]
    acts, start = [], 0
    for length in lengths:
        acts.append(_act(rng, width, height, rate, start, start + length - 1, kind, odds))
        start += length
    noise = float(rng.uniform(0.0, 4.0))
    return Scene(int(rng.integers(2**31)), width, height, rate, start, noise, tuple(acts))


def _frame_size(rng: np.random.Generator) -> tuple[int, int]:
    while True:
        aspect = math.exp(rng.uniform(-math.log(2), math.log(2)))
        area = math.exp(rng.uniform(math.log(160 * 120), math.log(1280 * 720)))
        width, height = (2 * round(math.sqrt(area * r) / 2) for r in (aspect, 1 / aspect))
        if 120 <= min(width, height) <= 720 and max(width, height) <= 1280 and 0.5 <= width / height <= 2:
            return width, height


def _act(
    rng: np.random.Generator,
    width: int,
    height: int,
    rate: Fraction,
    first: int,
    last: int,
    kind: str | None,
    odds: Mapping[str, float],
) -> Act:
    start_s, end_s = float(first / rate), float(last / rate)
    long_enough = end_s - start_s >= 3.9  # eight frames at two a second: four for each of two events
    kinds, weights = (KINDS, (0.45, 0.3, 0.125, 0.125)) if long_enough else (KINDS[:2], (0.6, 0.4))
    kind = kind or kinds[rng.choice(len(kinds), p=weights)]
    background = _pick(rng, BACKGROUNDS, odds)
    backdrop = _shade(rng, background)
    samples = max(4, 2 * round(float((last + 1 - first) / rate)))  # two a second, an even number: as captioning does
    unit = min(width, height)
    stage = _Stage(width / unit, height / unit, float(math.ceil((last - first) / (samples - 1)) / rate))
    objects = None
    while objects is None:
        objects = _cast(rng, kind, stage, start_s, end_s, odds)
    return Act(first, last, kind, background, backdrop, objects)


def _cast(
    rng: np.random.Generator, kind: str, stage: _Stage, start_s: float, end_s: float, odds: Mapping[str, float]
) -> tuple[Object, ...] | None:
    """Objects whose paths stay in the frame and apart from each other; None where the dice did not allow it."""
    cut_s = start_s + (end_s - start_s) * rng.uniform(0.42, 0.58)
    moving = [m for m in MOTIONS if m != "standing still"]
    whole, before, after = (start_s, end_s), (start_s, cut_s), (cut_s, end_s)
    plans: list[list[tuple[str, tuple[float, float]]]]
    if kind == "one":
        plans = [[(_pick(rng, MOTIONS, odds), whole)]]
    elif kind == "two":
        plans = [[(_pick(rng, MOTIONS, odds), whole)], [(_pick(rng, MOTIONS, odds), whole)]]
    elif kind == "one_sequence":
        a, b = rng.choice(moving, 2, replace=False, p=_shares(moving, odds))
        plans = [[(str(a), before), (str(b), after)]]
    else:
        plans = [[(_pick(rng, moving, odds), before)], [(_pick(rng, moving, odds), after)]]
    objects: list[Object] = []
    for plan in plans:
        events: list[Event] = []
        for motion, span in plan:
            event = _event(rng, motion, stage, *span, after=events[-1] if events else None)
            if event is None:
                return None
            events.append(event)
        shape, colour = _pick(rng, SHAPES, odds), _pick(rng, COLOURS, odds)
        tilt = rng.uniform(-4, 4) if rng.random() < 0.8 else rng.uniform(-15, 15)
        inner = float(rng.uniform(0.38, 0.5))
        objects.append(Object(shape, colour, _shade(rng, colour), tuple(events), float(tilt), inner))
    if len(objects) == 2:
        if (objects[0].colour, objects[0].shape) == (objects[1].colour, objects[1].shape):
            return None
        for time_s in np.linspace(start_s, end_s, 25):
            (xa, ya, sa), (xb, yb, sb) = (o.state(float(time_s)) for o in objects)
            if math.hypot(xa - xb, ya - yb) < 0.58 * (sa + sb):
                return None
    return tuple(objects)


def _event(
    rng: np.random.Generator,
    motion: str,
    stage: _Stage,
    start_s: float,
    end_s: float,
    after: Event | None,
) -> Event | None:
    """One event, taking up the state in which the event before has left the object; None where it does not fit."""
    x, y, size = after.state(after.end_s) if after else (math.nan, math.nan, _log_uniform(rng, 1 / 6, 2 / 5))
    size1 = size
    if motion in ("growing", "shrinking"):
        ratio = _log_uniform(rng, 1.4, 2.4)
        if after is None:
            size = _log_uniform(rng, 1 / 6, 2 / 5 / ratio)
            size, size1 = (size, size * ratio) if motion == "growing" else (size * ratio, size)
        else:
            size1 = size * ratio if motion == "growing" else size / ratio
            if not 1 / 6 <= size1 <= 2 / 5:
                return None
    ease = float(rng.uniform(0, 1)) if rng.random() < 0.4 else 0.0
    if motion.startswith("circling"):
        return _orbit(rng, motion, stage, start_s, end_s, size, 0.3 * ease, (x, y) if after else None)
    right, bottom, _ = stage
    edge = 0.52 * max(size, size1)
    if after is None:
        x, y = rng.uniform(edge, right - edge), rng.uniform(edge, bottom - edge)
    x1, y1 = x, y
    if motion.startswith("moving"):
        edge = 0.35 * size  # a little of the object may be outside at the ends
        horizontal = "left" in motion
        extent = right if horizontal else bottom
        forward = motion in ("moving from left to right", "moving from top to bottom")
        travel = rng.uniform(0.35, 1.0) * (extent - 2 * edge)
        if after is None:
            begin = rng.uniform(edge, extent - edge - travel)
            begin = begin if forward else extent - begin
        else:
            begin = x if horizontal else y
        end = begin + travel if forward else begin - travel
        if not edge <= end <= extent - edge:
            return None
        drift = rng.uniform(-0.08, 0.08) * travel
        if horizontal:
            x, x1, y1 = begin, end, y + drift
        else:
            y, y1, x1 = begin, end, x + drift
    return Event(motion, start_s, end_s, x, y, x1, y1, size, size1, ease=ease)


def _orbit(
    rng: np.random.Generator,
    motion: str,
    stage: _Stage,
    start_s: float,
    end_s: float,
    size: float,
    ease: float,
    start: tuple[float, float] | None,
) -> Event | None:
    right, bottom, step_s = stage
    most = MOST_TURNS_A_STEP * (end_s - start_s) / step_s / (1 + ease / 2)
    if most < FEWEST_TURNS:
        return None
    edge = 0.42 * size
    radius = rng.uniform(0.13, 0.5 - edge)
    angle = rng.uniform(0, 2 * math.pi)
    if start is None:
        cx, cy = rng.uniform(edge + radius, right - edge - radius), rng.uniform(edge + radius, bottom - edge - radius)
    else:
        cx, cy = start[0] - radius * math.cos(angle), start[1] - radius * math.sin(angle)
        if not (edge + radius <= cx <= right - edge - radius and edge + radius <= cy <= bottom - edge - radius):
            return None
    turns = rng.uniform(FEWEST_TURNS, min(2.5, most))
    signed = turns if motion.endswith(" clockwise") else -turns
    x0, y0 = cx + radius * math.cos(angle), cy + radius * math.sin(angle)
    return Event(motion, start_s, end_s, x0, y0, cx, cy, size, size, radius, angle, signed, ease)


def _pick(rng: np.random.Generator, words: Sequence[str], odds: Mapping[str, float]) -> str:
    shares = _shares(words, odds)
    return words[int(rng.integers(len(words)) if shares is None else rng.choice(len(words), p=shares))]


def _shares(words: Sequence[str], odds: Mapping[str, float]) -> np.ndarray | None:
    """How likely each word is; None where all are alike, for which other numbers are drawn."""
    if odds.keys().isdisjoint(words):
        return None
    weights = np.array([odds.get(word, 1.0) for word in words])
    return weights / weights.sum()


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _shade(rng: np.random.Generator, word: str) -> tuple[int, int, int]:
    shades = SHADES[word]
    a, b = (np.array(shades[i], float) for i in rng.integers(len(shades), size=2))
    mixed = a + rng.random() * (b - a) + rng.uniform(-6, 6, 3)
    r, g, b_ = (int(v) for v in np.clip(np.round(mixed), 0, 255))
    return r, g, b_
