"""How the steps get on: who is told, and how long the rest will take."""

import time
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caption_assets.steps.checked import Checked
    from caption_assets.steps.report import ShardReport

# What was done longer ago says little about what comes, unless that is all there is.
_RECENT_SECONDS = 600.0
_RECENT_MARKS = 32


class Progress:
    """Told how the steps get on. This one listens to nothing; subclasses show or count."""

    def start(self, asset: str, shard: str, total: int, reused: int = 0) -> None:
        """A shard has begun, with so many items, of which so many were finished before."""

    def advance(self, asset: str, shard: str, items: int = 1) -> None:
        """So many more of its items are finished, well or not."""

    def done(self, report: "ShardReport") -> None:
        """A shard is processed."""

    def failed(self, asset: str, shard: str, error: Exception) -> None:
        """A shard has ended with an error."""

    def checked(self, checked: "Checked") -> None:
        """A check has said something of a shard."""


class Pace:
    """How far one step is with the shards of a run, how fast it goes, and how long the rest will take.

    Items that were there already count as done, and not for the speed. A shard that has not begun is taken to have as
    many items as the others on average. Times are those of `clock`, in seconds.
    """

    def __init__(self, shards: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._shards, self._clock = shards, clock
        self._totals: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self.reused = self.made = 0
        # When so many had been made. The first ones only set the clock: engines begin with many at once.
        self._marks: deque[tuple[float, int]] = deque()

    def start(self, shard: str, total: int, reused: int) -> None:
        self._totals[shard], self._left[shard] = total, total - reused
        self.reused += reused

    def advance(self, shard: str, items: int) -> None:
        self._left[shard] = max(0, self._left.get(shard, 0) - items)
        self.made += items
        now = self._clock()
        if self._marks and self._marks[-1][0] == now:
            self._marks.pop()
        self._marks.append((now, self.made))
        while len(self._marks) > _RECENT_MARKS and self._marks[0][0] < now - _RECENT_SECONDS:
            self._marks.popleft()

    def over(self, shard: str) -> None:
        """The shard has ended, however it did."""
        self._totals.setdefault(shard, 0)
        self._left[shard] = 0

    @property
    def done(self) -> int:
        """Items that are there, made or found."""
        return self.reused + self.made

    @property
    def is_known(self) -> bool:
        """Whether all shards have begun, so that `total` is no estimate."""
        return len(self._totals) >= self._shards

    @property
    def total(self) -> int:
        return round(sum(self._totals.values()) + self._unknown)

    @property
    def per_second(self) -> float | None:
        """Items made a second, lately; None where that cannot be told yet."""
        if len(self._marks) < 2:
            return None
        (began, before), (ended, made) = self._stretch
        return (made - before) / (ended - began)

    @property
    def seconds_left(self) -> float | None:
        if not self.per_second:
            return None
        _, (ended, made) = self._stretch
        left = (sum(self._left.values()) + self._unknown + self.made - made) / self.per_second
        return max(0.0, left - (self._clock() - ended))

    @property
    def _stretch(self) -> tuple[tuple[float, int], tuple[float, int]]:
        """The marks from which to which the speed counts: where items come in batches, from the end of one batch to
        that of another, so that none counts without its time."""
        marks = list(self._marks)
        gap = 2 * (marks[-1][0] - marks[0][0]) / (len(marks) - 1)
        ends = [one for one, after in pairwise(marks) if after[0] - one[0] > gap]
        if len(ends) > 2:
            return ends[0], ends[-1]
        return (ends or marks)[0], marks[-1]

    @property
    def _unknown(self) -> float:
        """Items of the shards that have not begun."""
        begun = len(self._totals)
        return (self._shards - begun) * sum(self._totals.values()) / begun if begun else 0.0
