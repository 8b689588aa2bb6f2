"""How the steps get on: who is told, and how long the rest will take."""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from statistics import linear_regression
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caption_assets.models.engines.session import EngineSession
    from caption_assets.steps.checked import Checked
    from caption_assets.steps.report import ShardReport
    from caption_assets.store.rows import CaptionRow, EnhancedRow

# What was done longer ago says little about what comes, unless that is all there is.
_RECENT_SECONDS = 600.0
_RECENT_MARKS = 32
# What comes within this time comes at once, as a batch does.
_AT_ONCE_SECONDS = 0.25
_ENOUGH_MARKS = 4


class Progress:
    """Told how the steps get on. This one listens to nothing; subclasses show or count."""

    def start(self, asset: str, shard: str, total: int, reused: int = 0, work: float | None = None) -> None:
        """A shard has begun, with so many items, of which so many were finished before.

        Where items take as long as they are large, `work` is the size of those that are left, in a unit that is the
        same for all shards of the asset, such as frames; by default, all are of size 1.
        """

    def ready(self, asset: str) -> None:
        """The engine that makes an asset's items has started: from now on it works on them."""

    def advance(self, asset: str, shard: str, items: int = 1, work: float | None = None) -> None:
        """So many more of its items are finished, well or not; `work` is their size, as for `start`."""

    def done(self, report: "ShardReport") -> None:
        """A shard is processed."""

    def failed(self, asset: str, shard: str, error: Exception, key: str = "") -> None:
        """A shard has ended with an error; of texts, under this key."""

    def checked(self, checked: "Checked") -> None:
        """A check has said something of a shard."""

    def working(self, asset: str, session: "EngineSession") -> None:
        """An engine is going to make an asset's items, from now until the session is closed."""

    def answered(self, asset: str, shard: str, row: "CaptionRow | EnhancedRow") -> None:
        """An engine's answer has become a row, good or not."""


class Relay(Progress):
    """Tells others, in their order."""

    def __init__(self, *listeners: Progress) -> None:
        self._listeners = listeners

    def start(self, asset: str, shard: str, total: int, reused: int = 0, work: float | None = None) -> None:
        for each in self._listeners:
            each.start(asset, shard, total, reused, work)

    def ready(self, asset: str) -> None:
        for each in self._listeners:
            each.ready(asset)

    def advance(self, asset: str, shard: str, items: int = 1, work: float | None = None) -> None:
        for each in self._listeners:
            each.advance(asset, shard, items, work)

    def done(self, report: "ShardReport") -> None:
        for each in self._listeners:
            each.done(report)

    def failed(self, asset: str, shard: str, error: Exception, key: str = "") -> None:
        for each in self._listeners:
            each.failed(asset, shard, error, key)

    def checked(self, checked: "Checked") -> None:
        for each in self._listeners:
            each.checked(checked)

    def working(self, asset: str, session: "EngineSession") -> None:
        for each in self._listeners:
            each.working(asset, session)

    def answered(self, asset: str, shard: str, row: "CaptionRow | EnhancedRow") -> None:
        for each in self._listeners:
            each.answered(asset, shard, row)


class Pace:
    """How far one step is with the shards of a run, how fast it goes, and how long the rest will take.

    Items that were there already count as done, and not for the speed. A shard that has not begun is taken to have as
    many items as the others on average, and these to be as large. Times are those of `clock`, in seconds.
    """

    def __init__(self, shards: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._shards, self._clock = shards, clock
        # By shard: items in all, items that are left, and the size of these. Their sums, which are asked for with every
        # item, whereas there may be ten thousand shards.
        self._totals: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self._work_left: dict[str, float] = {}
        self._all = self._all_left = 0
        self._all_work_left = 0.0
        self.reused = self.made = 0
        # What there was to do in shards that have begun, as items and as work; and how much of that work is done.
        self._new, self._work, self._worked = 0, 0.0, 0.0
        # When how much work had been done: when the engine was ready, and since.
        self._ready: tuple[float, float] | None = None
        self._marks: deque[tuple[float, float]] = deque()

    def start(self, shard: str, total: int, reused: int, work: float | None = None) -> None:
        new = total - reused
        self._set(shard, total, new, new if work is None else work)
        self.reused += reused
        self._new += new
        self._work += self._work_left[shard]

    def ready(self) -> None:
        """The first of what is made counts with the time since now."""
        self._ready = (self._clock(), self._worked)

    def advance(self, shard: str, items: int, work: float | None = None) -> None:
        size = items if work is None else work
        left, work_left = self._left.get(shard, 0) - items, self._work_left.get(shard, 0.0) - size
        self._set(shard, self._totals.get(shard), max(0, left), max(0.0, work_left))
        self.made += items
        self._worked += size
        self._mark()

    def over(self, shard: str) -> None:
        """The shard has ended, however it did. What it has not made by now will not be made."""
        self._set(shard, self._totals.get(shard, 0) - self._left.get(shard, 0), 0, 0.0)

    def has_begun(self, shard: str) -> bool:
        return shard in self._totals

    @property
    def done(self) -> int:
        """Items that are there, made or found."""
        return self.reused + self.made

    @property
    def is_known(self) -> bool:
        """Whether all shards have begun, so that `total` is no estimate."""
        return len(self._totals) >= self._shards

    @property
    def is_at_work(self) -> bool:
        """Whether anything is left of shards that have begun."""
        return self._all_left > 0

    @property
    def total(self) -> int:
        return round(self._all + self._unknown)

    @property
    def per_second(self) -> float | None:
        """Items made a second, lately; None where that cannot be told yet."""
        each = seconds_each(self._counting)
        return 1 / (each * self._size) if each else None

    @property
    def left(self) -> float:
        """Items that are not there yet."""
        return self._all_left + self._unknown

    @property
    def seconds_left(self) -> float | None:
        if not self.left:
            return 0.0
        work = self._all_work_left + self._unknown * self._size
        return seconds_left(self._counting, work, self._clock())

    @property
    def _counting(self) -> list[tuple[float, float]]:
        """The marks to go by: the start of the engine is one of them only until there are enough others, since the
        first of what it does fills what lies between the clips and the answers, and may be slow."""
        first = [self._ready] if self._ready and len(self._marks) < _ENOUGH_MARKS else []
        return [*first, *self._marks]

    @property
    def _size(self) -> float:
        """Of an item, on average."""
        return self._work / self._new if self._new and self._work else 1.0

    def _set(self, shard: str, total: int | None, left: int, work_left: float) -> None:
        """Of a shard that has not begun, `total` is None."""
        if total is not None:
            self._all += total - self._totals.get(shard, 0)
            self._totals[shard] = total
        self._all_left += left - self._left.get(shard, 0)
        self._all_work_left += work_left - self._work_left.get(shard, 0.0)
        self._left[shard], self._work_left[shard] = left, work_left

    def _mark(self) -> None:
        now = self._clock()
        if self._marks and now - self._marks[-1][0] < _AT_ONCE_SECONDS:
            now, _ = self._marks.pop()
        self._marks.append((now, self._worked))
        while len(self._marks) > _RECENT_MARKS and self._marks[0][0] < now - _RECENT_SECONDS:
            self._marks.popleft()

    @property
    def _unknown(self) -> float:
        """Items of the shards that have not begun."""
        begun = len(self._totals)
        return max(0, self._shards - begun) * self._all / begun if begun else 0.0


class Paces:
    """The paces of steps that go on beside each other, by asset. For any thread."""

    def __init__(self, shards: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._shards, self._clock = shards, clock
        self._paces: dict[str, Pace] = {}
        self._failed: set[str] = set()
        self._lock = threading.Lock()

    def start(self, asset: str, shard: str, total: int, reused: int, work: float | None = None) -> bool:
        """Returns whether it is the first shard, of all or of those that begin once more, as with another model."""
        with self._lock:
            if is_first := asset not in self._paces or self._paces[asset].has_begun(shard):
                # What failed before gets no further; should it do so after all, the estimate is too low for a while.
                self._paces[asset] = Pace(self._shards - len(self._failed - {shard}), self._clock)
            self._paces[asset].start(shard, total, reused, work)
            return is_first

    def ready(self, asset: str) -> None:
        with self._lock:
            self._of(asset).ready()

    def advance(self, asset: str, shard: str, items: int, work: float | None = None) -> None:
        with self._lock:
            self._of(asset).advance(shard, items, work)

    def over(self, asset: str, shard: str) -> None:
        with self._lock:
            self._of(asset).over(shard)

    def failed(self, asset: str, shard: str) -> None:
        """The shard has ended in this step, and so in those after it."""
        with self._lock:
            self._of(asset).over(shard)
            self._failed.add(shard)

    def __getitem__(self, asset: str) -> Pace:
        with self._lock:
            return self._of(asset)

    @property
    def assets(self) -> list[str]:
        """Those that have begun, in that order."""
        return list(self._paces)

    def seconds_left(self, asset: str) -> float | None:
        """How long an asset still takes; None where that cannot be told yet.

        What is made on the way of something else, as previews are made of captions, goes no faster than that, however
        far ahead it is.
        """
        with self._lock:
            own = self._of(asset)
            if not own.left:
                return 0.0
            beside = [pace.seconds_left for pace in self._paces.values() if pace is own or pace.is_at_work]
            known = [seconds for seconds in beside if seconds is not None]
            return max(known) if len(known) == len(beside) else None

    def _of(self, asset: str) -> Pace:
        return self._paces.setdefault(asset, Pace(self._shards, self._clock))


def seconds_each(marks: Collection[tuple[float, float]]) -> float | None:
    """The seconds that one more item, or a unit of work, takes, by when so much had been done: the slope of the line
    that comes closest to all of them, since items come in batches of which some are longer than others. None where that
    cannot be told."""
    times, done = [at for at, _ in marks], [much for _, much in marks]
    if not done or done[0] == done[-1]:
        return None
    return linear_regression(done, times).slope or None


def seconds_left(marks: Collection[tuple[float, float]], left: float, now: float) -> float | None:
    """How long so much more takes; what is under way since the last mark counts."""
    each = seconds_each(marks)
    return None if each is None else max(0.0, left * each - (now - max(at for at, _ in marks)))
