"""Previews that are made beside a shard's captions, from the same decoding."""

import logging
import time
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor

from caption_assets.errors import CaptionAssetsError
from caption_assets.records import Window
from caption_assets.settings import PreviewSettings
from caption_assets.steps.previews import STEP, Made, ShardPreviews
from caption_assets.steps.report import Ended
from caption_assets.store.snapshot import Stamps

log = logging.getLogger(__name__)


class PreviewsBeside:
    """A shard's previews, written and noted in a thread of their own.

    Neither who asks the engine nor who takes its answers waits for a store: `pending`, `settle` and `complete` are for
    the asking thread, the others for the answering one.
    """

    def __init__(self, previews: ShardPreviews) -> None:
        # Of the writing thread alone once anything is settled, until that has ended.
        self._previews = previews
        self._pending = previews.pending_by_clip()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="previews")
        self._written: list[Future[None]] = []
        self._began = self._ended = 0.0
        self.unchanged: Stamps = {}
        """The table's stamp, once it is finished and as it was."""

    @property
    def settings(self) -> PreviewSettings:
        return self._previews.settings

    @property
    def to_make(self) -> bool:
        """Whether any preview was missing when the shard was opened."""
        return bool(self._pending)

    @property
    def locations(self) -> Collection[str]:
        """Of the clips of which any are to be made."""
        return self._pending.keys()

    def pending(self, location: str) -> tuple[Window, ...]:
        """The windows of a clip that are to be made."""
        self._began = self._began or time.perf_counter()
        return self._pending.get(location, ())

    def settle(self, location: str, made: Made | CaptionAssetsError) -> None:
        """Has what a worker says of a clip stored; returns at once."""
        if location in self._pending:
            self._written = [future for future in self._written if not future.done() or future.exception()]
            self._written.append(self._writer.submit(self._previews.settle, location, made))

    def complete(self) -> None:
        """Everything has been settled: it is made durable now, however long the captions take."""
        self._ended = time.perf_counter()
        self._written.append(self._writer.submit(self._previews.save))
        self._writer.shutdown(wait=False)

    def finish(self, shard: str, seconds: float | None) -> Ended:
        """How the shard ended, once everything is stored. The documents are left to whoever finishes the captions.

        `seconds` are those of captions and previews together; where nothing was captioned, those in which the clips
        were decoded.
        """
        self._writer.shutdown()
        try:
            with STEP.errors_of(shard):
                for written in self._written:
                    written.result()
                decoding = self._ended - self._began if self._began else 0.0  # no clip, none of it
                seconds = decoding if seconds is None else seconds
                done = self._previews.buffer.commit()
                self.unchanged = done.unchanged
                return Ended(STEP.name, shard, self._previews.report(done.location, seconds))
        except CaptionAssetsError as error:
            return self.give_up(shard, error)

    def give_up(self, shard: str, error: CaptionAssetsError) -> Ended:
        """Keeps what there is of a shard that ends with an error."""
        try:
            self.save()
        except Exception as lost:  # the error that ends the shard is the one to tell
            log.error("%s", lost)
        return Ended(STEP.name, shard, error)

    def save(self) -> None:
        """Makes durable what there is."""
        self._writer.shutdown()
        self._previews.save()
