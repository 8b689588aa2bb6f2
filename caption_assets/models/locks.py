"""Locks between the processes of a machine: a file that one process holds, or several together, and that says who."""

import contextlib
import fcntl
import os
import socket
import time
import weakref
from pathlib import Path
from typing import Self


class FileLock:
    """A held lock on a file. The kernel gives it back with `close` or with the process, however that ends.

    Child processes do not have it, whether they are forked or started afresh.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        _held.add(self)

    def close(self) -> None:
        """Gives the lock back. May be called more than once."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def try_lock(path: Path, *, shared: bool = False) -> FileLock | None:
    """Holds the lock of the file at `path`, alone or with everybody who asks for it `shared`; None where it is taken.

    The file is made if need be, and everybody may lock it, whoever has made it. Raises OSError where it cannot be
    made, or its file system has no locks.
    """
    try:
        return _lock(path, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def wait_lock(path: Path) -> FileLock:
    """As `try_lock`, but waits until nobody else holds it."""
    return _lock(path, fcntl.LOCK_EX)


def holder(path: Path) -> str:
    """Who took the lock last, in words."""
    try:
        return path.read_text().strip() or "another process"
    except OSError:
        return "another process"


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _close_in_child() -> None:
    # A forked child shares the open file, and with it the lock, which would then outlive the parent.
    for held in list(_held):
        held.close()


os.register_at_fork(after_in_child=_close_in_child)


def _lock(path: Path, kind: int) -> FileLock:
    while True:
        fd = _open(path)
        try:
            fcntl.flock(fd, kind)
            # Somebody may have removed the file meanwhile: whoever comes next would lock another one.
            if os.fstat(fd).st_nlink:
                _say_who(fd)
                return FileLock(fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW
    try:
        # Linux forbids O_CREAT on another user's file in a folder like /tmp, so the file is made only if it is missing.
        return os.open(path, flags)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)  # enough for a lock
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        os.fchmod(fd, 0o666)
        return fd
    except FileExistsError:
        return _open(path)


def _say_who(fd: int) -> None:
    text = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
    with contextlib.suppress(OSError):  # it may be open for reading only
        os.ftruncate(fd, 0)
        os.pwrite(fd, text.encode(), 0)
