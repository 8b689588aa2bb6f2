"""How long an engine has had its GPUs, and how long it had work for them."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds times GPUs: `held_s` from a lease to its end, `busy_s` of these with the model loaded and a request at
    hand. `starts` are those of the engine, by which a device is held that is no GPU, too: several that start together
    are one, and each that is started again is one more. `requests` are at hand now, which have `num_bytes`."""

    held_s: float = 0.0
    busy_s: float = 0.0
    starts: int = 0
    requests: int = 0
    num_bytes: int = 0


class Meter:
    """Of one engine, over all its starts. For several threads. Times are those of `clock`, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._gpus = self._at_hand = self._num_bytes = self._starts = 0
        self._held_s = self._busy_s = 0.0
        self._is_ready = False
        self._at = clock()

    def take(self, gpus: int, since: float | None) -> None:
        """An engine has been started, which has so many GPUs since a time of the clock; None is now."""
        with self._lock:
            self._go_on()
            self._gpus, self._starts, self._is_ready = gpus, self._starts + 1, False
            if since is not None:
                self._held_s += gpus * max(0.0, self._at - since)

    def ready(self) -> None:
        """The engine has loaded its model."""
        with self._lock:
            self._go_on()
            self._is_ready = True

    def give_back(self) -> None:
        """The GPUs are somebody else's."""
        with self._lock:
            self._go_on()
            self._gpus = 0

    def enter(self, num_bytes: int = 0) -> None:
        """One more request is at hand."""
        with self._lock:
            self._go_on()
            self._at_hand += 1
            self._num_bytes += num_bytes

    def leave(self, num_bytes: int = 0) -> None:
        """One of them has its answer."""
        with self._lock:
            self._go_on()
            self._at_hand -= 1
            self._num_bytes -= num_bytes

    @property
    def usage(self) -> Usage:
        """By now."""
        with self._lock:
            self._go_on()
            return Usage(self._held_s, self._busy_s, self._starts, self._at_hand, self._num_bytes)

    def _go_on(self) -> None:
        before, self._at = self._at, self._clock()
        spent = self._gpus * (self._at - before)
        self._held_s += spent
        self._busy_s += spent if self._at_hand and self._is_ready else 0.0
