"""How many cores this process may use: what the machine has, less what the scheduler or a container keeps from it."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from caption_assets.errors import ConfigError

CORES = "CAPTION_ASSETS_CORES"
"""The variable by which somebody else who shares cores out, such as Ray, says how many are this process's."""
# Where the hierarchies are mounted; containers and distributions use these names.
_V2 = ("sys/fs/cgroup", "sys/fs/cgroup/unified")
_V1 = ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/cpuacct,cpu")


def usable_cores(root: str | Path = "/") -> int:
    """Cores that this process may use, at least 1: by CORES, its CPU affinity, and the CPU time of its control groups.

    A group's limit holds for all groups within it, so the lowest on the way up counts; parts of a core are left out.
    `root` is the folder that has `proc` and `sys`. Raises ConfigError for what CORES cannot be.
    """
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    given = os.environ.get(CORES, "").strip()
    if given and not (given.isdecimal() and int(given)):
        raise ConfigError(
            f"{CORES}={given!r}", "it is no number of cores", "give a whole number from 1 on, or unset it"
        )
    said = [float(given)] if given else []
    return max(1, math.floor(min([cores, *said, *_group_limits(Path(root))])))


def decoder_threads(asked: int) -> int:
    """Threads of a decoder: as many as are asked for, or, for 0, as ffmpeg takes for so many cores."""
    cores = usable_cores() if asked == 0 else 0
    return asked or (min(cores + 1, 16) if cores > 1 else 1)


def _group_limits(root: Path) -> Iterator[float]:
    """Cores by each limit that is set on the groups of this process."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            mounts: tuple[str, ...] = _V2
            read = _v2_limit
        elif "cpu" in controllers.split(","):
            mounts, read = _V1, _v1_limit
        else:
            continue
        # Within a container, the mount may begin at its own group: what is above it is then not there.
        path = PurePosixPath("/", group)
        for mount in mounts:
            for above in (path, *path.parents):
                limit = read(root / mount / above.relative_to("/"))
                if limit is not None:
                    yield limit


def _v2_limit(folder: Path) -> float | None:
    quota, period, *_ = [*(_read(folder / "cpu.max") or "").split(), "", ""]
    return _cores(quota, period)


def _v1_limit(folder: Path) -> float | None:
    return _cores(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _cores(quota: str | None, period: str | None) -> float | None:
    """Cores of a quota of CPU time in a period; None where there is no limit ("max" or -1)."""
    try:
        share = int(quota or "") / int(period or "")
    except (ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
