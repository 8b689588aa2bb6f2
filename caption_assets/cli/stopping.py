"""What Ctrl-C and SIGTERM mean to the command: it stops, and its exit status says why."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SHELL_BASE = 128  # a shell's status for a command that a signal ended is this plus the signal's number
_AGAIN_SECONDS = 0.2


class Stop:
    """Whether the command has been asked to stop, and by which signal."""

    def __init__(self) -> None:
        self._signal = signal.SIGINT

    @property
    def status(self) -> int:
        """The exit status: 130 after Ctrl-C, 143 after SIGTERM, by the signal that came last."""
        return _SHELL_BASE + self._signal

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """A signal's handler: stops whatever is at work."""
        self._signal = signal.Signals(number)
        raise KeyboardInterrupt

    def again(self) -> None:
        """Has the main thread stopped once more, a moment later."""
        main = threading.main_thread().ident
        if main is not None:
            timer = threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, (main, self._signal))
            timer.daemon = True
            timer.start()


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Both signals raise KeyboardInterrupt in this block; for the main thread.

    Python discards what is raised in a destructor or a weak reference's callback, so a signal that came just then is
    sent again. SIGINT stays ignored where the parent has it so, as a shell has for what runs in the background.
    """
    stop = Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    discarded = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if unraisable.exc_type is not None and issubclass(unraisable.exc_type, KeyboardInterrupt):
            stop.again()
        else:
            discarded(unraisable)

    sys.unraisablehook = hook
    for number, handler in before.items():
        if number != signal.SIGINT or handler is not signal.SIG_IGN:
            signal.signal(number, stop.handle)
    try:
        yield stop
    finally:
        sys.unraisablehook = discarded
        for number, handler in before.items():
            signal.signal(number, handler)
