"""One shard on its way through an engine, as the threads of `streams` work on it."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Generic, Protocol, TypeVar

from caption_assets.errors import CaptionAssetsError
from caption_assets.models.engines.base import EngineInfo
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.requests import Request, Result
from caption_assets.steps.answers import confidence_figures
from caption_assets.steps.buffer import RowBuffer
from caption_assets.steps.context import StepContext
from caption_assets.steps.documents import render_documents
from caption_assets.steps.findings import JudgedRow, findings_figures, keep_findings
from caption_assets.steps.report import Ended, Sample, ShardReport, Step, Used, shard_report, windows_per_second
from caption_assets.steps.samples import Findings
from caption_assets.store.rows import CaptionRow, EnhancedRow, FindingRow, WindowKey, window_key
from caption_assets.store.snapshot import Stamps

log = logging.getLogger(__name__)


class Stream(Protocol):
    """What `streams` works on: a `ShardStream`, or several of a shard together. See there for what is whose."""

    shard: str
    unasked: Callable[[str, CaptionAssetsError], None]
    ended: bool
    waiting: set[str]

    @property
    def works_beside(self) -> bool: ...

    def requests(self) -> Iterator[Request]: ...

    def more_requests(self) -> Iterator[Request]: ...

    def settle(self, request_id: str, result: Result | CaptionAssetsError) -> None: ...

    def finish(self) -> Iterator[Ended]: ...

    def give_up(self, error: CaptionAssetsError) -> Iterator[Ended]: ...

    def save(self) -> None: ...


R = TypeVar("R", CaptionRow, EnhancedRow)


class ShardStream(ABC, Generic[R]):
    """One shard on its way: rows in `buffer`, and in `waiting` the ids of requests that have no row yet.

    `requests` and `more_requests` run in the asking thread, and hand what fails before it reaches the engine to
    `unasked`. A stream is made in a thread of its own, and finished in another: neither of the two others waits for a
    store. Everything else runs in the answering thread.
    """

    step: ClassVar[Step]

    def __init__(
        self,
        context: StepContext,
        shard: str,
        session: EngineSession,
        of: str | None = None,
        key: str | None = None,
    ) -> None:
        """`of` is the key of the captions that are enhanced, `key` that of the texts, by default the model's."""
        # Of both threads, and never changed.
        self.context, self.shard, self.session = context, shard, session
        self.key = key or session.variant.name
        self.table_key = self.key if of is None else f"{of}/{self.key}"
        self.input_versions: Mapping[str, str] = {}
        # The stamps of the tables that were read, and written beside: see `render_documents`.
        self.unchanged: list[Stamps] = []
        # Set by the stream that the shard belongs to, before anything is asked.
        self.unasked: Callable[[str, CaptionAssetsError], None]
        # Of the asking thread.
        self._starts_engine = False
        # Set in the answering thread, and read by both.
        self.ended = False
        # Of the answering thread.
        self.buffer: RowBuffer[R] = RowBuffer(context.store, self.step.table, shard, self.table_key)
        self.waiting: set[str] = set()
        self._asked = 0
        # The windows of what is asked, and the bytes of the clips that are opened for it.
        self.asked: set[WindowKey] = set()
        self.bytes_read = 0
        # Its share of the engine's time, and that of the stores that it was read from and written to.
        self._engine_seconds = self._store_seconds = 0.0
        self._opened_at = time.perf_counter()

    def requests(self) -> Iterator[Request]:
        """A request for everything that waits, except what is handed to `unasked`."""
        return iter(())

    @property
    def works_beside(self) -> bool:
        """Whether `requests` does other work on its way, also where it has nothing to ask."""
        return False

    def more_requests(self) -> Iterator[Request]:
        """Requests that answers so far have led to; called again and again."""
        return iter(())

    @abstractmethod
    def answer(self, request_id: str, result: Result | CaptionAssetsError) -> R:
        """The row of a request."""

    @abstractmethod
    def samples(self, good: Sequence[R], findings: Findings) -> list[Sample]:
        """Some of the good rows, for people to look at."""

    @abstractmethod
    def figures(self, good: Sequence[R]) -> Mapping[str, float | int | str]:
        """Figures of the shard's good rows, besides those that every stream has."""

    @abstractmethod
    def judged(self, row: R) -> JudgedRow:
        """A good row's text as the rules see it."""

    @abstractmethod
    def clip_name(self, row: R) -> str:
        """A row's clip, as people know it."""

    def wait_for(self, request_ids: Iterable[str], of: int) -> None:
        """What is to be asked, of so many windows; the rows of the others are in the buffer."""
        self.expect(request_ids)
        self.context.progress.start(self.step.name, self.shard, of, reused=of - self._asked)

    def expect(self, request_ids: Iterable[str]) -> None:
        """The same where somebody else tells how it gets on."""
        self.waiting = set(request_ids)
        self._asked = len(self.waiting)
        self._store_seconds = time.perf_counter() - self._opened_at

    def withdraw(self, request_id: str) -> None:
        """It is not asked after all: its window's row is there."""
        self.waiting.discard(request_id)
        self._asked -= 1

    def start_engine(self) -> EngineInfo:
        """Begins to start the engine where that has not been done; says what runs. Raises ModelError."""
        self._starts_engine = self._starts_engine or not self.session.started
        return self.session.start()

    def settle(self, request_id: str, result: Result | CaptionAssetsError) -> None:
        """Makes an answer the row that is stored."""
        self.keep(request_id, self.answer(request_id, result))
        self.context.progress.advance(self.step.name, self.shard)

    def keep(self, request_id: str, row: R) -> None:
        """Stores the row of a request."""
        self._engine_seconds += row.seconds
        self.waiting.discard(request_id)
        self.buffer.add(row)
        self.context.progress.answered(self.step.name, self.shard, row)
        if row.status != "ok":
            name = self.clip_name(row)
            of = f"{self.step.name} {self.table_key}"
            log.warning("%s: none of %s %s_%s: %s", of, name, *window_key(row)[1:], row.error)

    def finish(self) -> Iterator[Ended]:
        """Commits the rows, judges the texts, writes the documents and says how the shard ended. Raises StoreError."""
        yield Ended(self.step.name, self.shard, self._finished(), self.table_key)

    def give_up(self, error: CaptionAssetsError) -> Iterator[Ended]:
        """Keeps what there is of a shard that ends with an error."""
        try:
            self.buffer.flush()
        except Exception as lost:  # the error that ends the shard is the one to tell
            log.error("%s", lost)
        yield Ended(self.step.name, self.shard, error, self.table_key)

    def save(self) -> None:
        """Makes durable what there is, when everything is broken off."""
        self.buffer.flush()

    @property
    def seconds(self) -> float:
        """What the shard took of the run's time. Those of all shards, and the engine's start, come to the whole.

        Shards are in the engine together, so that no clock tells it. Reading and writing tables goes on beside the
        engine, and counts where nothing was asked of it.
        """
        return self._engine_seconds if self._asked else self._store_seconds

    def _finished(self) -> ShardReport | CaptionAssetsError:
        try:
            with self.step.errors_of(self.shard):
                began = time.perf_counter()
                done = self.buffer.commit()
                good = [row for row in self.buffer.rows if row.status == "ok"]
                findings = keep_findings(self.context, self.shard, [self.judged(row) for row in good])
                render_documents(self.context, self.shard, [*self.unchanged, done.unchanged])
                self._store_seconds += time.perf_counter() - began
                return self._report(done.location, good, findings)
        except CaptionAssetsError as error:
            return error

    def _report(self, location: str, good: Sequence[R], findings: Sequence[FindingRow]) -> ShardReport:
        return shard_report(
            self.step,
            self.shard,
            self.buffer.rows,
            key=self.table_key,
            seconds=self.seconds,
            location=location,
            input_versions=self.input_versions,
            reused=self.buffer.reused,
            figures={
                **self._engine_figures(),
                **windows_per_second(self._asked, self.seconds),
                **self.figures(good),
                **confidence_figures(good),
                **findings_figures(findings),
                "cut_off_texts": sum(row.finish_reason == "length" for row in good),
            },
            used=self._used(),
            flagged=[window_key(row) for row in findings if row.severity == "error"],
            samples=self.samples(good, {window_key(row): row.rules for row in findings}),
        )

    def _used(self) -> Used:
        """What was asked for in this run, and what that took."""
        made = [row for row in self.buffer.rows if window_key(row) in self.asked]
        tokens = (sum(getattr(row, f"{of}_tokens") or 0 for row in made) for of in ("prompt", "cached", "output"))
        return Used(self._asked, self.bytes_read, *tokens)

    def _engine_figures(self) -> dict[str, float | str]:
        """What ran, and what it took to start where this shard did that."""
        author = self.session.author()
        figures: dict[str, float | str] = {"model": f"{author.model_id}@{author.revision}".removesuffix("@")}
        if author.server_model:
            figures["server_model"] = author.server_model
        if not self.session.started:
            return figures
        info = self.session.info
        figures |= {"engine": f"{info.engine} {info.engine_version}", "device": info.device}
        if self._starts_engine:
            figures["engine_start_seconds"] = round(self.session.start_seconds, 3)
        if info.notes:
            figures["engine_notes"] = " ".join(info.notes)
        return figures
