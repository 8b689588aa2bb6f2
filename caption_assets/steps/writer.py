"""Files on their way to the store."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from caption_assets.errors import StoreError
from caption_assets.store.store import Store


class FileWriter:
    """Writes files durably, several at once where that is what a place is good at. For one thread at a time.

    What is to follow a file is done when it is there, in the thread that asks, in the order of the files. A file that
    cannot be written is told (StoreError) by the next `add` or by `finish`, and costs no other.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._threads: ThreadPoolExecutor | None = None
        self._writing: deque[tuple[Future[None], Callable[[], None]]] = deque()

    def add(self, rel: str, data: bytes, then: Callable[[], None] = lambda: None) -> None:
        """A file, and what is to follow."""
        at_once = self._store.at_once
        if at_once == 1:
            self._store.write_bytes(rel, data)
            then()
            return
        self._threads = self._threads or ThreadPoolExecutor(at_once, thread_name_prefix="files")
        self._writing.append((self._threads.submit(self._store.write_bytes, rel, data), then))
        while self._writing and (self._writing[0][0].done() or len(self._writing) > 2 * at_once):
            self._follow()

    def finish(self) -> None:
        """Waits for all files. Raises StoreError for the first that could not be written, when the others are."""
        failed: StoreError | None = None
        while self._writing:
            try:
                self._follow()
            except StoreError as error:
                failed = failed or error
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
        if failed is not None:
            raise failed

    def _follow(self) -> None:
        written, then = self._writing.popleft()
        written.result()
        then()
