"""Requests between the thread that feeds vLLM and the one that takes its answers."""

import queue
import threading
from concurrent.futures import Future
from typing import Any

from caption_assets.models.engines.base import EngineStuckError, Pulse
from caption_assets.models.requests import Request

_LOOK_S = 1.0
END = object()
"""What `Flight.answers` ends with, once all requests have been fed and have landed."""


class Flight:
    """The requests that are on their way, bounded by their bytes; at least one always may.

    `answers` holds their results, an error that ends them all, or END. `pulse` is that of the engine that has them.
    """

    def __init__(self, most_bytes: int, pulse: Pulse) -> None:
        self.answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._pulse = pulse
        self._most, self._bytes = most_bytes, 0
        self._open: dict[str, int] = {}
        self._tasks: dict[str, Future[None]] = {}
        self._fed = self._stopped = False
        self._change = threading.Condition()

    def take_off(self, request: Request) -> bool:
        """Waits until there is room for the request; False where none is wanted any more."""
        with self._change:
            while self._open and self._bytes + request.num_bytes > self._most and not self._stopped:
                self._change.wait()
            if self._stopped:
                return False
            if not self._open:
                self._pulse.beat()  # it had nothing to do
            self._open[request.request_id] = request.num_bytes
            self._bytes += request.num_bytes
            return True

    def next_answer(self) -> Any:
        """What comes next in `answers`. Raises EngineStuckError where the engine has requests and does not go on."""
        while True:
            try:
                return self.answers.get(timeout=max(0.0, min(_LOOK_S, self._pulse.left)))
            except queue.Empty:
                if self._pulse.left <= 0 and (ids := self.ids()):
                    raise EngineStuckError.after(self._pulse.most_seconds, "vllm", ids) from None

    def track(self, request: Request, task: "Future[None]") -> None:
        with self._change:
            self._tasks[request.request_id] = task

    def landed(self, request_id: str) -> None:
        with self._change:
            self._pulse.beat()
            self._tasks.pop(request_id, None)
            self._bytes -= self._open.pop(request_id)
            self._change.notify_all()
            self._end_if_empty()

    def finish(self) -> None:
        """All requests have been fed."""
        with self._change:
            self._fed = True
            self._end_if_empty()

    def stop(self) -> None:
        with self._change:
            self._stopped = True
            self._change.notify_all()

    def cancel(self) -> None:
        """Takes back what nobody waits for any more."""
        for task in self._tasks.values():
            task.cancel()

    def ids(self) -> frozenset[str]:
        with self._change:
            return frozenset(self._open)

    def _end_if_empty(self) -> None:
        if self._fed and not self._open:
            self.answers.put(END)
