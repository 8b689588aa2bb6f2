"""Measuring: sides run in turn, CPU time and memory of all processes together."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from caption_assets.media.cores import usable_cores

CORES = usable_cores()

# Workers free memory and collect garbage after their last result: that is not to fall into the next side's time.
_TIDY_SECONDS = 0.5


def spread(times: Sequence[float]) -> str:
    return f"{median(times):7.2f} s  ({min(times):.2f} to {max(times):.2f})"


def compare(title: str, sides: dict[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Run all sides in turn, after one turn that does not count; print times, and ratios to the first."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(runs + 1):
        for name, side in sides.items():
            start, used = time.perf_counter(), tree_cpu_s(os.getpid())
            side()
            if turn:
                times[name].append(time.perf_counter() - start)
                cpu[name].append(tree_cpu_s(os.getpid()) - used)
            time.sleep(_TIDY_SECONDS)
        print(f"  {turn} of {runs} runs of {title.split(':')[0]}", file=sys.stderr, flush=True)
    print(f"\n{title}: median of {runs} runs (least to most), CPU seconds of all processes, wall time by the first's")
    first, *_ = sides
    for name, values in times.items():
        ratios = [a / b for a, b in zip(values, times[first], strict=True)]
        ratio = f"x {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"  {name:54s} {spread(values)}   CPU {median(cpu[name]):6.2f} s   {ratio}")
    sys.stdout.flush()
    return times


class PeakMemory:
    """Peak memory of a process (by default this one) and its children together, sampled; a context manager."""

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid or os.getpid()
        self.peak_mib = 0.0

    def __enter__(self) -> "PeakMemory":
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.peak_mib = max(self.peak_mib, tree_mib(self._pid))


def children(pid: int) -> list[int]:
    """Ids of a process's children."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # threads come and go
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def tree_cpu_s(pid: int) -> float:
    """CPU time of a process, its children that have ended, and its living descendants; 0 where /proc is missing."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(tree_cpu_s(child) for child in children(pid))


def tree_mib(pid: int) -> float:
    """Memory of a process and its descendants together; 0 where /proc is missing."""
    # PSS, not RSS: pages that parent and workers share count once.
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        command = _command(pid)
    except OSError:
        return 0.0
    own = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
    # A child that is about to become ffmpeg still has this one's memory.
    return own + sum(tree_mib(child) for child in children(pid) if _command(child) != command)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
