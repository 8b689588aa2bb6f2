"""vLLM's own processes and the one that has started them: each ends with the other, or is told that it has ended.

vLLM itself tells of neither in every case: its processes outlive one that is killed, and one of them that is killed
before the first request leaves that without an answer.
"""

import asyncio
import multiprocessing
import os
import select
import signal
import threading
from contextlib import suppress

_PARENT = "CAPTION_ASSETS_VLLM_PARENT"


class Children:
    """All processes that are started after this object has been made, with `environment`."""

    def __init__(self) -> None:
        self._others = set(multiprocessing.active_children())

    @property
    def environment(self) -> dict[str, str]:
        return {_PARENT: str(os.getpid())}

    def kill(self) -> None:
        for process in set(multiprocessing.active_children()) - self._others:
            process.kill()

    def end(self) -> "asyncio.Future[None]":
        """Is there as soon as one of those that there are now has ended. To be called in the event loop."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        sentinels = [process.sentinel for process in set(multiprocessing.active_children()) - self._others]

        def tell() -> None:
            for sentinel in sentinels:
                loop.remove_reader(sentinel)
            ended.set_result(None)

        for sentinel in sentinels:
            loop.add_reader(sentinel, tell)
        return ended


def end_with_parent() -> None:
    """Has this process, where vLLM is what it was started for, end as soon as the one that has started vLLM does,
    however that ends."""
    parent = int(os.environ.get(_PARENT, os.getpid()))
    if parent == os.getpid() or not hasattr(os, "pidfd_open"):
        return

    def wait() -> None:
        with suppress(ProcessLookupError):  # it has ended already
            descriptor = os.pidfd_open(parent)
            select.select([descriptor], [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    # Not by PR_SET_PDEATHSIG, which takes the end of a thread for that of its process.
    threading.Thread(target=wait, name="caption-assets-parent", daemon=True).start()
