"""Files on their way to the store."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from caption_assets.errors import StoreError
from caption_assets.store.store import Store

# Files that wait until it has been announced that they come: on an object store, a request for many.
_MOST_HELD = 256
_MOST_HELD_BYTES = 64 << 20
Then = Callable[[], None]


class FileWriter:
    """Writes files durably, several at once where that is what a place is good at. For one thread at a time.

    What is to follow a file is done when it is there, in the thread that asks, in the order of the files. A file that
    cannot be written is told (StoreError) by the next `add` or by `finish`, and costs no other.
    """

    def __init__(self, store: Store, announce: Callable[[Sequence[str]], None] = lambda rels: None) -> None:
        """`announce` notes, before any of them is written, which files may come to be."""
        self._store, self._announce = store, announce
        self._expected: list[str] = []
        self._held: list[tuple[str, bytes, Then]] = []
        self._threads: ThreadPoolExecutor | None = None
        self._writing: deque[tuple[Future[None], Then]] = deque()

    def expect(self, rels: Sequence[str]) -> None:
        """Has these announced before the next file is written."""
        self._expected += rels

    def add(self, rel: str, data: bytes, then: Then = lambda: None) -> None:
        """A file, and what is to follow."""
        self._held.append((rel, data, then))
        is_full = len(self._held) >= _MOST_HELD or sum(len(data) for _, data, _ in self._held) >= _MOST_HELD_BYTES
        if is_full or not self._expected or self._store.looks_cost_nothing:
            self._release()
        while self._writing and (self._writing[0][0].done() or len(self._writing) > 2 * self._store.at_once):
            self._follow()

    def finish(self) -> None:
        """Waits for all files. Raises StoreError for the first that could not be written, when the others are."""
        self._release()
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

    def _release(self) -> None:
        expected, self._expected = self._expected, []
        held, self._held = self._held, []
        if expected and held:
            self._announce(expected)
        for rel, data, then in held:
            if self._store.looks_cost_nothing:
                self._store.write_bytes(rel, data)
                then()
                continue
            self._threads = self._threads or ThreadPoolExecutor(self._store.at_once, thread_name_prefix="files")
            self._writing.append((self._threads.submit(self._store.write_bytes, rel, data), then))

    def _follow(self) -> None:
        written, then = self._writing.popleft()
        written.result()
        then()
