"""Many shards through one engine, in one stream: it does not run empty between two shards, and each ends on its own."""

import logging
import queue
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import ClassVar, Generic, Literal, TypeVar

from caption_assets.errors import CaptionAssetsError, ConfigError, ModelError
from caption_assets.models.engines.base import EngineInfo
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.requests import Request, Result
from caption_assets.steps.report import Progress, Sample, ShardReport, shard_report, windows_per_second
from caption_assets.steps.rows import RowBuffer, render_documents, window_key
from caption_assets.store.rows import CaptionRow, EnhancedRow
from caption_assets.store.store import Store
from caption_assets.store.tables import TABLES

log = logging.getLogger(__name__)
_SAMPLES = 8
R = TypeVar("R", CaptionRow, EnhancedRow)
Outcomes = Iterator[tuple[str, ShardReport | CaptionAssetsError]]


class ShardStream(ABC, Generic[R]):
    """One shard on its way: rows in `buffer`, and in `waiting` the ids of requests that have no row yet.

    An engine may read `requests` and `more_requests` in a thread; everything else happens in the caller's. What fails
    before it reaches the engine is put into `unasked`.
    """

    asset: ClassVar[Literal["window_captions", "enhanced_captions"]]

    def __init__(
        self, store: Store, shard: str, session: EngineSession, progress: Progress, source_root: str | None
    ) -> None:
        self.key = session.variant.name
        self.store, self.shard, self.session, self.progress = store, shard, session, progress
        self.buffer: RowBuffer[R] = RowBuffer(store, TABLES[self.asset], shard, self.key)
        self.started = time.perf_counter()
        self.waiting: set[str] = set()
        self.unasked: queue.SimpleQueue[tuple[str, CaptionAssetsError]] = queue.SimpleQueue()
        self._source_root = source_root
        self._starts_it = False
        self._asked = 0

    @abstractmethod
    def requests(self) -> Iterator[Request]:
        """A request for everything that waits, except what ends in `unasked`."""

    def more_requests(self) -> Iterator[Request]:
        """Requests that answers so far have led to; called again and again."""
        return iter(())

    @abstractmethod
    def answer(self, request_id: str, result: Result | CaptionAssetsError) -> R | None:
        """The row of a request, or None where another request is to follow under the same id."""

    @abstractmethod
    def figures(self, good: Sequence[R]) -> Mapping[str, float | int | str]:
        """Figures of the shard's good rows, besides those that every stream has."""

    def clip_name(self, row: R) -> str:
        """A row's clip, as people know it."""
        return row.clip_id

    @property
    def seconds(self) -> float:
        """Seconds that this shard took, beyond what the shards before it took."""
        return time.perf_counter() - self.started

    def wait_for(self, request_ids: Iterable[str], of: int) -> None:
        """What is to be asked, of so many windows; the rows of the others are in the buffer."""
        self.waiting = set(request_ids)
        self._asked = len(self.waiting)
        self.progress.start(self.asset, self.shard, of)
        self.progress.advance(self.asset, self.shard, of - self._asked)

    def engine(self) -> EngineInfo:
        """What runs; begins to start it where that has not been done. Raises ModelError."""
        self._starts_it = self._starts_it or not self.session.started
        return self.session.start()

    def settle(self, request_id: str, result: Result | CaptionAssetsError) -> None:
        """Makes an answer the row that is stored."""
        row = self.answer(request_id, result)
        if row is None:
            return
        self.waiting.discard(request_id)
        self.buffer.add(row)
        self.progress.advance(self.asset, self.shard)
        if row.status != "ok":
            log.warning("%s: none of %s %s_%s: %s", self.asset, self.clip_name(row), *window_key(row)[1:], row.error)

    def finish(self) -> ShardReport:
        """Commits the rows and writes the documents. Raises ShardError, StoreError."""
        table = self.buffer.commit()
        seconds = self.seconds
        render_documents(self.store, self.shard, self._source_root)
        good = [row for row in self.buffer.rows if row.status == "ok"]
        return shard_report(
            self.asset,
            self.shard,
            self.buffer.rows,
            seconds=seconds,
            table=self.store.url(table),
            reused=self.buffer.reused,
            figures={
                "variant": self.key,
                **self._engine_figures(seconds),
                "engine_seconds": round(sum(row.seconds for row in good), 3),
                **self.figures(good),
                "cut_off_texts": sum(row.finish_reason == "length" for row in good),
            },
            samples=[
                Sample(self.clip_name(row), f"{row.start_frame}_{row.end_frame}", row.text or "")
                for row in good[:_SAMPLES]
            ],
        )

    def _engine_figures(self, seconds: float) -> dict[str, float | str]:
        """What ran, what it took to start where this shard did that, and windows a second from when it was ready."""
        checkpoint = self.session.checkpoint
        figures: dict[str, float | str] = {"model": f"{checkpoint.model_id}@{checkpoint.revision}"}
        if not self.session.started:
            return figures
        info = self.session.info
        figures |= {"engine": f"{info.engine} {info.engine_version}", "device": info.device}
        if self._starts_it:
            figures["engine_start_seconds"] = round(self.session.start_seconds, 3)
        if info.notes:
            figures["engine_notes"] = " ".join(info.notes)
        waited = max(0.0, (self.session.ready_at or 0.0) - self.started)
        return figures | windows_per_second(self._asked, seconds - waited)


def stream_shards(
    shards: Sequence[str], open_shard: Callable[[str], ShardStream[R]], session: EngineSession
) -> Outcomes:
    """`(shard, its report or its error)` for every shard, as they end.

    Shards are opened as the engine gets to them. Raises ConfigError and ModelError, which no shard could do better
    with; rows that are made by then are kept.
    """
    opened: dict[str, ShardStream[R]] = {}
    owners: dict[str, ShardStream[R]] = {}
    failed: queue.SimpleQueue[tuple[str, CaptionAssetsError]] = queue.SimpleQueue()
    saved = ExitStack()  # what is answered is saved, whatever happens
    complete: set[str] = set()  # shards of which everything has been asked

    def requests() -> Iterator[Request]:
        for shard in shards:
            try:
                stream = open_shard(shard)
                saved.enter_context(stream.buffer)
                owners.update(dict.fromkeys(stream.waiting, stream))
                opened[shard] = stream
                yield from stream.requests()
                complete.add(shard)
            except (ConfigError, ModelError):
                raise
            except CaptionAssetsError as error:
                failed.put((shard, error))
            yield from more_requests()

    def more_requests() -> Iterator[Request]:
        for stream in list(opened.values()):
            yield from stream.more_requests()

    def ended() -> Outcomes:
        for shard, error in _drain(failed):
            if shard in opened:
                opened.pop(shard).buffer.flush()
            yield shard, error
        for stream in list(opened.values()):
            for request_id, error in _drain(stream.unasked):
                stream.settle(request_id, error)
            if stream.shard in complete and not stream.waiting:
                del opened[stream.shard]
                try:
                    yield stream.shard, stream.finish()
                except CaptionAssetsError as error:
                    yield stream.shard, error
                for other in opened.values():
                    other.started = time.perf_counter()

    with saved:
        asked: Iterator[Request] = requests()
        while True:
            # The engine starts with the first request, and not at all where nothing is left to do.
            first = next(asked, None)
            yield from ended()
            if first is None:
                return
            for result in session.generate(chain([first], asked)):
                stream = owners[result.request_id]
                if stream.shard in opened:
                    stream.settle(result.request_id, result)
                yield from ended()
            yield from ended()
            asked = more_requests()


def _drain(items: "queue.SimpleQueue[tuple[str, CaptionAssetsError]]") -> Iterable[tuple[str, CaptionAssetsError]]:
    while not items.empty():
        yield items.get()
