"""What this process waits for before a model can work, for whoever shows how a run gets on."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_waits: dict[int, tuple[float, Callable[[], str]]] = {}


@contextmanager
def waiting(what: str | Callable[[], str]) -> Iterator[None]:
    """In this block, `what` is waited for; a function tells it anew each time that somebody asks."""
    with _lock:
        key = max(_waits, default=0) + 1
        _waits[key] = time.monotonic(), what if callable(what) else lambda: what
    try:
        yield
    finally:
        with _lock:
            del _waits[key]


def waits() -> list[tuple[str, float]]:
    """What is waited for now, with the seconds since when: the innermost alone, which is why the others wait."""
    with _lock:
        last = list(_waits.values())[-1:]
    return [(what(), time.monotonic() - since) for since, what in last]
