"""CPU time of this process with all that it has started: worker processes, ffmpeg, engines of their own."""

import os
from collections import defaultdict
from pathlib import Path

_PROC = Path("/proc")
# Fields of /proc/<pid>/stat after the name: parent, then user and system time, own and of children that have ended.
_PARENT, _TIMES = 1, slice(11, 15)


def cpu_seconds() -> float:
    """In seconds since the process began. Where the system has no /proc, of what has ended and of the process alone."""
    own = sum(os.times()[:4])
    ticks, children = dict[int, int](), defaultdict[int, list[int]](list)
    for pid, fields in _processes():
        ticks[pid] = sum(map(int, fields[_TIMES]))
        children[int(fields[_PARENT])].append(pid)
    below, left = 0, list(children[os.getpid()])
    while left:
        pid = left.pop()
        below += ticks[pid]
        left += children[pid]
    return own + (below / os.sysconf("SC_CLK_TCK") if below else 0.0)


def _processes() -> list[tuple[int, list[str]]]:
    found = []
    for entry in _PROC.iterdir() if _PROC.is_dir() else ():
        if entry.name.isdecimal():
            try:
                # The name, in brackets, may hold anything.
                found.append((int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()))
            except (OSError, UnicodeDecodeError):  # it has ended
                continue
    return found
