"""What an engine's process runs: requests in, results out, over the one connection that it was started with.

The first message is a function that makes the engine. Then come ("ask", Request) and ("flush", None), which ends a
round: an engine that works in batches waits for no more. Messages out: ("info", EngineInfo), ("ready", seconds), then
("result", Result), ("round", None) at the end of each round, and at last ("failed", error), with which the engine does
not start, or ("died", error); in between ("log", …), and ("beat", what it waits for), by which one knows that it lives.
"""

import contextlib
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from caption_assets.errors import CaptionAssetsError, ModelError, first_line
from caption_assets.models.engines.base import CaptionEngine, EngineDeathError
from caption_assets.models.requests import Request
from caption_assets.models.waits import waits
from caption_assets.workers.transport import Channel

BEAT_SECONDS = 2.0
_CLOSE_SECONDS = 15.0


class _Engine:
    """This process's side of the connection."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self._sending = channel, threading.Lock()
        self._asked: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        make: Callable[[], CaptionEngine] = channel.receive()
        self._engine = make()

    def serve(self) -> None:
        """Work until the other side closes the connection, or the engine ends."""
        logging.getLogger("caption_assets").addHandler(_Forward(self.send))
        for work in (self._listen, self._beat):
            threading.Thread(target=work, daemon=True).start()
        try:
            self.send("info", self._engine.start())
            self.send("ready", self._engine.ready())
            while True:
                for result in self._engine.generate(self._round()):
                    self.send("result", result)
                self.send("round")
        except EngineDeathError as death:
            self.send("died", death)
        except CaptionAssetsError as error:
            self.send("failed", error)
        except Exception as error:
            asked = f"engine process {os.getpid()}"
            logging.getLogger(__name__).exception("%s", asked)
            wrong = f"{type(error).__name__}: {first_line(error)}"
            self.send("failed", ModelError(asked, wrong, "report this as a bug, with what the log says"))

    def send(self, kind: str, value: Any = None) -> None:
        # Whoever does not listen any more has ended, or ends this process.
        with self._sending, contextlib.suppress(OSError):
            self._channel.send((kind, value))

    def close(self) -> None:
        """Ends the engine, with all processes that it has started, and this one."""
        timer = threading.Timer(_CLOSE_SECONDS, end_group)
        timer.daemon = True
        timer.start()
        with contextlib.suppress(Exception):
            self._engine.close()
        end_group()

    def _round(self) -> Iterator[Request]:
        while (request := self._asked.get()) is not None:
            yield request
            del request

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                kind, value = self._channel.receive()
                self._asked.put(value if kind == "ask" else None)
                del value
        self.close()

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            said = waits()
            self.send("beat", said[0][0] if said else None)


class _Forward(logging.Handler):
    """Sends what is logged to whoever started this process."""

    def __init__(self, send: Callable[[str, Any], None]) -> None:
        super().__init__(logging.INFO)
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send("log", (record.name, record.levelno, self.format(record)))


def end_group() -> None:
    """Kills this process's group, which is its own."""
    os.killpg(0, signal.SIGKILL)


def main(descriptor: int) -> None:
    # The parent decides when work is broken off.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):
        engine = _Engine(Channel(Connection(descriptor)))
        engine.serve()
        engine.close()
