"""Requests that are read while an engine starts, so that it has work as soon as it is ready."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Self

from caption_assets.models.requests import Request

_MOST_REQUESTS = 1024


class ReadAhead:
    """Goes through `requests` once. While this context is entered, up to `most_bytes` of them are read in a thread.

    An error of theirs comes after those that were read before it.
    """

    def __init__(self, requests: Iterable[Request], most_bytes: int) -> None:
        self._requests, self._most_bytes = iter(requests), most_bytes
        self._read: deque[Request] = deque()
        self._error: BaseException | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="read-ahead", daemon=True)
        if most_bytes:
            self._thread.start()

    def __iter__(self) -> Iterator[Request]:
        return self

    def __next__(self) -> Request:
        if not self._read and self._thread.ident:
            self._thread.join()  # not earlier: what makes the next one may wait for the answers to those before it
        if self._read:
            return self._read.popleft()
        if self._error is not None:
            raise self._error
        return next(self._requests)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """From now on, whoever takes the requests reads them."""
        self._stopped.set()

    def _work(self) -> None:
        num_bytes = 0
        while not self._stopped.is_set() and num_bytes < self._most_bytes and len(self._read) < _MOST_REQUESTS:
            try:
                request = next(self._requests)
            except BaseException as error:  # of the caller's requests, or their end
                self._error = error
                return
            num_bytes += request.size
            self._read.append(request)
            del request
