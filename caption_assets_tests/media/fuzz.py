"""Damaged clips: truncated files and files with random bytes changed, and what becomes of them."""

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from caption_assets.errors import ClipError
from caption_assets.media.decode import DecodeLimits, probe, read_windows
from caption_assets.media.sampling import sample_window
from caption_assets.media.windows import compute_windows

CUTS = 20
LIMITS = DecodeLimits(max_frame_pixels=1 << 22, max_clip_seconds=86_400, max_clip_frames=100_000, max_decode_seconds=20)


@dataclass(frozen=True)
class Damage:
    """One damaged copy of a clip: cut off after `cut` 21sts of it, or with bytes changed as `seed` says."""

    path: str
    cut: int | None = None
    seed: int = 0

    def apply(self, data: bytes) -> bytes:
        if self.cut is not None:
            return data[: len(data) * self.cut // (CUTS + 1)]
        rng = random.Random(f"{Path(self.path).name} {self.seed}")
        damaged = bytearray(data)
        # From a single byte to a hundredth of the file, anywhere, in half of the cases in a row.
        count = rng.choice([1, 2, 5, 20, max(1, len(data) // 100)])
        start = rng.randrange(len(data))
        for k in range(count):
            at = (start + k) % len(data) if self.seed % 2 else rng.randrange(len(data))
            damaged[at] = rng.randrange(256)
        return bytes(damaged)


def damages(paths: Sequence[Path], seeds: int) -> Iterator[Damage]:
    """Every path cut at 20 places and changed `seeds` times."""
    for path in paths:
        for cut in range(1, CUTS + 1):
            yield Damage(str(path), cut=cut)
        for seed in range(seeds):
            yield Damage(str(path), seed=seed)


def survive(damage: Damage) -> tuple[int, int, str, str]:
    """Windows planned, windows read, and the kind and text of the last error ("" for none)."""
    with tempfile.NamedTemporaryFile(suffix=Path(damage.path).suffix) as file:
        file.write(damage.apply(Path(damage.path).read_bytes()))
        file.flush()
        planned = done = 0
        lost: ClipError | None = None
        try:
            info = probe(file.name, LIMITS)
            windows = compute_windows(info.num_frames, 16, 8)
            planned = len(windows)
            picks = [sample_window(w, info.pts_s, info.frame_rate, 5.0) for w in windows]
            for sampled in read_windows(file.name, info, picks, size=(84, 56), threads=1, limits=LIMITS):
                if isinstance(sampled, ClipError):
                    lost = sampled
                    continue
                assert sampled.frames.shape[1:] == (56, 84, 3)
                done += 1
        except ClipError as error:
            lost = error
        if lost is not None:
            return planned, done, lost.kind, str(lost)
        return planned, done, "", info.problem
