"""Progress in words, for a log that people follow: when a step starts, about once a minute, and when it is done."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

from caption_assets.models.waits import waits
from caption_assets.steps.progress import Paces, Progress, Relay
from caption_assets.steps.report import ShardReport, Step

log = logging.getLogger(__name__)
_EVERY_SECONDS = 60.0


class ProgressLog(Relay):
    """Says how a step gets on with the shards of a run, and tells another listener everything. A context manager.

    A step that makes what belongs to another one, as captions make previews, is said to make that, too. What is waited
    for is said with how long it has been.
    """

    def __init__(
        self,
        step: Step,
        shards: Sequence[str],
        say: Callable[[str], object],
        listener: Progress | None = None,
        *,
        beyond: Callable[[], str] = str,
        every_s: float = _EVERY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`say` is called from a thread, too; `every_s` is how long it is silent, in seconds. `beyond` has a sentence
        on what the run is a part of, if it is one."""
        super().__init__(*([listener] if listener else []))
        self._step, self._shards, self._say = step, shards, say
        self._every_s, self._clock, self._beyond = every_s, clock, beyond
        self._paces = Paces(len(shards), clock)
        self._good = self._bad = 0
        self._began, self._stop = clock(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="progress", daemon=True)

    def __enter__(self) -> Self:
        if self._shards:
            self._say(f"{self._step.name} of {_shards(self._shards)} begins.")
            self._thread.start()
        else:
            self._say(f"{self._step.name}: nothing is left, another asset of the run has made it on its way.")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        if self._shards:
            self._thread.join()
            if kind is None or issubclass(kind, Exception):
                self._say(self._ended())

    def start(self, asset: str, shard: str, total: int, reused: int = 0, work: float | None = None) -> None:
        self._paces.start(asset, shard, total, reused, work)
        super().start(asset, shard, total, reused, work)

    def ready(self, asset: str) -> None:
        self._paces.ready(asset)
        super().ready(asset)

    def advance(self, asset: str, shard: str, items: int = 1, work: float | None = None) -> None:
        self._paces.advance(asset, shard, items, work)
        super().advance(asset, shard, items, work)

    def done(self, report: ShardReport) -> None:
        self._paces.over(report.asset, report.shard)
        self._good += report.asset == self._step.name
        if len(self._shards) > 1:
            self._say(f"{report.asset} of shard {report.shard!r} is done: {_counts(report)}.")
        super().done(report)

    def failed(self, asset: str, shard: str, error: Exception, key: str = "") -> None:
        self._paces.failed(asset, shard)
        self._bad += asset == self._step.name
        super().failed(asset, shard, error, key)

    def sentences(self) -> list[str]:
        """How far it is."""
        said = [self._sentence(asset) for asset in dict.fromkeys([self._step.name, *self._paces.assets])]
        return said + [f"{self._step.name} waits for {what}, for {duration(seconds)} now." for what, seconds in waits()]

    def _sentence(self, asset: str) -> str:
        pace, left = self._paces[asset], self._paces.seconds_left(asset)
        items = self._step.items if asset == self._step.name else "windows"
        about = "" if pace.is_known else "about "
        text = f"{asset}: {pace.done:,} of {about}{pace.total:,} {items} done"
        if pace.reused:
            text += f", {pace.reused:,} of them before"
        if pace.per_second is None or left is None:
            return f"{text}, in {duration(self._clock() - self._began)}."
        return f"{text}, {pace.per_second:.3g} a second, about {duration(left)} left."

    def _ended(self) -> str:
        pace, shards = self._paces[self._step.name], len(self._shards)
        how = "is done" if self._good == shards else "has ended"
        items = f"{pace.made:,} {self._step.items} now" + (f", {pace.reused:,} before" if pace.reused else "")
        took = duration(self._clock() - self._began)
        return f"{self._step.name} {how}: {self._good} of {shards} shard{'s' * (shards > 1)}, {items}, in {took}."

    def _work(self) -> None:
        while not self._stop.wait(self._every_s):
            for sentence in filter(None, [*self.sentences(), self._said_beyond()]):
                self._say(sentence)

    def _said_beyond(self) -> str:
        try:
            return self._beyond()
        except Exception:  # a sentence is not worth a run
            log.exception("how the whole gets on")
            return ""


def duration(seconds: float) -> str:
    """A time in words: "45 s", "12 min", "3 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _shards(shards: Sequence[str]) -> str:
    return f"shard {shards[0]!r}" if len(shards) == 1 else f"{len(shards)} shards, {shards[0]!r} to {shards[-1]!r},"


def _counts(report: ShardReport) -> str:
    parts = [f"{report.ok:,} good", f"{report.failed:,} failed", f"{report.skipped:,} skipped"]
    shown = [part for part, number in zip(parts, (1, report.failed, report.skipped), strict=True) if number]
    if report.reused:
        shown.append(f"{report.reused:,} of them before")
    return f"{', '.join(shown)}, in {duration(report.seconds)}"
