"""A bounded pool of worker processes: clips in, results out, whatever happens to a worker.

Processes and not threads: a decoder that crashes, hangs or eats memory on a broken file takes one process with it,
and that clip gets an error. They are started as plain interpreters, so that neither the state of this process
(threads, locks, CUDA) nor its `__main__` module reaches them.
"""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from caption_assets.errors import CaptionAssetsError, ConfigError
from caption_assets.media.faults import TimeLimitError, WorkerDiedError
from caption_assets.workers.transport import Channel

Item = TypeVar("Item")
_END = object()
_START_SECONDS = 120.0
_START = """
import sys
sys.path[:] = {path!r}
from caption_assets.workers.main import main
main({descriptor}, {memory})
"""


class _Worker:
    """One process and what it is doing."""

    def __init__(self, memory_limit_bytes: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            start = _START.format(path=sys.path, descriptor=theirs.fileno(), memory=memory_limit_bytes)
            self.process = subprocess.Popen(
                [sys.executable, "-c", start], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        self.channel = Channel(Connection(ours.detach()))
        self.item: Any = None
        self.ready = False
        self.deadline = 0.0

    def give(self, function: Callable[[Any], Any], item: Any, time_limit_s: float) -> None:
        # A new process needs its imports first; its clock starts anew when it says that it is ready.
        self.item = item
        self.deadline = time.monotonic() + time_limit_s + (0.0 if self.ready else _START_SECONDS)
        self.channel.send((function, item))

    def await_ready(self) -> None:
        if self.ready:
            return
        try:
            self.channel.receive()
        except (EOFError, OSError) as error:
            self.kill()
            raise ConfigError(
                "worker processes",
                f"one ended while it started, with status {self.process.returncode}",
                "its own message is on standard error",
            ) from error
        self.ready = True

    def go_on(self) -> None:
        """Its last result has been taken."""
        with contextlib.suppress(OSError):  # it died; that is seen when it is read from
            self.channel.send(None)

    def kill(self) -> None:
        """End the process at once; its decoder may be in the middle of anything."""
        self.channel.close()
        self.process.kill()
        self.process.wait()


class WorkerPool:
    """Worker processes that live from first use to `close()`; a context manager. Not to be shared by threads."""

    def __init__(self, workers: int | None = None, *, memory_limit_bytes: int | None = None) -> None:
        """`workers` processes, by default one a core. `memory_limit_bytes` bounds each one's address space."""
        self.workers = max(1, workers or os.cpu_count() or 1)
        self._memory_limit_bytes = memory_limit_bytes or 0
        self._idle: list[_Worker] = []

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the processes now, and not with the first items. Raises ConfigError where they do not start."""
        while len(self._idle) < self.workers:
            self._idle.append(_Worker(self._memory_limit_bytes))
        try:
            for worker in self._idle:
                worker.await_ready()
        except ConfigError:
            self.close()
            raise

    def close(self) -> None:
        """End all processes."""
        while self._idle:
            self._idle.pop().kill()

    def run(
        self,
        function: Callable[[Item], Any],
        items: Iterable[Item],
        *,
        time_limit_s: float = 3600.0,
        in_flight: int | None = None,
    ) -> Iterator[tuple[Item, Any]]:
        """Call `function` on each item in the workers; yield (item, result) as results come.

        `function` is importable (a module's function, or a partial of one); where it is a generator, each thing that
        it yields is a result. An item that fails yields (item, CaptionAssetsError) last: the function's own error,
        TimeLimitError after `time_limit_s` of work without a result, or WorkerDiedError; the other items go on.
        Results of one item come in order, those of different items mix. `items` is read as workers become free, in a
        thread.

        At most `in_flight` results (by default two a worker) wait for the consumer, besides two in each worker, one
        ready and one in the making: memory does not grow with the number or length of clips. Time in which results
        wait does not count against the limit. Ending the iteration early ends the workers that are busy.
        """
        results: queue.Queue[Any] = queue.Queue(maxsize=max(1, in_flight or 2 * self.workers))
        pump = _Pump(self, function, iter(items), time_limit_s, results)
        pump.start()
        try:
            while (entry := results.get()) is not _END:
                if isinstance(entry, BaseException):
                    raise entry
                yield entry
                del entry
        finally:
            pump.stopped.set()
            while pump.is_alive():  # it may be waiting for room
                try:
                    results.get(timeout=0.05)
                except queue.Empty:
                    continue
            pump.join()

    def _take(self) -> _Worker:
        return self._idle.pop() if self._idle else _Worker(self._memory_limit_bytes)

    def _put_back(self, worker: _Worker) -> None:
        self._idle.append(worker)


class _Pump(threading.Thread):
    """Hands items to workers and their results to the queue, and watches the clocks."""

    def __init__(
        self,
        pool: WorkerPool,
        function: Callable[[Any], Any],
        items: Iterator[Any],
        time_limit_s: float,
        results: "queue.Queue[Any]",
    ) -> None:
        super().__init__(name="media-workers", daemon=True)
        self._pool, self._function, self._items = pool, function, items
        self._limit_s, self._results = time_limit_s, results
        self._busy: dict[Any, _Worker] = {}  # by channel
        self.stopped = threading.Event()

    def run(self) -> None:
        last: Any = _END
        try:
            self._feed()
            while self._busy and not self.stopped.is_set():
                nearest = min(worker.deadline for worker in self._busy.values())
                for ready in wait(list(self._busy), timeout=min(max(0.0, nearest - time.monotonic()), 1.0)):
                    self._read(self._busy[ready])
                now = time.monotonic()
                for worker in [w for w in self._busy.values() if w.deadline < now]:
                    self._retire(worker)
                    wrong = f"a worker that had it gave no answer for {self._limit_s:g} s"
                    self._put(
                        worker.item,
                        TimeLimitError(str(worker.item)[:200], wrong, "raise max_decode_seconds"),
                    )
                self._feed()
        except BaseException as error:  # of the caller's items; it belongs to the consumer
            last = error
        finally:
            for worker in list(self._busy.values()):
                self._retire(worker)
            self._results.put(last)

    def _feed(self) -> None:
        while len(self._busy) < self._pool.workers and not self.stopped.is_set():
            try:
                item = next(self._items)
            except StopIteration:
                return
            worker = self._pool._take()
            try:
                worker.give(self._function, item, self._limit_s)
            except (BrokenPipeError, ConnectionError):  # it died while it was idle
                worker.kill()
                worker = self._pool._take()
                worker.give(self._function, item, self._limit_s)
            self._busy[worker.channel] = worker

    def _read(self, worker: _Worker) -> None:
        try:
            kind, value = worker.channel.receive()
        except (EOFError, OSError):
            self._retire(worker)
            self._put(worker.item, _death(worker))
            return
        if kind == "ready":
            worker.ready, worker.deadline = True, time.monotonic() + self._limit_s
            return
        if kind == "result":
            self._put(worker.item, value)
            worker.deadline = time.monotonic() + self._limit_s
            worker.go_on()
            return
        if kind == "error":
            self._put(worker.item, value)
        del self._busy[worker.channel]
        self._pool._put_back(worker)

    def _retire(self, worker: _Worker) -> None:
        del self._busy[worker.channel]
        worker.kill()

    def _put(self, item: Any, value: Any) -> None:
        before = time.monotonic()
        self._results.put((item, value))
        waited = time.monotonic() - before
        for worker in self._busy.values():
            worker.deadline += waited


def _death(worker: _Worker) -> CaptionAssetsError:
    status = worker.process.returncode
    how = signal.Signals(-status).name if status is not None and status < 0 else f"status {status}"
    return WorkerDiedError(
        str(worker.item)[:200],
        f"the worker process that had it ended ({how})",
        "the decoder crashed on it, or the machine ran out of memory",
    )


def run(
    function: Callable[[Item], Any],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    time_limit_s: float = 3600.0,
    in_flight: int | None = None,
    memory_limit_bytes: int | None = None,
) -> Iterator[tuple[Item, Any]]:
    """`WorkerPool.run` with a pool of its own. Starting a worker takes about half a second: keep a pool for more."""
    with WorkerPool(workers, memory_limit_bytes=memory_limit_bytes) as pool:
        yield from pool.run(function, items, time_limit_s=time_limit_s, in_flight=in_flight)
