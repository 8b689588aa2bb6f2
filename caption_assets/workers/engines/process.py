"""One engine's process, as whoever started it sees it."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from typing import Any

from caption_assets.models.engines.base import CaptionEngine, EngineDeathError, EngineStuckError
from caption_assets.models.requests import Request
from caption_assets.workers.engines.main import BEAT_SECONDS
from caption_assets.workers.process import start_process

# What a process that is alive may leave between two messages, at least: its interpreter may be busy with an import.
_LEAST_SILENCE = 60.0
_END_SECONDS = 20.0


class EngineProcess:
    """A process with an engine, started with this object.

    `heard` is called, in a thread of its own, with the kind and value of each message (see `main`) other than beats and
    log messages; the last one is "died" or "failed". `waits_for` is what it waits for before it can work.
    """

    def __init__(
        self,
        make: Callable[[], CaptionEngine],
        heard: Callable[["EngineProcess", str, Any], None],
        *,
        environment: Mapping[str, str],
        silence_s: float,
    ) -> None:
        """`make` makes the engine in the process, and is pickled. One that says nothing for `silence_s` seconds is
        stuck: it tells every few seconds that it is there."""
        self._heard, self._silence_s = heard, max(_LEAST_SILENCE, silence_s)
        # A session of its own: Ctrl-C does not reach it, and all that it starts can be ended together.
        self.process, self._channel = start_process(
            "caption_assets.workers.engines.main", start_new_session=True, env={**os.environ, **environment}
        )
        self.waits_for: str | None = None
        self._ending = threading.Lock()
        self._channel.send(make)
        self._listener = threading.Thread(target=self._listen, name="engine", daemon=True)
        self._listener.start()

    def ask(self, request: Request) -> None:
        """Gives it a request, which is to be kept until its result is there. For one thread at a time, with `flush`."""
        self._send("ask", request)

    def flush(self) -> None:
        """Ends a round of requests."""
        self._send("flush")

    def begin_to_end(self) -> None:
        """Has it close its engine and end."""
        with (
            contextlib.suppress(OSError),
            socket.fromfd(self._channel.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as s,
        ):
            s.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Ends it, with everything that it has started, and waits until it has. Not for the thread of `heard`."""
        with self._ending:  # whoever replaces it, and whoever closes the pool
            self.begin_to_end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_END_SECONDS)
            self.kill()
            self._listener.join()
            self._channel.close()

    def kill(self) -> None:
        """Ends it at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _send(self, kind: str, value: Any = None) -> None:
        with contextlib.suppress(OSError):  # it has ended: that is seen when it is read from
            self._channel.send((kind, value))

    def _listen(self) -> None:
        until = time.monotonic() + self._silence_s
        while True:
            try:
                if not wait([self._channel.fileno()], timeout=BEAT_SECONDS):
                    if time.monotonic() > until:
                        self.kill()
                        stuck = EngineStuckError.after(self._silence_s, "in a process of its own", frozenset())
                        self._heard(self, "died", stuck)
                        return
                    continue
                kind, value = self._channel.receive()
            except (EOFError, OSError):
                self._heard(self, "died", self._death())
                return
            until = time.monotonic() + self._silence_s
            if kind == "beat":
                self.waits_for = value
            elif kind == "log":
                name, level, text = value
                logging.getLogger(name).log(level, "%s", text)
            else:
                self._heard(self, kind, value)
                if kind in ("died", "failed"):
                    return
            del value

    def _death(self) -> EngineDeathError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_SECONDS)
        status = self.process.returncode
        how = signal.Signals(-status).name if status is not None and status < 0 else f"status {status}"
        fix = "its own messages are in the log above"
        return EngineDeathError("an engine's process", f"it ended ({how})", fix)
