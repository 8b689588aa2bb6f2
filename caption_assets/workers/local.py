"""Worker processes of this machine: clips in, results out, whatever happens to a worker.

Processes and not threads: a decoder that crashes, hangs or eats memory on a broken file takes one process with it,
and that clip gets an error. They are started as plain interpreters, so that neither the state of this process
(threads, locks, CUDA) nor its `__main__` module reaches them. Of Python's own pools, one gives up all work when a
process dies and the other waits for it without end, and both give a task's results together.

On Linux, one such interpreter imports and loads what a run's tasks need, and each worker is forked from it: at once,
and with what it holds in memory that all of them share. Nothing has happened in it by then that a fork could break.
"""

import contextlib
import queue
import resource
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

from caption_assets.errors import CaptionAssetsError, ConfigError
from caption_assets.media.copies import Copies
from caption_assets.media.cores import usable_cores
from caption_assets.media.faults import TimeLimitError
from caption_assets.media.files import Reading
from caption_assets.models.locks import FileLock, try_lock
from caption_assets.settings import DecodeLimits, WorkerSettings
from caption_assets.workers.base import Loads, Task, work_on
from caption_assets.workers.process import CAN_FORK, WorkerProcess

Item = TypeVar("Item")
_END = object()
_GIB = 1 << 30
_KEEP_BYTES = 16 * _GIB
# For what is done with the frames.
_SPARE_SECONDS = 60.0
_COPIES, _LOCK = "caption_assets-copies-", ".lock"


class Workers:
    """Worker processes for all steps of a run, from first use to `close()`; a context manager.

    They start with the first tasks, and stay for the tasks to come. Copies of remote clips are kept in a folder
    that goes with `close()`: for as long as that, a clip is what it was when it was first fetched.

    Calls of `run` and `map_unordered` follow each other, in whatever threads. Where they overlap, each has processes
    of its own, and all together may be more than `processes`.
    """

    def __init__(
        self,
        processes: int | None = None,
        *,
        limits: DecodeLimits | None = None,
        keep_bytes: int = _KEEP_BYTES,
        memory_limit_bytes: int | None = None,
        nice: int = 0,
    ) -> None:
        """`processes`, by default one for each core that this process may use.

        `limits` bound what clips may ask for. Copies of remote clips are kept up to `keep_bytes`. `memory_limit_bytes`
        bounds each process's address space, and `nice` says how far they stand back for others. This process may have
        as many files open afterwards as the system allows it: the usual 1,024 are few for a worker on each of 128
        cores, and a connection for each request to a server.
        """
        _allow_descriptors()
        self.processes = max(1, processes or usable_cores())
        self.start_seconds = 0.0
        self._limits, self._keep_bytes = limits or DecodeLimits(), keep_bytes
        self._memory_limit_bytes, self._nice = memory_limit_bytes or 0, nice
        self._idle: list[WorkerProcess] = []
        # Those that workers are forked from.
        self._origins: list[WorkerProcess] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._mine: FileLock | None = None
        self._lock = threading.Lock()

    @classmethod
    def from_settings(cls, settings: WorkerSettings, nice: int = 0) -> "Workers":
        """The worker processes that a user asks for."""
        limits = DecodeLimits(**settings.model_dump(include=set(DecodeLimits.model_fields)))
        return cls(settings.processes, limits=limits, keep_bytes=round(settings.keep_gib * _GIB), nice=nice)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def reading(self) -> Reading:
        """How clips are read; handed to every task."""
        with self._lock:
            if self._folder is None:
                self._folder, self._mine = _new_folder()
            return Reading(self._limits, Copies(self._folder.name, self._keep_bytes))

    def start(self) -> None:
        """Start now what would start with the first tasks. Raises ConfigError where that fails."""
        with self._lock:
            started = self._origins if CAN_FORK else self._idle
            while len(started) < (1 if CAN_FORK else self.processes):
                started.append(self._new())
            workers = list(started)
        try:
            for worker in workers:
                worker.await_ready()
        except ConfigError:
            self.close()
            raise

    def close(self) -> None:
        """End all processes, and remove the copies."""
        with self._lock:
            processes, self._idle, self._origins = [*self._idle, *self._origins], [], []
            folder, self._folder = self._folder, None
            mine, self._mine = self._mine, None
        for worker in processes:
            worker.kill()
        if folder is not None:
            folder.cleanup()
        if mine is not None:
            mine.close()

    def run(
        self,
        work: Callable[[Task, Reading], Iterator[Any]],
        tasks: Iterable[Task],
        *,
        at_once: int | Callable[[], int] | None = None,
        in_flight: int | None = None,
        loads: Loads | None = None,
    ) -> Iterator[tuple[Task, Any]]:
        """`(task, result)` for everything that `work`, a generator function of a module, yields, as results come.

        As `ClipWorkers.run` has it: by default `at_once` is the number of processes, and `in_flight` is as for
        `map_unordered`. What lies in this process's memory (`memory://`) is invisible to other processes, so such
        clips are worked on here.
        """
        # The largest first: no worker is left with one when the others are done.
        ordered = sorted(tasks, key=lambda task: -task.work)
        here = [task for task in ordered if task.location.startswith("memory:")]
        away = [task for task in ordered if not task.location.startswith("memory:")]
        if away:
            # A clip is read twice, to be probed and decoded. Readers keep to their limit themselves, unless stuck.
            seconds = 2 * self._limits.max_decode_seconds + _SPARE_SECONDS
            function = partial(work_on, work, self.reading)
            yield from self.map_unordered(
                function, away, time_limit_s=seconds, at_once=at_once, in_flight=in_flight, loads=loads
            )
        for task in here:
            try:
                for result in work(task, Reading(self._limits)):
                    yield task, result
            except CaptionAssetsError as error:
                yield task, error

    def map_unordered(
        self,
        function: Callable[[Item], Any],
        items: Iterable[Item],
        *,
        time_limit_s: float = 3600.0,
        at_once: int | Callable[[], int] | None = None,
        in_flight: int | None = None,
        loads: Loads | None = None,
    ) -> Iterator[tuple[Item, Any]]:
        """Call `function` on each item in the workers; yield (item, result) as results come.

        `function` is importable (a module's function, or a partial of one); where it is a generator, each thing that
        it yields is a result. An item that fails yields (item, CaptionAssetsError) last: the function's own error,
        TimeLimitError after `time_limit_s` of work without a result, or WorkerDiedError; the other items go on.
        Results of one item come in order, those of different items mix. `items` is read as workers become free, in a
        thread. At most `at_once` items are worked on at the same time, by what a function says then. A worker loads
        `loads` before its first item; what it would have got goes to another that is free before.

        At most `in_flight` results (by default two a worker) wait for the consumer, besides two in each worker, one
        ready and one in the making: memory does not grow with the number or length of clips. Time in which results
        wait does not count against the limit. Ending the iteration early ends the workers that are busy.
        """
        asked = at_once if callable(at_once) else lambda: at_once or self.processes
        most = partial(_within, self.processes, asked)
        results: queue.Queue[Any] = queue.Queue(maxsize=max(1, in_flight or 2 * most()))
        pump = _Pump(self, function, iter(items), time_limit_s, most, results, loads)
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

    def _take_ready(self, loads: Loads | None) -> WorkerProcess | None:
        """One that works at once, if there is one."""
        with self._lock:
            for worker in reversed(self._idle):
                if worker.is_ready(loads):
                    self._idle.remove(worker)
                    return worker
            for origin in [origin for origin in self._origins if origin.is_ready(loads)]:
                with contextlib.suppress(OSError, EOFError):
                    worker = origin.fork()
                    if self._idle:  # it lacks what is needed now
                        self._idle.pop(0).kill()
                    return worker
                self._origins.remove(origin)
                origin.kill()
        return None

    def _take_any(self) -> WorkerProcess:
        """One that is to load something first."""
        with self._lock:
            return self._idle.pop() if self._idle and not CAN_FORK else self._new()

    def _new(self) -> WorkerProcess:
        return WorkerProcess.start(self._memory_limit_bytes, self._nice)

    def _put_back(self, worker: WorkerProcess) -> None:
        with self._lock:
            if len(self._idle) < self.processes:
                self._idle.append(worker)
                return
        worker.kill()

    def _take_in(self, worker: WorkerProcess) -> None:
        """One that has loaded what it was to."""
        if not CAN_FORK:
            self._put_back(worker)
            return
        with self._lock:
            self._origins.append(worker)


class _Pump(threading.Thread):
    """Hands items to workers and their results to the queue, and watches the clocks."""

    def __init__(
        self,
        workers: Workers,
        function: Callable[[Any], Any],
        items: Iterator[Any],
        time_limit_s: float,
        at_once: Callable[[], int],
        results: "queue.Queue[Any]",
        loads: Loads | None,
    ) -> None:
        super().__init__(name="clip-workers", daemon=True)
        self._workers, self._function, self._items, self._loads = workers, function, items, loads
        self._limit_s, self._at_once, self._results = time_limit_s, at_once, results
        self._waiting: deque[Any] = deque()  # items for whoever is free first
        self._busy: dict[Any, WorkerProcess] = {}  # by channel, as those that get ready
        self._starting: dict[Any, WorkerProcess] = {}
        # Of workers that were killed before they answered: each is tried once more.
        self._tried: list[Any] = []
        self._began = time.monotonic()
        self.stopped = threading.Event()

    def run(self) -> None:
        last: Any = _END
        try:
            self._feed()
            while (self._busy or self._waiting) and not self.stopped.is_set():
                watched = self._busy | self._starting
                nearest = min(worker.deadline for worker in watched.values())
                for ready in wait(list(watched), timeout=min(max(0.0, nearest - time.monotonic()), 1.0)):
                    if ready in self._busy:
                        self._read(self._busy[ready])
                    else:
                        self._await(self._starting[ready])
                now = time.monotonic()
                for worker in [w for w in (*self._busy.values(), *self._starting.values()) if w.deadline < now]:
                    self._lose(worker, late=True)
                self._feed()
        except BaseException as error:  # of the caller's items; it belongs to the consumer
            last = error
        finally:
            for worker in self._busy.values():
                worker.kill()
            for worker in self._starting.values():
                worker.kill()
            self._results.put(last)

    def _feed(self) -> None:
        """Hands items to those that work at once, and has others started for the rest."""
        if self.stopped.is_set():
            return
        with contextlib.suppress(StopIteration):
            while len(self._busy) + len(self._waiting) < self._at_once():
                self._waiting.append(next(self._items))
        while self._waiting and (worker := self._workers._take_ready(self._loads)) is not None:
            try:
                worker.give(self._function, self._waiting[0], self._limit_s)
            except (BrokenPipeError, ConnectionError):  # it died while it was idle
                worker.kill()
                continue
            self._waiting.popleft()
            self._busy[worker.channel] = worker
        while len(self._starting) < (min(len(self._waiting), 1) if CAN_FORK else len(self._waiting)):
            worker = self._workers._take_any()
            try:
                worker.load(self._loads, self._limit_s)
            except (BrokenPipeError, ConnectionError):
                worker.kill()
                continue
            self._starting[worker.channel] = worker

    def _await(self, worker: WorkerProcess) -> None:
        """Takes what one says that gets ready."""
        try:
            kind, _ = worker.channel.receive()
        except (EOFError, OSError):
            self._lose(worker)
            return
        worker.said(kind)
        if worker.is_ready():
            self._workers.start_seconds = self._workers.start_seconds or time.monotonic() - self._began
            del self._starting[worker.channel]
            self._workers._take_in(worker)

    def _read(self, worker: WorkerProcess) -> None:
        try:
            kind, value = worker.channel.receive()
        except (EOFError, OSError):
            self._lose(worker)
            return
        worker.has_answered = True
        if kind == "result":
            self._put(worker.item, value)
            worker.deadline = time.monotonic() + self._limit_s
            worker.go_on()
            return
        if kind == "error":
            self._put(worker.item, value)
        del self._busy[worker.channel]
        self._workers._put_back(worker)

    def _lose(self, worker: WorkerProcess, *, late: bool = False) -> None:
        """Ends a worker, with an error for what it had; for one that was not ready yet, what it would have got."""
        worker.kill()
        if self._starting.pop(worker.channel, None) is None:
            del self._busy[worker.channel]
        elif self._waiting:
            worker.item = self._waiting.popleft()
        else:
            return
        if not late and worker.was_killed and not worker.has_answered and not self._was_tried(worker.item):
            self._tried.append(worker.item)
            self._waiting.appendleft(worker.item)
            return
        if late:
            wrong = f"a worker that had it gave no answer for {self._limit_s:g} s"
            self._put(worker.item, TimeLimitError(str(worker.item)[:200], wrong, "raise max_decode_seconds"))
        else:
            self._put(worker.item, worker.death())

    def _was_tried(self, item: Any) -> bool:
        return any(item is one for one in self._tried)

    def _put(self, item: Any, value: Any) -> None:
        before = time.monotonic()
        self._results.put((item, value))
        waited = time.monotonic() - before
        for worker in (*self._busy.values(), *self._starting.values()):
            worker.deadline += waited


def _within(most: int, asked: Callable[[], int]) -> int:
    return max(1, min(asked(), most))


def _allow_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _new_folder() -> tuple[tempfile.TemporaryDirectory[str], FileLock | None]:
    """A folder for copies, and the lock that says that its process lives. Those of processes that were killed go."""
    folder = tempfile.TemporaryDirectory(prefix=_COPIES, ignore_cleanup_errors=True)
    with contextlib.suppress(OSError):
        for path in Path(tempfile.gettempdir()).glob(f"{_COPIES}*"):
            # One without a lock file has just been made.
            if path != Path(folder.name) and (path / _LOCK).exists():
                with contextlib.suppress(OSError), contextlib.ExitStack() as held:
                    if (abandoned := try_lock(path / _LOCK)) is not None:
                        held.enter_context(abandoned)
                        shutil.rmtree(path, ignore_errors=True)
        return folder, try_lock(Path(folder.name) / _LOCK)
    return folder, None
