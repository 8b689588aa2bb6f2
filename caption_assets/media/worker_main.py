"""What a worker process runs: items in, results out, over the one connection that it was started with.

Messages in: (function, item) for each item. Messages out: ("ready", None), then for each item ("result", value) as
often as there are results, and ("done", None) or ("error", CaptionAssetsError).
"""

import contextlib
import gc
import importlib
import inspect
import resource
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import cv2

from caption_assets.errors import CaptionAssetsError
from caption_assets.media import transport
from caption_assets.media.faults import LimitError, UnexpectedError


def serve(connection: Connection) -> None:
    """Work until the other side closes the connection."""
    while True:
        try:
            function, item = transport.receive(connection)
        except EOFError:
            return
        _work(connection, function, item)
        del item
        # A container and its streams refer to each other: without this, files and decoders pile up for a while.
        gc.collect()


def _work(connection: Connection, function: Callable[[Any], Any], item: Any) -> None:
    try:
        outcome = function(item)
        if inspect.isgenerator(outcome):
            with contextlib.closing(outcome):
                for result in outcome:
                    transport.send(connection, ("result", result))
                    del result
        else:
            transport.send(connection, ("result", outcome))
    except CaptionAssetsError as error:
        transport.send(connection, ("error", error))
    except (BrokenPipeError, ConnectionError):
        raise
    except MemoryError:
        wrong = "it needs more memory than a worker may take"
        transport.send(connection, ("error", LimitError(f"{item!s:.200}", wrong, "raise the memory limit")))
    except Exception as error:
        wrong = f"{type(error).__name__} in a worker: {error}"
        transport.send(connection, ("error", UnexpectedError(f"{item!s:.200}", wrong, "report this as a bug")))
    else:
        transport.send(connection, ("done", None))


def main(descriptor: int, memory_limit_bytes: int) -> None:
    # The parent decides when work is broken off; a Ctrl-C in the terminal reaches all processes of the group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if memory_limit_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit_bytes, memory_limit_bytes))
    connection = Connection(descriptor)
    with contextlib.suppress(BrokenPipeError, ConnectionError):
        # What nearly every item needs; importing it now keeps it out of the first item's time.
        importlib.import_module("caption_assets.media.previews")
        gc.freeze()  # what is imported stays; collections need not look at it
        cv2.setNumThreads(1)  # the cores are shared out among the workers already
        transport.send(connection, ("ready", None))
        serve(connection)
