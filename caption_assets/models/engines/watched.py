"""Calls that may get stuck, in a thread that can be left behind: for an engine that works in this process."""

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from caption_assets.models.engines.base import Pulse

T = TypeVar("T")
_LOOK_S = 1.0


class StuckError(Exception):
    """A call that shows no sign of work any more."""


class Watched:
    """A thread for one call after another, which tell by `beat` that they go on."""

    def __init__(self, most_seconds: float) -> None:
        self._pulse = Pulse(most_seconds)
        self._left_behind = False
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._ends: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        # Begun with the first call, since a process that is forked off has none. Nobody waits for it, also not when
        # the process ends: it may be stuck.
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)

    def beat(self) -> None:
        """To be called by the work. Ends it where nobody waits for it any more."""
        if self._left_behind:
            raise SystemExit
        self._pulse.beat()

    def call(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Raises StuckError where it does not go on; nothing can be called then."""
        if not self._thread.ident:
            self._thread.start()
        self._pulse.beat()
        self._calls.put(work)
        try:
            while True:
                try:
                    result, error = self._ends.get(timeout=max(0.0, min(_LOOK_S, self._pulse.left)))
                    break
                except queue.Empty:
                    if self._pulse.left <= 0:
                        raise StuckError from None
        except BaseException:
            self.leave()
            raise
        if error is not None:
            raise error
        value: T = result
        return value

    def leave(self) -> None:
        """Ends the thread: at its next beat, or now where it does nothing."""
        self._left_behind = True
        self._calls.put(None)

    def _work(self) -> None:
        while (work := self._calls.get()) is not None:
            end: tuple[Any, BaseException | None]
            try:
                end = work(), None
            except BaseException as error:  # the caller's
                end = None, error
            del work
            self._ends.put(end)
            del end
