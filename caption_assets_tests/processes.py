"""Processes that tests and campaigns start."""

import signal


def hear_signals() -> None:
    """For a process that is to hear of a Ctrl-C, also where whoever starts it was begun in the background and does not;
    to be called in it before it becomes what it is to be."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
