"""Shards through a step that asks no model: one after the other is worked on, beside what waits for a store."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from caption_assets.errors import CaptionAssetsError, ConfigError, ModelError
from caption_assets.steps.report import Ended, Outcomes, ShardReport, Step
from caption_assets.store.store import Stored

T = TypeVar("T")


def is_empty(stored: Stored[Any]) -> bool:
    """Whether a shard has a table without any row: nothing is to be made of it."""
    return stored.is_whole and not stored.rows


class ShardWork(Protocol):
    """What a step has to do for one shard. Making one reads what the dataset and the store have about it."""

    def run(self) -> None:
        """Does it."""

    def finish(self) -> ShardReport:
        """Commits it, and says what it came to."""


def each_shard(step: Step, shards: Sequence[str], begin: Callable[[str], ShardWork], at_once: int) -> Outcomes:
    """How `step` ends for each shard, in order. While one runs, up to `at_once` others are begun ahead of it, and as
    many finished behind it.

    Raises ConfigError and ModelError, which no shard could do better with.
    """
    ahead: deque[tuple[str, Future[ShardWork | CaptionAssetsError]]] = deque()
    behind: deque[tuple[str, Future[ShardReport | CaptionAssetsError]]] = deque()
    left = iter(shards)
    with _threads("begin-shards", at_once) as beginner, _threads("finish-shards", at_once) as finisher:
        while True:
            while len(ahead) <= at_once and (shard := next(left, None)) is not None:
                ahead.append((shard, beginner.submit(_outcome, step, shard, lambda shard=shard: begin(shard))))
            while behind and (len(behind) > at_once or not ahead or behind[0][1].done()):
                shard, finished = behind.popleft()
                yield Ended(step.name, shard, finished.result())
            if not ahead:
                return
            shard, begun = ahead.popleft()
            work = begun.result()
            if not isinstance(work, CaptionAssetsError):
                work = _outcome(step, shard, work.run) or work
            behind.append((shard, finisher.submit(_finish, step, shard, work)))


def _finish(step: Step, shard: str, work: ShardWork | CaptionAssetsError) -> ShardReport | CaptionAssetsError:
    return work if isinstance(work, CaptionAssetsError) else _outcome(step, shard, work.finish)


def _outcome(step: Step, shard: str, work: Callable[[], T]) -> T | CaptionAssetsError:
    """What comes of it, or the shard's own error."""
    try:
        with step.errors_of(shard):
            return work()
    except (ConfigError, ModelError):
        raise
    except CaptionAssetsError as error:
        return error


@contextmanager
def _threads(name: str, count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that go with the context; what has not been started by then is left."""
    threads = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)
