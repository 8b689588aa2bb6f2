"""One worker process, as the process that started it sees it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Protocol

from caption_assets.errors import ConfigError
from caption_assets.media.faults import WorkerDiedError
from caption_assets.workers.base import Loads
from caption_assets.workers.transport import Channel

CAN_FORK = sys.platform == "linux"
"""Whether further workers are forked from one that has loaded what they need."""
FORK, END = "fork", "end"
"""In place of a function: it is to fork itself, with a descriptor to come; it is to end one that it has forked."""

_START_SECONDS = 120.0
# The cores are shared out among the workers already; and threads are what a fork leaves behind.
_ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1"),
    "TOKENIZERS_PARALLELISM": "false",
}
_START = """
import sys
sys.path[:] = {path!r}
from {module} import main
main({arguments})
"""


def start_process(module: str, *arguments: Any, **options: Any) -> tuple["subprocess.Popen[bytes]", Channel]:
    """A new interpreter that calls `main` of a module with the descriptor of its end of the channel, and `arguments`.

    `options` are those of `subprocess.Popen`.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        given = ", ".join(map(repr, [theirs.fileno(), *arguments]))
        command = [sys.executable, "-c", _START.format(path=sys.path, module=module, arguments=given)]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, **options)
    return process, Channel(Connection(ours.detach()))


def load(loads: Loads) -> None:
    """In a worker: load it."""
    loads.load()


class Process(Protocol):
    """What ends a worker, and then says how it ended: an exit status, or the number of a signal, less than 0."""

    @property
    def returncode(self) -> int | None: ...

    def kill(self) -> None: ...

    def wait(self) -> int: ...


class WorkerProcess:
    """One process and what it is doing."""

    def __init__(self, process: Process, channel: Channel, loaded: Loads | None = None, awaited: int = 0) -> None:
        """`awaited` is how much it will say before it is ready, and has `loaded` that then."""
        self.process, self.channel = process, channel
        self.item: Any = None
        self.has_answered = False
        self.deadline = 0.0
        self._loaded, self._awaited = loaded, awaited
        self._forking = threading.Lock()

    @classmethod
    def start(cls, memory_limit_bytes: int, nice: int) -> "WorkerProcess":
        """An interpreter of its own, which is ready when it has its imports."""
        environment = os.environ | _ONE_THREAD
        return cls(*start_process("caption_assets.workers.main", memory_limit_bytes, nice, env=environment), awaited=1)

    def fork(self) -> "WorkerProcess":
        """Another one, ready, with what this one has loaded; this one does nothing else. Raises OSError, EOFError
        where it has ended."""
        ours, theirs = socket.socketpair()
        with theirs, self._forking:
            try:
                self.channel.send((FORK, None))
                self.channel.send_descriptor(theirs.fileno())
                _, pid = self.channel.receive()
            except BaseException:
                ours.close()
                raise
        return WorkerProcess(_Forked(self, pid), Channel(Connection(ours.detach())), self._loaded)

    def end_fork(self, pid: int) -> int:
        """How one ended that it has forked, and that it kills if that is to be done."""
        with self._forking:
            try:
                self.channel.send((END, pid))
                status: int = self.channel.receive()[1]
            except (OSError, EOFError):
                return -signal.SIGKILL  # the kernel does that to all of them with this one
            return status

    def is_ready(self, loads: Loads | None = None) -> bool:
        """Whether it works on an item at once: it has its imports, and what `loads` loads."""
        return not self._awaited and loads in (None, self._loaded)

    def load(self, loads: Loads | None, time_limit_s: float) -> None:
        """Have it load so much before its next item. Raises OSError where it died while it was idle."""
        self.has_answered = False
        self.deadline = time.monotonic() + time_limit_s + _START_SECONDS
        if loads not in (None, self._loaded):
            self._loaded = loads
            self._awaited += 1
            self.channel.send((load, loads))

    def said(self, kind: str) -> None:
        """It has said this while it was not ready. What goes wrong with loading, each item says anew."""
        if kind == "result":
            self.go_on()
        else:
            self._awaited -= 1

    def give(self, function: Callable[[Any], Any], item: Any, time_limit_s: float) -> None:
        """Have it work on the item. Raises OSError where it died while it was idle."""
        self.item, self.has_answered = item, False
        self.deadline = time.monotonic() + time_limit_s
        self.channel.send((function, item))

    def await_ready(self) -> None:
        try:
            while self._awaited:
                kind, _ = self.channel.receive()
                self.said(kind)
        except (EOFError, OSError) as error:
            self.kill()
            raise ConfigError(
                "worker processes",
                f"one ended while it started, with status {self.process.returncode}",
                "its own message is on standard error",
            ) from error

    def go_on(self) -> None:
        """Its last result has been taken."""
        with contextlib.suppress(OSError):  # it died; that is seen when it is read from
            self.channel.send(None)

    def kill(self) -> None:
        """End the process at once, and all that it has forked; its decoder may be in the middle of anything."""
        self.channel.close()
        self.process.kill()
        self.process.wait()

    @property
    def was_killed(self) -> bool:
        """Whether somebody else has ended it, as the kernel does that lacks memory, and not the decoder."""
        return self.process.returncode == -signal.SIGKILL

    def death(self) -> WorkerDiedError:
        """What became of its item, where it ended by itself."""
        status = self.process.returncode
        how = signal.Signals(-status).name if status is not None and status < 0 else f"status {status}"
        return WorkerDiedError(
            str(self.item)[:200],
            f"the worker process that had it ended ({how})",
            "the decoder crashed on it, or the machine ran out of memory",
        )


class _Forked:
    """A process whose parent is another worker."""

    def __init__(self, parent: WorkerProcess, pid: int) -> None:
        self._parent, self._pid = parent, pid
        self.returncode: int | None = None

    def kill(self) -> None:
        self.wait()

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = self._parent.end_fork(self._pid)
        return self.returncode
