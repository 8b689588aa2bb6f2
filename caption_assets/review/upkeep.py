"""Keeps files up to date with what people say, beside the server: nobody who judges waits for it."""

import logging
import threading
from collections.abc import Callable, Iterable

from caption_assets.errors import CaptionAssetsError
from caption_assets.review.render import render_index, render_shard_page
from caption_assets.store.store import Store

log = logging.getLogger(__name__)
_GATHER_SECONDS = 1.0


class Upkeep:
    """Renders the documents and the page of a shard soon after something was said of it, and the index. A context
    manager, which has all done that is due before it ends.

    `documents` renders a shard's documents, which edited texts go into. Nothing is lost where the process dies first:
    verdicts are tables' rows by then, and whoever renders next, be it the next server, finds them there.
    """

    def __init__(self, store: Store, documents: Callable[[str], None], shards: Iterable[str] = ()) -> None:
        self._store, self._documents = store, documents
        self._pages, self._judged = set(shards), set[str]()
        self._due, self._ending = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="review-upkeep", daemon=True)

    def __enter__(self) -> "Upkeep":
        self._due.set()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._due.set()
        self._thread.join()

    def changed(self, shard: str) -> None:
        """Something was said of a shard."""
        with self._lock:
            self._judged.add(shard)
        self._due.set()

    def _run(self) -> None:
        while True:
            self._due.wait()
            ending = self._ending.wait(_GATHER_SECONDS)  # what is said meanwhile goes into the same files
            self._due.clear()
            with self._lock:
                judged, self._judged = self._judged, set()
                pages, self._pages = self._pages | judged, set()
            for shard in sorted(pages):
                if not (ending and shard not in judged):
                    self._render(shard, judged=shard in judged)
            if pages:
                self._try(lambda: render_index(self._store))
            if ending and not self._judged:
                return

    def _render(self, shard: str, *, judged: bool) -> None:
        if judged:
            self._try(lambda: self._documents(shard))
        self._try(lambda: render_shard_page(self._store, shard))

    def _try(self, render: Callable[[], object]) -> None:
        try:
            render()
        except CaptionAssetsError as error:
            log.error("%s", error)
