"""Functions that tests run in workers; they must be importable there."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caption_assets.errors import ClipError
from caption_assets.media.decode import probe, read_windows
from caption_assets.media.files import Reading, open_clip
from caption_assets.media.sampling import sample_window
from caption_assets.media.windows import compute_windows


def double(item: int) -> int:
    return 2 * item


@dataclass(frozen=True)
class LoadedByOne:
    """What the first process that loads it has at once, and each other one never."""

    path: Path

    def load(self) -> None:
        try:
            self.path.mkdir()
        except FileExistsError:
            time.sleep(3600)


def frames(item: int) -> Iterator[np.ndarray]:
    for k in range(3):
        yield np.full((4, 200, 300, 3), (item + k) % 256, np.uint8)


def count_into(path: str) -> Iterator[np.ndarray]:
    """A hundred results; the file's length says how many have been begun."""
    for _ in range(100):
        with open(path, "ab") as file:
            file.write(b".")
        yield np.zeros((4, 200, 300, 3), np.uint8)


def windows_and_memory(path: str) -> Iterator[tuple[np.ndarray, int]]:
    """A clip's windows of 20 frames, and the bytes of memory that are this process's own when each is made."""
    info = probe(path)
    picks = [sample_window(w, info.pts_s, info.frame_rate, 10.0) for w in compute_windows(info.num_frames, 20, 10)]
    for sampled in read_windows(path, info, picks, threads=1):
        rollup = Path("/proc/self/smaps_rollup").read_text()
        yield sampled.frames, 1024 * int(rollup.split("Pss_Anon:")[1].split()[0])
        del sampled


def killed_once(marker: str) -> str:
    """As by a kernel that lacks memory for a moment."""
    if not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def orphaned_once(marker: str) -> str:
    """As by a kernel that has ended the process which this one was forked from."""
    if not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(3600)
    return "done"


def misbehave(item: str) -> Iterator[str]:
    """Yield once, then do what the item says."""
    yield "first"
    match item:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "crash":
            ctypes.string_at(0)
        case "hang":
            time.sleep(3600)
        case "clip":
            raise ClipError("a clip", "it is broken")
        case "bug":
            raise KeyError("a bug")
        case "memory":
            np.ones(1 << 40, np.uint8)
    yield "second"


@dataclass(frozen=True)
class Clip:
    """A task on a clip, with as much work as it says."""

    location: str
    work: int = 0


def hang(task: Clip, reading: Reading) -> Iterator[str]:
    time.sleep(3600)
    yield "never"


def tell(task: Clip, reading: Reading) -> Iterator[object]:
    """The process, and how it reads."""
    yield os.getpid(), reading


def meet(task: Clip, reading: Reading) -> Iterator[tuple[float, float]]:
    """When it began and ended, in seconds of the clock of all processes. Ends when as many as its work have begun."""
    began = time.monotonic()
    Path(task.location).touch()
    while len(os.listdir(Path(task.location).parent)) < task.work and time.monotonic() < began + 120:
        time.sleep(0.01)
    time.sleep(0.1)
    yield began, time.monotonic()


def pid(_: int) -> int:
    return os.getpid()


def shared_memories(_: object) -> int:
    """How many pieces of shared memory this worker holds."""
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    ours = [link for link in links if os.path.lexists(link) and "memfd:" in os.readlink(link)]
    return len({os.stat(link).st_ino for link in ours})  # a mapping holds a descriptor of its own


def fetch_and_die(task: Clip, reading: Reading) -> Iterator[str]:
    """End while a copy is there."""
    with open_clip(task.location, reading):
        os.kill(os.getpid(), signal.SIGKILL)
    yield "never"


def kept_copy(task: Clip, reading: Reading) -> Iterator[str]:
    with open_clip(task.location, reading) as clip:
        yield os.path.realpath(clip.local)


def packages(_: object) -> set[str]:
    """Top-level packages that this process has imported."""
    return {name.partition(".")[0] for name in sys.modules}
