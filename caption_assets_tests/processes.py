"""Processes that tests and campaigns start."""

import contextlib
import os
import signal
import socket
from pathlib import Path


def hear_signals() -> None:
    """For a process that is to hear of Ctrl-C and SIGTERM, also where whoever starts it was begun in the background and
    does not; to be called in it before it becomes what it is to be."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def at_work(group: int) -> list[str]:
    """What the processes of a group that have not ended were called with."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may have ended meanwhile
            state, _, of_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if of_group == str(group) and state != "Z":
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120])
    return found


def descendants(pid: int) -> list[int]:
    """What a process has started, and what that has."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def vllm_engine() -> int:
    """The process of vLLM's engine, among those of this one."""
    (pid,) = (p for p in descendants(os.getpid()) if b"EngineCore" in Path(f"/proc/{p}/cmdline").read_bytes())
    return pid
