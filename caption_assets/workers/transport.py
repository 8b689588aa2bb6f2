"""Messages between this process and its workers: pickles, with large arrays in memory that both can see.

A window's frames are some ten megabytes. Through a pipe they would be copied twice by the kernel, 64 KiB at a time;
here they are copied once into an anonymous file in memory, whose descriptor travels with the message and which the
receiver maps. It goes away with its last user, also when that one is killed. New memory costs more than the copy:
when the receiver is done with a message's arrays, the sender takes the memory for another one. What is passed on to a
third process, as a worker's windows are to an engine's, is not copied at all: that one maps the same memory.
"""

import ctypes
import mmap
import os
import pickle
import resource
import sys
import weakref
from collections.abc import Callable, Sequence
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

# Smaller buffers are cheaper inside the message.
_SHARE_BYTES = 1 << 18
_CAN_SHARE = sys.platform == "linux"
_ALIGN = 64
# The first byte of shared memory says whether the receiver still uses what follows this many bytes in.
_HEADER = mmap.PAGESIZE
# What a sender keeps for later messages, besides the memory that is in use.
_KEEP_BYTES = 128 << 20
# Messages of one sender that are in use. Each takes a descriptor of it; what comes on top goes through the pipe.
_MOST_SHARED = 256
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_MAP_FAILED = ctypes.c_void_p(-1).value


def _pickle(message: Any, share: bool) -> tuple[bytes, list[memoryview]]:
    """The pickle of a message, and its large contiguous arrays aside where they are to be shared."""
    aside: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        if not share or not _CAN_SHARE or buffer.raw().nbytes < _SHARE_BYTES:
            return True  # in the message
        aside.append(buffer.raw())
        return False

    return pickle.dumps(message, protocol=5, buffer_callback=keep), aside


class _Mapping:
    """Shared memory in this process, for as long as anything refers to it. `on_end` is called with its address last.

    Made without Python's own mmap, which keeps a descriptor for each: hundreds of windows may be on their way, and a
    process may commonly have 1,024 open. NumPy takes it as an array of bytes. `descriptor` is one that is closed with
    it, by which others can be given the memory, or -1.
    """

    def __init__(self, descriptor: int, on_end: Callable[[int], None] | None = None, *, keeps: bool = False) -> None:
        size = os.fstat(descriptor).st_size
        address = _libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, descriptor, 0)
        if address in (None, _MAP_FAILED):
            number = ctypes.get_errno()
            raise OSError(number, f"{os.strerror(number)} (mapping {size} bytes)")
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (size,), "data": (address, False)}
        self.address, self.size = address, size
        self.descriptor = descriptor if keeps else -1
        weakref.finalize(self, _unmap, address, size, on_end, self.descriptor).atexit = False
        if keeps:
            _to_pass_on[address] = self

    def holds(self, address: int) -> bool:
        return self.address <= address < self.address + self.size


_to_pass_on: "weakref.WeakValueDictionary[int, _Mapping]" = weakref.WeakValueDictionary()


def _unmap(address: int, size: int, on_end: Callable[[int], None] | None, descriptor: int) -> None:
    if on_end is not None:
        on_end(address)
    _libc.munmap(address, size)
    if descriptor >= 0:
        os.close(descriptor)


def _mapping_of(raws: Sequence[memoryview]) -> _Mapping | None:
    """The received memory that all of these lie in, where there is one that can be passed on."""
    addresses = [_address(raw) for raw in raws]
    for mapping in list(_to_pass_on.values()):
        if mapping.holds(addresses[0]):
            return mapping if all(map(mapping.holds, addresses)) else None
    return None


def _address(raw: memoryview) -> int:
    address: int = np.frombuffer(raw, np.uint8).__array_interface__["data"][0]
    return address


def _may_stay_open(descriptor: int) -> bool:
    """Whether few enough are open: a new one is the lowest number that is free."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft == resource.RLIM_INFINITY or descriptor < soft // 2


def _give_back(address: int) -> None:
    ctypes.c_ubyte.from_address(address).value = 0


class _SharedMemory:
    """The arrays of one message, as the sender holds them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.descriptor = os.memfd_create("caption_assets")
        os.ftruncate(self.descriptor, _HEADER + size)
        self._memory = np.asarray(_Mapping(self.descriptor))

    @property
    def in_use(self) -> bool:
        return bool(self._memory[0])

    def fill(self, raws: Sequence[memoryview]) -> None:
        self._memory[0] = 1
        at = _HEADER
        for raw in raws:
            self._memory[at : at + raw.nbytes] = np.frombuffer(raw, np.uint8)
            at += _aligned(raw.nbytes)

    def close(self) -> None:
        os.close(self.descriptor)


class Channel:
    """One end of a connection between two processes of one machine. For one thread at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._shared: list[_SharedMemory] = []

    def fileno(self) -> int:
        return self._connection.fileno()

    def close(self) -> None:
        self._connection.close()
        for shared in self._shared:
            shared.close()
        self._shared.clear()

    def send_descriptor(self, descriptor: int) -> None:
        reduction.send_handle(self._connection, descriptor, 0)

    def receive_descriptor(self) -> int:
        return reduction.recv_handle(self._connection)

    def send(self, message: Any) -> None:
        """Send `message`, which must pickle. Arrays that were received themselves are to be kept until the receiver is
        done with them: whoever sent them first may then use the memory again."""
        data, raws = _pickle(message, share=sum(shared.in_use for shared in self._shared) < _MOST_SHARED)
        passed_on = _mapping_of(raws) if raws else None
        if passed_on is not None:
            places = [(_address(raw) - passed_on.address, raw.nbytes) for raw in raws]
            self._connection.send_bytes(pickle.dumps((places, True, data)))
            self.send_descriptor(passed_on.descriptor)
            return
        places, at = [], _HEADER
        for raw in raws:
            places.append((at, raw.nbytes))
            at += _aligned(raw.nbytes)
        self._connection.send_bytes(pickle.dumps((places, False, data)))
        if raws:
            shared = self._take(at - _HEADER)
            shared.fill(raws)
            self.send_descriptor(shared.descriptor)

    def _take(self, size: int) -> _SharedMemory:
        """Memory that nobody uses, of at least `size` bytes; of what else is free, little is kept."""
        free = sorted((shared for shared in self._shared if not shared.in_use), key=lambda shared: shared.size)
        taken = next((shared for shared in free if shared.size >= size), None)
        kept = 0
        for shared in free:
            kept += shared.size
            if shared is not taken and kept > _KEEP_BYTES:
                self._shared.remove(shared)
                shared.close()
        if taken is None:
            taken = _SharedMemory(size)
            self._shared.append(taken)
        return taken

    def receive(self) -> Any:
        """The next message; its large arrays are writable and live in shared memory. Raises EOFError at the end."""
        places, passed_on, data = pickle.loads(self._connection.recv_bytes())
        if not places:
            return pickle.loads(data)
        descriptor = self.receive_descriptor()
        keeps = _may_stay_open(descriptor)
        try:
            memory = np.asarray(_Mapping(descriptor, None if passed_on else _give_back, keeps=keeps))
        except BaseException:
            keeps = False
            raise
        finally:
            if not keeps:
                os.close(descriptor)
        # The arrays hold on to the memory: it ends with the last of them.
        return pickle.loads(data, buffers=[memory[at : at + size] for at, size in places])


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN
