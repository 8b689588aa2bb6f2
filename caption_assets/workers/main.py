"""What a worker process runs: items in, results out, over the one connection that it was started with.

Messages in: (function, item) for each item, and None for each result that has been taken. Messages out: ("ready",
None), then for each item ("result", value) as often as there are results, and ("done", None) or ("error",
CaptionAssetsError). A result is sent when the one before it has been taken: a connection has room for the descriptors
of more memory than the machine has. (FORK, None) is followed by the descriptor of the new process's end of its own
channel, and answered by ("forked", its id); (END, its id) by ("ended", how it did).
"""

import contextlib
import ctypes
import gc
import importlib
import inspect
import os
import resource
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2

from caption_assets.errors import CaptionAssetsError
from caption_assets.media.faults import LimitError, UnexpectedError
from caption_assets.workers.process import END, FORK
from caption_assets.workers.transport import Channel

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_MOST_OOM_SCORE = 1000


class _Worker:
    """This process's side of the connection."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._sent = False  # a result that has not been taken yet
        self._frozen = False

    def serve(self) -> None:
        """Work until the other side closes the connection."""
        while True:
            try:
                while (message := self._channel.receive()) is None:
                    self._sent = False
            except EOFError:
                return
            function, item = message
            if function == FORK:
                self._fork()
                continue
            if function == END:
                os.kill(item, signal.SIGKILL)
                _, status = os.waitpid(item, 0)
                self._channel.send(("ended", os.waitstatus_to_exitcode(status)))
                continue
            self._work(function, item)
            del message, function, item
            # A container and its streams refer to each other: without this, files and decoders pile up for a while.
            gc.collect()
            if not self._frozen:
                gc.freeze()  # what the first item imported stays, too; with torch, that is most of a collection's time
                self._frozen = True

    def _fork(self) -> None:
        """Goes on in both: here as before, and there with a channel of its own."""
        descriptor, parent = self._channel.receive_descriptor(), os.getpid()
        gc.freeze()  # what is here is shared as long as nothing is written to it, which a collection does
        pid = os.fork()
        if pid:
            os.close(descriptor)
            self._channel.send(("forked", pid))
            return
        self._channel.close()
        self._channel, self._frozen = Channel(Connection(descriptor)), False
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has died meanwhile
            os._exit(1)
        with contextlib.suppress(OSError, ValueError):  # where memory is short, rather this one than all of them
            _OOM_SCORE.write_text(str(min(int(_OOM_SCORE.read_text()) + 50, _MOST_OOM_SCORE)))

    def _work(self, function: Callable[[Any], Any], item: Any) -> None:
        try:
            outcome = function(item)
            if inspect.isgenerator(outcome):
                with contextlib.closing(outcome):
                    for result in outcome:
                        self._give(result)
                        del result
            else:
                self._give(outcome)
        except CaptionAssetsError as error:
            self._channel.send(("error", error))
        except (BrokenPipeError, ConnectionError, EOFError):
            raise
        except MemoryError:
            wrong = "it needs more memory than a worker may take"
            self._channel.send(("error", LimitError(f"{item!s:.200}", wrong, "raise the memory limit")))
        except Exception as error:
            wrong = f"{type(error).__name__} in a worker: {error}"
            self._channel.send(("error", UnexpectedError(f"{item!s:.200}", wrong, "report this as a bug")))
        else:
            self._channel.send(("done", None))

    def _give(self, result: Any) -> None:
        if self._sent:
            self._channel.receive()
        self._channel.send(("result", result))
        self._sent = True


def main(descriptor: int, memory_limit_bytes: int, nice: int) -> None:
    # The parent decides when work is broken off; a Ctrl-C in the terminal reaches all processes of the group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if memory_limit_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit_bytes, memory_limit_bytes))
    os.nice(nice)
    channel = Channel(Connection(descriptor))
    with contextlib.suppress(BrokenPipeError, ConnectionError, EOFError):
        # What every task needs; importing it now keeps it out of the first one's time.
        importlib.import_module("caption_assets.workers.tasks")
        gc.freeze()  # what is imported stays; collections need not look at it
        cv2.setNumThreads(1)  # the cores are shared out among the workers already
        channel.send(("ready", None))
        _Worker(channel).serve()
