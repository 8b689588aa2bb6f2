"""Previews that are made beside a shard's captions, from the same decoding."""

from concurrent.futures import Future, ThreadPoolExecutor

from caption_assets.errors import CaptionAssetsError
from caption_assets.records import Window
from caption_assets.settings import PreviewSettings
from caption_assets.steps.previews import STEP, Made, ShardPreviews
from caption_assets.steps.report import Ended


class PreviewsBeside:
    """A shard's previews, written and noted in a thread of their own.

    Neither who asks the engine nor who takes its answers waits for a store: `pending` and `settle` are for the asking
    thread, the others for the answering one.
    """

    def __init__(self, previews: ShardPreviews) -> None:
        # Of the writing thread alone once anything is settled, until that has ended.
        self._previews = previews
        self._pending = previews.pending_by_clip()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="previews")
        self._written: list[Future[None]] = []

    @property
    def settings(self) -> PreviewSettings:
        return self._previews.settings

    def pending(self, location: str) -> tuple[Window, ...]:
        """The windows of a clip that are to be made."""
        return self._pending.get(location, ())

    def settle(self, location: str, made: Made | CaptionAssetsError) -> None:
        """Has what a worker says of a clip stored; returns at once."""
        if location in self._pending:
            self._written = [future for future in self._written if not future.done() or future.exception()]
            self._written.append(self._writer.submit(self._previews.settle, location, made))

    def finish(self, shard: str, seconds: float) -> Ended:
        """How the shard ended in so many seconds, which are also its captions', once everything is stored.

        The documents are left to whoever finishes the captions.
        """
        try:
            self._writer.shutdown()
            for written in self._written:
                written.result()
            return Ended(STEP.name, shard, self._previews.report(self._previews.commit(), seconds))
        except CaptionAssetsError as error:
            return Ended(STEP.name, shard, error)

    def give_up(self, shard: str, error: CaptionAssetsError) -> Ended:
        """Keeps what there is of a shard that ends with an error."""
        self.save()
        return Ended(STEP.name, shard, error)

    def save(self) -> None:
        """Makes durable what there is."""
        self._writer.shutdown()
        self._previews.buffer.flush()
