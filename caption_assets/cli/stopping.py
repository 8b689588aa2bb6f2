"""What Ctrl-C and SIGTERM mean to the command: it stops, and its exit status says why."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SHELL_BASE = 128  # a shell's status for a command that a signal ended is this plus the signal's number


class Stop:
    """Whether the command has been asked to stop. `status` is its exit status then."""

    def __init__(self, arrived: socket.socket) -> None:
        self._arrived = arrived
        self._signal = signal.SIGINT

    @property
    def status(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM: that of the signal that came last."""
        try:
            came = self._arrived.recv(4096)
        except BlockingIOError:
            came = b""
        for number in came:
            if number in (signal.SIGINT, signal.SIGTERM):
                self._signal = signal.Signals(number)
        return _SHELL_BASE + self._signal


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Both signals raise KeyboardInterrupt in this block; for the main thread.

    Dagster puts handlers of its own in place while a step runs, so which signal came is read from Python's wake-up
    channel, which hears of it whoever handles it. A signal that the parent has set to be ignored, as a shell does with
    SIGINT for what runs in the background, stays ignored.
    """
    arrived, wake = socket.socketpair()
    arrived.setblocking(False)
    wake.setblocking(False)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    woken = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _raise)
    try:
        yield Stop(arrived)
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        arrived.close()
        wake.close()


def _raise(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
