"""Functions that tests run in workers; they must be importable there."""

import ctypes
import os
import signal
import time
from collections.abc import Iterator

import numpy as np

from caption_assets.errors import ClipError


def double(item: int) -> int:
    return 2 * item


def frames(item: int) -> Iterator[np.ndarray]:
    for k in range(3):
        yield np.full((4, 200, 300, 3), item + k, np.uint8)


def misbehave(item: str) -> Iterator[str]:
    """Yield once, then do what the item says."""
    yield "first"
    match item:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "crash":
            ctypes.string_at(0)
        case "hang":
            time.sleep(3600)
        case "clip":
            raise ClipError("a clip", "it is broken")
        case "bug":
            raise KeyError("a bug")
        case "memory":
            np.ones(1 << 40, np.uint8)
    yield "second"


def pid(_: int) -> int:
    return os.getpid()
