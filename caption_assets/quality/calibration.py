"""What a score is worth: how well it tells texts that people call right from those that they call wrong."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Bin:
    """Texts of neighbouring scores: lowest and highest score, how many there are, and how many of them are right.

    `low` and `high` bound the share of right ones at 95 % (Wilson's interval).
    """

    lowest: float
    highest: float
    count: int
    right: int

    @property
    def share(self) -> float:
        return self.right / self.count

    @property
    def low(self) -> float:
        return _wilson(self.right, self.count)[0]

    @property
    def high(self) -> float:
        return _wilson(self.right, self.count)[1]


def auroc(scores: Sequence[float], right: Sequence[bool]) -> float:
    """How often a right text has a higher score than a wrong one, ties counting half: 1 is always, 0.5 by chance.

    NaN where there are no right or no wrong ones.
    """
    values, marks = np.asarray(scores, float), np.asarray(right, bool)
    good, bad = int(marks.sum()), int((~marks).sum())
    if not good or not bad:
        return math.nan
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[marks].sum() - good * (good + 1) / 2) / (good * bad))


def auroc_interval(scores: Sequence[float], right: Sequence[bool]) -> tuple[float, float]:
    """A 95 % interval of `auroc`: all areas from which this one is no further than chance would have it.

    Chance by Hanley and McNeil's variance (1982) of the area that is asked about, and not of the one that was found, so
    that the interval has a width also where few texts are in perfect order (method 5 of Newcombe, 2006).
    """
    area, good = auroc(scores, right), sum(map(bool, right))
    bad = len(right) - good
    if math.isnan(area):
        return math.nan, math.nan
    more = len(right) / 2 - 1

    def is_far(true: float) -> bool:
        variance = true * (1 - true) * (1 + more * ((1 - true) / (2 - true) + true / (1 + true))) / (good * bad)
        return (area - true) ** 2 > _Z95**2 * variance

    return _bound(is_far, 0.0, area), _bound(is_far, 1.0, area)


def reliability(scores: Sequence[float], right: Sequence[bool], bins: int = 10) -> list[Bin]:
    """The share of right texts by score, lowest scores first, in so many bins of about equally many texts.

    Equal scores are never in two bins, so that there may be fewer.
    """
    order = sorted(zip(scores, map(bool, right), strict=True))
    found: list[Bin] = []
    begin = 0
    for k in range(1, bins + 1):
        end = max(begin, round(len(order) * k / bins))
        while 0 < end < len(order) and order[end][0] == order[end - 1][0]:
            end += 1
        if end > begin:
            marks = [mark for _, mark in order[begin:end]]
            found.append(Bin(order[begin][0], order[end - 1][0], len(marks), sum(marks)))
        begin = end
    return found


@dataclass(frozen=True, slots=True)
class Threshold:
    """Keep texts of this score and above: so many of all are kept, and so large a share of these is right."""

    score: float
    kept: int
    right: int
    of: int

    @property
    def precision(self) -> float:
        return self.right / self.kept

    @property
    def interval(self) -> tuple[float, float]:
        """Of the precision, at 95 %."""
        return _wilson(self.right, self.kept)


def threshold(scores: Sequence[float], right: Sequence[bool], precision: float) -> Threshold | None:
    """The lowest score from which on at least that share is right; None where no score does that.

    It keeps the most texts with that precision among the marked ones; `Threshold.interval` says how sure that is.
    """
    order = sorted(zip(scores, map(bool, right), strict=True), reverse=True)
    best, good = None, 0
    for at, (score, mark) in enumerate(order):
        good += mark
        last_of_its_score = at + 1 == len(order) or order[at + 1][0] != score
        if last_of_its_score and good >= precision * (at + 1):
            best = Threshold(score, at + 1, good, len(order))
    return best


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float:
    """How far two scores order the same texts alike: 1 is the same order, -1 the reverse (Kendall's tau-b)."""
    first, second = (np.sign(np.subtract.outer(np.asarray(s, float), np.asarray(s, float))) for s in (one, other))
    scale = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    return float((first * second).sum()) / scale if scale else math.nan


def _bound(is_far: Callable[[float], bool], far: float, near: float) -> float:
    """Where `is_far` ends between two numbers."""
    if not is_far(far):
        return far
    for _ in range(50):
        middle = (far + near) / 2
        far, near = (middle, near) if is_far(middle) else (far, middle)
    return near


def _wilson(good: int, count: int) -> tuple[float, float]:
    share, z2 = good / count, _Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    spread = _Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return max(0.0, middle - spread), min(1.0, middle + spread)
