"""Datasets of many small clips, and where what is made of them is kept: what `benchmarks.growth` measures on."""

import contextlib
import multiprocessing
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from benchmarks.servers import serve
from caption_assets.media.mp4 import write_mp4

_DIFFERENT_CLIPS = 8
WIDTH, HEIGHT = 64, 48


@dataclass(frozen=True)
class Size:
    """Of a dataset: so many shards of so many clips."""

    shards: int
    each: int

    @property
    def clips(self) -> int:
        return self.shards * self.each

    def __str__(self) -> str:
        return f"{self.shards}x{self.each}"


class Place:
    """Where a dataset of one size is, and what is made of it."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.size = size
        self.folder = folder / str(size)
        self.clips, self.out, self.home = (self.folder / name for name in ("clips", "out", "home"))

    def make(self) -> None:
        """The clips: a few real ones, each time with other bytes in a box that players skip."""
        if (self.folder / "made").exists():
            return
        shutil.rmtree(self.clips, ignore_errors=True)
        self.home.mkdir(parents=True, exist_ok=True)
        queued = "run_coordinator: {module: dagster, class: QueuedRunCoordinator}\n"
        (self.home / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{queued}")
        different = [_clip(self.folder / "one.mp4", seed) for seed in range(_DIFFERENT_CLIPS)]
        number = 0
        for shard in range(self.size.shards):
            (folder := self.clips / f"shard-{shard:05d}").mkdir(parents=True)
            for clip in range(self.size.each):
                own = struct.pack(">I4sQ", 16, b"free", number)
                (folder / f"{clip:06d}.mp4").write_bytes(different[number % len(different)] + own)
                number += 1
        (self.folder / "made").touch()

    def figures(self, stage: str) -> Path:
        """Where they are kept."""
        return self.folder / f"{stage}.json"

    def forget(self) -> None:
        """Makes the Dagster instance new."""
        for path in self.home.iterdir():
            if path.name != "dagster.yaml":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    @property
    def stored(self) -> int:
        """Bytes of Dagster's storage."""
        return sum(path.stat().st_size for path in self.home.rglob("*") if path.is_file())

    @property
    def environment(self) -> dict[str, str]:
        """Of the deployment that has this dataset, and an output of its own."""
        return {
            "CAPTION_ASSETS_DATASET": str(self.clips),
            "CAPTION_ASSETS_OUTPUT": str(self.folder / "run"),
            "CAPTION_ASSETS_ENGINE": "openai",
            "CAPTION_ASSETS_VARIANT": "demo",
            "CAPTION_ASSETS_PREVIEW_TARGET_HEIGHT": str(HEIGHT),
            "DAGSTER_HOME": str(self.home),
        }


def _clip(path: Path, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    frames = (rng.integers(0, 40, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(24))
    write_mp4(str(path), frames, Fraction(24))
    return path.read_bytes()


@contextlib.contextmanager
def answering() -> Iterator[str]:
    """The address of a server that answers at once, in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(1, 0.0, there), daemon=True)
    process.start()
    try:
        (address,) = here.recv()
        yield address
    finally:
        process.kill()
