"""Damaged clips: files with bits turned, parts cut off, zeroed, doubled or taken from elsewhere, and what becomes of
them in the workers' own tasks."""

import random
import resource
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from caption_assets.errors import CaptionAssetsError, ClipError
from caption_assets.media.files import Reading
from caption_assets.models.requests import caption_request
from caption_assets.records import Preview, VideoInfo
from caption_assets.settings import DecodeLimits, PreviewSettings, WindowSettings
from caption_assets.workers.tasks import (
    CaptionTask,
    PlannedWindow,
    PlanTask,
    Prepared,
    PreviewTask,
    WantedFrames,
    caption_clip,
    plan_clip,
    preview_clip,
)
from caption_assets_tests.media.shown import by_ffmpeg, by_us, unlike

LIMITS = DecodeLimits(
    max_frame_pixels=1 << 22,
    max_clip_seconds=86_400,
    max_clip_frames=20_000,
    max_decode_seconds=20,
    max_window_bytes=1 << 28,
)
WINDOWS = WindowSettings(window_size=25, remainder_threshold=12, sampling_fps=5.0, max_sampled_frames=32)
PREVIEWS = PreviewSettings(target_fps=2.0, target_height=48, compression_level=1, max_frames=16, num_cpus_per_worker=1)
HOW = ("turned bits", "noise", "zeroes", "cut off", "cut out", "doubled", "spliced")


@dataclass(frozen=True)
class Damage:
    """One damaged copy of a clip, as `seed` says; parts of `other` are put into it."""

    path: str
    other: str
    seed: int

    def apply(self) -> bytes:
        """The bytes of the damaged copy."""
        data = bytearray(Path(self.path).read_bytes())
        rng = random.Random(f"{Path(self.path).name} {self.seed}")
        how = rng.choice(HOW)
        # From a single byte to a fifth of the file, anywhere.
        length = max(1, min(len(data), rng.choice([1, 4, 50, 1000, len(data) // 100, len(data) // 5])))
        at = rng.randrange(len(data) - length + 1)
        part = slice(at, at + length)
        if how == "turned bits":
            for _ in range(min(length, 200)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif how == "noise":
            data[part] = rng.randbytes(length)
        elif how == "zeroes":
            data[part] = bytes(length)
        elif how == "cut off":
            del data[rng.randrange(1, len(data)) :]
        elif how == "cut out":
            del data[part]
        elif how == "doubled":
            data[at:at] = data[part]
        else:
            others = Path(self.other).read_bytes()
            start = rng.randrange(len(others))
            data[part] = others[start : start + length]
        return bytes(data)


def damages(paths: Sequence[Path], count: int, seed: int = 0) -> Iterator[Damage]:
    """`count` damaged copies, of all paths in turn; `seed` gives others."""
    rng = random.Random(seed)
    for k in range(count):
        yield Damage(str(paths[k % len(paths)]), str(rng.choice(paths)), rng.randrange(1 << 32))


@dataclass
class Found:
    """What became of a damaged clip."""

    windows: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """Files, previews and requests that were made, or the kinds of error in their place."""
    compared: int = 0
    """Frames that ffmpeg shows without complaint, and that were compared."""
    bugs: list[str] = field(default_factory=list)
    peak_bytes: int = 0


def examine(damage: Damage) -> Found:
    """Plan a damaged clip, preview it, make requests of it, and compare its frames with ffmpeg's."""
    found = Found()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(damage.path).name
        path.write_bytes(damage.apply())
        planned = _go_over(str(path), damage.seed % 2 == 0, found)
        _compare(path, planned, found)
    found.peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found


def _go_over(path: str, both: bool, found: Found) -> bool | str:
    """Whether the clip has been planned, or the kind of error why not."""
    reading = Reading(LIMITS)
    try:
        settings = WINDOWS.model_copy(update={"store_window_mp4": both})
        info, *planned = plan_clip(PlanTask(path, settings), reading)
    except ClipError as error:
        found.outcomes[error.kind] += 1
        return error.kind
    assert isinstance(info, VideoInfo)
    windows = [window for window in planned if isinstance(window, PlannedWindow)]
    found.windows = len(windows)
    if not windows:
        return True
    shown = tuple(window.window for window in windows)
    asked = CaptionTask(
        path,
        info.content_hash,
        tuple(WantedFrames(w.window, w.picks, (84, 56)) for w in windows),
        {window: caption_request(str(window), "What happens?", None, 16) for window in shown},
        None,
        previews=shown if both else (),
        preview_settings=PREVIEWS if both else None,
    )
    found.outcomes.update(getattr(w.mp4, "kind", "file") for w in windows if w.mp4 is not None)
    _count(caption_clip(asked, reading), found, (2 if both else 1) * len(windows))
    if not both:
        _count(preview_clip(PreviewTask(path, info.content_hash, shown, PREVIEWS), reading), found, len(windows))
    return True


def _count(results: Iterator[object], found: Found, expected: int) -> None:
    """Count what comes, by kind; an error that ends it is that of all that is left."""
    outcomes = 0
    try:
        for result in results:
            made = result[1] if isinstance(result, tuple) else result.request if isinstance(result, Prepared) else None
            if made is None:
                continue  # warnings
            outcomes += 1
            kind = getattr(made, "kind", "preview" if isinstance(made, Preview) else "request")
            found.outcomes[kind] += 1
    except CaptionAssetsError as error:
        found.outcomes[error.kind] += expected - outcomes
        outcomes = expected
        if error.kind not in ("limit", "timeout"):
            found.bugs.append(f"a clip that was planned ends with: {error}")
    if outcomes != expected:
        found.bugs.append(f"{outcomes} outcomes, {expected} were asked for")


def _compare(path: Path, planned: bool | str, found: Found) -> None:
    try:
        theirs = by_ffmpeg(path)
    except (subprocess.TimeoutExpired, ValueError):
        return
    # Where times were damaged, they and the order that frames come in say different things.
    if theirs.complaints or not len(theirs.frames) or (np.diff(theirs.times_s) <= 0).any():
        return
    if isinstance(planned, str):
        if planned not in ("limit", "timeout", "not_video", "encrypted"):
            found.bugs.append(f"we find it {planned}, ffmpeg shows {len(theirs.frames)} frames")
        return
    _, ours, lost = by_us(path, limits=LIMITS)
    found.compared = len(theirs.frames)
    # In a frame that cannot be decoded, a decoder can leave the picture that its memory had before: that is one frame.
    _, mistaken = unlike(ours, theirs.frames)
    if len(ours) != found.compared or len(mistaken) > 1:
        read = f"we read {len(ours)} frames and lose {len(lost)}, ffmpeg shows {found.compared}"
        found.bugs.append(f"{read}; numbered wrongly: {mistaken[:5]}")
