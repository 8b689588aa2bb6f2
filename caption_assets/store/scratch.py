"""Where files are written before they are put in their place: a folder for each writer, which goes when that ends.

Below the root, so that a file can be renamed to its place. The folder is locked, which the kernel undoes however a
process ends: what a killed one has left is removed by the next.
"""

import fcntl
import os
import secrets
import shutil
import tempfile
import threading
import weakref
from contextlib import suppress
from typing import BinaryIO

FOLDER = ".caption_assets-writing"


class Scratch:
    """New files below `root`/`FOLDER`. Touches nothing before the first of them."""

    def __init__(self, root: str) -> None:
        self._all = os.path.join(root, FOLDER)
        self._lock = threading.Lock()
        self._own = ""

    def create(self) -> BinaryIO:
        """A new file, open for writing, in a folder of ours. Raises OSError."""
        with self._lock:
            for _ in range(2):
                if self._own:
                    with suppress(FileNotFoundError):  # somebody has tidied up
                        return open(os.path.join(self._own, secrets.token_hex(8)), "xb")
                self._own = self._make()
        return open(os.path.join(self._own, secrets.token_hex(8)), "xb")

    def _make(self) -> str:
        os.makedirs(self._all, exist_ok=True)
        self._remove_abandoned()
        folder = tempfile.mkdtemp(dir=self._all)
        handle = _locked(folder, fcntl.LOCK_SH)
        weakref.finalize(self, _end, folder, handle, os.getpid())
        return folder

    def _remove_abandoned(self) -> None:
        for name in os.listdir(self._all):
            folder = os.path.join(self._all, name)
            handle = _locked(folder, fcntl.LOCK_EX)
            if handle is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(handle)


def _locked(folder: str, kind: int) -> int | None:
    """An open handle of the folder with the lock, None where somebody else has it or nothing can be locked."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _end(folder: str, handle: int | None, pid: int) -> None:
    if os.getpid() != pid:  # a fork, whose parent still writes
        return
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # others write here
        os.rmdir(os.path.dirname(folder))
    if handle is not None:
        os.close(handle)
