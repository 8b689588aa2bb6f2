"""One worker process, as the process that started it sees it."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from caption_assets.errors import ConfigError
from caption_assets.media.faults import WorkerDiedError
from caption_assets.workers.base import Loads
from caption_assets.workers.transport import Channel

_START_SECONDS = 120.0
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


class WorkerProcess:
    """One process and what it is doing."""

    def __init__(self, memory_limit_bytes: int, nice: int) -> None:
        self.process, self.channel = start_process("caption_assets.workers.main", memory_limit_bytes, nice)
        self.item: Any = None
        self.has_answered = False
        self.deadline = 0.0
        self._loaded: Loads | None = None
        self._awaited = 1  # what it will say before it is ready

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
        """End the process at once; its decoder may be in the middle of anything."""
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
