"""How the time of a run is shared out among the requests that an engine had meanwhile."""

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Shares(Protocol):
    """Each request's share of the time; all of them together come to the time that has passed."""

    def wait(self) -> None:
        """The engine is about to read a request."""

    def enter(self, request_id: str) -> None:
        """It has read this one."""

    def leave(self, request_id: str, seconds: float) -> float:
        """It has answered, after `seconds` by its own account. Returns the share, in seconds."""


class SideBySide:
    """Of an engine that has many requests at work at once, each for a time of its own.

    While it has n of them, each takes an n-th of the time; the time in which it has none is the next one's. For
    several threads.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._at = clock()
        # What a request that was there from the beginning would have taken by now.
        self._taken = self._idle = 0.0
        self._entered: dict[str, float] = {}

    def wait(self) -> None:
        """Nothing: the others are at work."""

    def enter(self, request_id: str) -> None:
        with self._lock:
            self._go_on()
            self._entered[request_id] = self._taken - self._idle
            self._idle = 0.0

    def leave(self, request_id: str, seconds: float) -> float:
        with self._lock:
            self._go_on()
            return self._taken - self._entered.pop(request_id, self._taken)

    def _go_on(self) -> None:
        before, self._at = self._at, self._clock()
        if self._entered:
            self._taken += (self._at - before) / len(self._entered)
        else:
            self._idle += self._at - before


class InBatches:
    """Of an engine that works on batches, one after the other, and knows what each request took: that, and the time in
    which the engine stood still for it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waits_since = 0.0
        self._waited: dict[str, float] = {}

    def wait(self) -> None:
        self._waits_since = self._clock()

    def enter(self, request_id: str) -> None:
        self._waited[request_id] = self._clock() - self._waits_since

    def leave(self, request_id: str, seconds: float) -> float:
        return self._waited.pop(request_id, 0.0) + seconds
