"""Many shards through one engine, in one stream: it does not run empty between two shards, and each ends on its own.

The *asking* thread runs the generators that requests come from: an engine may read them ahead, in a thread of its own.
The *answering* one, the caller's, takes the answers. What the first has to tell the second goes through one queue.
Others do what waits for a store: they open the next shards, and finish those that have all their answers.
"""

import logging
import queue
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain

from caption_assets.errors import CaptionAssetsError, ConfigError, ModelError, ShardError
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.requests import Request, Result
from caption_assets.steps.report import Ended, Outcomes, Step
from caption_assets.steps.stream import Stream

log = logging.getLogger(__name__)
_MOST_FINISHING = 4
# So many shards with nothing to ask may be in memory; then they are finished, before more is asked.
_MOST_IDLE = 32


@dataclass(frozen=True, slots=True)
class _Opened:
    stream: Stream


@dataclass(frozen=True, slots=True)
class _AllAsked:
    """Of the shard's first round; what its answers lead to comes later."""

    shard: str


@dataclass(frozen=True, slots=True)
class _Failed:
    shard: str
    error: CaptionAssetsError


@dataclass(frozen=True, slots=True)
class _Unasked:
    shard: str
    request_id: str
    error: CaptionAssetsError


class ShardStreams:
    """Shards on their way through one engine, opened as it gets to them; to be gone through once."""

    def __init__(
        self,
        step: Step,
        shards: Sequence[str],
        open_shard: Callable[[str], Stream],
        session: EngineSession,
        fails_with: tuple[Step, ...] = (),
        at_once: int = 1,
    ) -> None:
        """`fails_with` are further steps that a shard which cannot be opened fails in. So many shards are opened ahead,
        and finished, `at_once`."""
        # Of both threads, and never changed.
        self._shards, self._session = shards, session
        self._open_shard: Callable[[str], Stream] = open_shard
        self._step, self._fails_with = step, fails_with
        # From the asking thread to the answering one.
        self._news: queue.SimpleQueue[_Opened | _AllAsked | _Failed | _Unasked] = queue.SimpleQueue()
        # Of the asking thread: the shards whose answers may lead to further requests.
        self._asking: list[Stream] = []
        # Of the same: shards that have nothing to ask, now or later, and are not finished yet.
        self._idle: list[Stream] = []
        # Of the answering thread.
        self._opened: dict[str, Stream] = {}
        self._settled = 0
        self._owners: dict[str, Stream] = {}
        self._all_asked: set[str] = set()
        self._finishing: deque[tuple[Stream, Future[list[Ended]]]] = deque()
        self._at_once = at_once
        self._opener = ThreadPoolExecutor(at_once, thread_name_prefix="open-shards")
        self._finisher = ThreadPoolExecutor(at_once, thread_name_prefix="finish-shards")
        self._over: set[str] = set()

    def outcomes(self) -> Outcomes:
        """How every shard ended, as they end.

        Raises ConfigError and ModelError, which no shard could do better with; rows that are made by then are kept.
        """
        with ExitStack() as saved:
            saved.callback(self._save)
            later: list[Stream] = []
            asked: Iterator[Request | None] = self._requests(later)
            while True:
                settled = self._settled
                # The engine starts with the first request, and not at all where nothing is left to do.
                for first in asked:
                    if first is not None:
                        for result in self._session.generate(chain([first], _until_pause(asked))):
                            yield from self._ended()
                            self._take(result)
                            yield from self._ended()
                    yield from self._ended()
                    if not self._session.started:
                        yield from self._worked_beside(later)
                yield from self._ended()
                if self._settled == settled:
                    break  # nothing that could lead to more
                asked = self._more_requests()
            yield from self._worked_beside(later)
            yield from self._finished(most_left=0)

    # In the asking thread.

    def _requests(self, later: list[Stream]) -> Iterator[Request | None]:
        """All requests. A shard that only has work beside them is put off, so that no engine waits for it. None is a
        pause, for what has nothing to ask."""
        for shard, opened in self._opened_ahead():
            try:
                with self._step.errors_of(shard):
                    stream = opened.result()
                stream.unasked = self._tell_unasked(shard)
                self._news.put(_Opened(stream))
            except (ConfigError, ModelError):
                raise
            except CaptionAssetsError as error:
                self._news.put(_Failed(shard, error))
                continue
            if stream.works_beside and not stream.waiting:
                later.append(stream)
                if len(later) >= _MOST_IDLE and not self._session.started:
                    yield None
                continue
            if not stream.waiting:
                yield from self._asked(stream)
                self._idle = [*(idle for idle in self._idle if not idle.ended), stream]
                if len(self._idle) >= _MOST_IDLE and not any(asked.waiting for asked in self._asking):
                    yield None  # no engine is kept from anything
                continue
            self._asking.append(stream)
            yield from self._asked(stream)
            yield from self._more_requests()

    def _opened_ahead(self) -> Iterator[tuple[str, "Future[Stream]"]]:
        """Every shard as it is opened: the next ones while this one is asked."""
        ahead: deque[tuple[str, Future[Stream]]] = deque()
        for shard in self._shards:
            ahead.append((shard, self._opener.submit(self._open_shard, shard)))
            if len(ahead) > self._at_once:
                yield ahead.popleft()
        yield from ahead

    def _asked(self, stream: Stream) -> Iterator[Request]:
        if (yield from self._of(stream, stream.requests())):
            self._news.put(_AllAsked(stream.shard))

    def _more_requests(self) -> Iterator[Request]:
        self._asking = [stream for stream in self._asking if not stream.ended]
        for stream in self._asking:
            yield from self._of(stream, stream.more_requests())

    def _of(self, stream: Stream, requests: Iterator[Request]) -> Generator[Request, None, bool]:
        """A shard's requests, and whether they came to their end: where they fail, that shard does, and no other."""
        try:
            with self._step.errors_of(stream.shard):
                yield from requests
            return True
        except (ConfigError, ModelError):
            raise
        except CaptionAssetsError as error:
            self._news.put(_Failed(stream.shard, error))
            return False

    def _tell_unasked(self, shard: str) -> Callable[[str, CaptionAssetsError], None]:
        return lambda request_id, error: self._news.put(_Unasked(shard, request_id, error))

    # In the answering thread.

    def _worked_beside(self, later: list[Stream]) -> Outcomes:
        """Does the work of shards that have nothing to ask."""
        while later:
            list(self._asked(later.pop(0)))
            yield from self._ended()

    def _ended(self) -> Outcomes:
        while not self._news.empty():
            news = self._news.get()
            if isinstance(news, _Opened):
                self._opened[news.stream.shard] = news.stream
                self._owners |= dict.fromkeys(news.stream.waiting, news.stream)
            elif isinstance(news, _Failed) and news.shard not in self._opened:
                if news.shard not in self._over:
                    yield from self._not_opened(news)
            elif news.shard in self._over:
                continue  # it has failed meanwhile
            elif isinstance(news, _AllAsked):
                self._all_asked.add(news.shard)
            elif isinstance(news, _Unasked):
                self._settle(self._opened[news.shard], news.request_id, news.error)
            else:
                yield from self._end(news.shard).give_up(news.error)
        for stream in list(self._opened.values()):
            if stream.shard in self._all_asked and not stream.waiting:
                self._end(stream.shard)
                self._finishing.append((stream, self._finisher.submit(_finish, stream)))
        yield from self._finished(most_left=_MOST_FINISHING)

    def _finished(self, most_left: int) -> Outcomes:
        """What has been finished; waits where more than so many are left, so that no more of them are in memory."""
        while self._finishing and (len(self._finishing) > most_left or self._finishing[0][1].done()):
            yield from self._finishing.popleft()[1].result()

    def _not_opened(self, failed: _Failed) -> Outcomes:
        self._over.add(failed.shard)
        yield Ended(self._step.name, failed.shard, failed.error)
        for step in self._fails_with:
            error = failed.error
            if isinstance(error, ShardError):
                error = step.not_ready(failed.shard, error.wrong)
            yield Ended(step.name, failed.shard, error)

    def _end(self, shard: str) -> Stream:
        stream = self._opened.pop(shard)
        stream.ended = True
        self._all_asked.discard(shard)
        self._over.add(shard)
        return stream

    def _take(self, result: Result) -> None:
        stream = self._owners[result.request_id]
        if not stream.ended:
            self._settle(stream, result.request_id, result)
        if stream.ended or result.request_id not in stream.waiting:
            del self._owners[result.request_id]

    def _settle(self, stream: Stream, request_id: str, result: Result | CaptionAssetsError) -> None:
        self._settled += 1
        try:
            with self._step.errors_of(stream.shard):
                stream.settle(request_id, result)
        except (ConfigError, ModelError):
            raise
        except CaptionAssetsError as error:
            self._news.put(_Failed(stream.shard, error))

    def _save(self) -> None:
        while not self._news.empty():
            if isinstance(news := self._news.get(), _Opened):
                self._opened[news.stream.shard] = news.stream
        self._opener.shutdown(cancel_futures=True)
        self._finisher.shutdown(cancel_futures=True)
        for stream in [*self._opened.values(), *(one for one, finished in self._finishing if finished.cancelled())]:
            try:
                stream.save()
            except Exception as error:  # the others are to be saved all the same
                log.error("%s", error)


def _until_pause(asked: Iterator[Request | None]) -> Iterator[Request]:
    for request in asked:
        if request is None:
            return
        yield request


def _finish(stream: Stream) -> list[Ended]:
    return list(stream.finish())
