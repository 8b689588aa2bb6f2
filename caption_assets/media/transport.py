"""Messages between this process and its workers: pickles, with large arrays in memory that both can see.

A window's frames are some ten megabytes. Through a pipe they would be copied twice by the kernel, 64 KiB at a time;
here they are copied once into an anonymous file in memory, whose descriptor travels with the message and which the
receiver maps. It goes away with its last user, also when that one is killed.
"""

import io
import mmap
import os
import pickle
import sys
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

# Smaller buffers are cheaper inside the message.
_SHARE_BYTES = 1 << 18
_CAN_SHARE = sys.platform == "linux"
_ALIGN = 64


class _Pickler(pickle.Pickler):
    """Keeps the large contiguous arrays of a message aside, as (buffers, where each starts)."""

    def __init__(self, file: io.BytesIO) -> None:
        self.buffers: list[pickle.PickleBuffer] = []
        super().__init__(file, protocol=5, buffer_callback=self._aside)

    def _aside(self, buffer: pickle.PickleBuffer) -> bool:
        if not _CAN_SHARE or buffer.raw().nbytes < _SHARE_BYTES:
            return True  # in the message
        self.buffers.append(buffer)
        return False


def send(connection: Connection, message: Any) -> None:
    """Send `message`, which must pickle, over a connection between two processes of one machine."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(message)
    raws = [buffer.raw() for buffer in pickler.buffers]
    sizes = [raw.nbytes for raw in raws]
    connection.send_bytes(pickle.dumps((sizes, file.getbuffer().tobytes())))
    if not raws:
        return
    descriptor = os.memfd_create("caption_assets")
    try:
        os.ftruncate(descriptor, sum(_aligned(size) for size in sizes))
        at = 0
        for raw, size in zip(raws, sizes, strict=True):
            written = 0
            while written < size:
                written += os.pwrite(descriptor, raw[written:], at + written)
            at += _aligned(size)
        reduction.send_handle(connection, descriptor, 0)
    finally:
        os.close(descriptor)


def receive(connection: Connection) -> Any:
    """The next message; its large arrays are writable and live in shared memory. Raises EOFError at the end."""
    sizes, data = pickle.loads(connection.recv_bytes())
    if not sizes:
        return pickle.loads(data)
    descriptor = reduction.recv_handle(connection)
    try:
        memory = mmap.mmap(descriptor, sum(_aligned(size) for size in sizes))
    finally:
        os.close(descriptor)
    buffers, at = [], 0
    for size in sizes:
        buffers.append(np.frombuffer(memory, np.uint8, size, at))
        at += _aligned(size)
    return pickle.loads(data, buffers=buffers)


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN
