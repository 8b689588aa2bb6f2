"""What the ffmpeg program shows of a file, and where what we read of it differs.

Frames are compared in order, as small grey pictures: neighbours that were mixed up, lost or read twice differ, another
rule for colours does not.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from caption_assets.errors import ClipError
from caption_assets.media.decode import DecodeLimits, decode_frames, probe
from caption_assets.media.pixels import RgbConverter
from caption_assets.records import VideoInfo

SIZE = (64, 48)
_FRAMES, _SECONDS = 20_000, 60.0
# Levels of 255 by which two decoders and scalers may differ: on average over a frame, and over a 48th of it.
_FRAME_ALIKE, _BLOCK_ALIKE = 12.0, 90.0
# By which the same frame differs where nothing is wrong with it.
_SAME = 4.0
# ffmpeg's threads write at once, so that lines may be mixed up; the scaler warns of formats that are sound.
_COMPLAINTS = re.compile(r"\[(?:error|fatal|panic)\].*|(?<!swscaler) @ 0x[0-9a-f]+\] \[warning\].*|.*corrupt.*")


@dataclass(frozen=True)
class Shown:
    """Grey frames of shape (T, 48, 64), their times in seconds, and the lines in which ffmpeg complains."""

    frames: np.ndarray
    times_s: np.ndarray
    complaints: list[str]


def by_ffmpeg(path: Path | str) -> Shown:
    """All frames of the first video stream that is no cover, as they come out of one decoder thread."""
    width, height = SIZE
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-nostats", "-v", "level+info"]
    command += ["-threads", "1", "-copyts", "-i", str(path), "-map", "0:V:0", "-fps_mode", "passthrough"]
    command += ["-vf", f"showinfo,scale={width}:{height}:flags=area,format=gray", "-frames:v", str(_FRAMES)]
    done = subprocess.run([*command, "-f", "rawvideo", "pipe:1"], capture_output=True, timeout=_SECONDS)
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width)
    said = done.stderr.decode(errors="replace").splitlines()
    times = [float(found[1]) for line in said if (found := re.search(r" n: *\d+ pts: *\S+ pts_time:(-?[\d.]+)", line))]
    return Shown(frames, np.array(times[: len(frames)]), [c[0] for line in said if (c := _COMPLAINTS.search(line))])


def by_us(
    path: Path | str, threads: int = 1, limits: DecodeLimits | None = None
) -> tuple[VideoInfo, dict[int, np.ndarray], list[ClipError]]:
    """What `probe` says, the frames that can be read, grey and by number, and why the others cannot."""
    info = probe(str(path), limits)
    converter, image = RgbConverter(SIZE), np.empty((SIZE[1], SIZE[0], 3), np.uint8)
    frames: dict[int, np.ndarray] = {}
    lost: list[ClipError] = []
    for frame_id, frame in decode_frames(str(path), info, range(info.num_frames), threads=threads, limits=limits):
        if isinstance(frame, ClipError):
            lost.append(frame)
            continue
        converter.into(frame, image)
        frames[frame_id] = (image @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)
    return info, frames, lost


def unlike(ours: dict[int, np.ndarray], theirs: np.ndarray) -> tuple[list[int], list[int]]:
    """Numbers of the frames that are not as the ones of the same place, and of those among them that are like a
    neighbour of it: of a damaged frame, two decoders need not make the same."""
    other, mistaken = [], []
    for place, (frame_id, mine) in enumerate(list(ours.items())[: len(theirs)]):
        near = range(max(0, place - 2), min(len(theirs), place + 3))
        apart = {k: np.abs(mine.astype(int) - theirs[k]) for k in near}
        nearest = min(near, key=lambda k: (apart[k].mean() - 0.5 * (k == place), k))
        if nearest != place or not _alike(apart[place]):
            other.append(frame_id)
            if nearest != place and apart[nearest].mean() <= _SAME:
                mistaken.append(frame_id)
    return other, mistaken


def _alike(apart: np.ndarray) -> bool:
    blocks = apart.reshape(6, SIZE[1] // 6, 8, SIZE[0] // 8).mean(axis=(1, 3))
    return bool(apart.mean() <= _FRAME_ALIKE and blocks.max() <= _BLOCK_ALIKE)


def differences(path: Path | str, threads: int = 1) -> list[str]:
    """In what our reading of a file is not what ffmpeg shows; empty where it is."""
    theirs = by_ffmpeg(path)
    info, frames, lost = by_us(path, threads=threads)
    found = [str(error) for error in lost]
    if len(frames) != len(theirs.frames):
        found.append(f"we read {len(frames)} frames, ffmpeg shows {len(theirs.frames)}")
    wrong, _ = unlike(frames, theirs.frames)
    if wrong:
        found.append(f"other frames: {wrong[:5]}, {len(wrong)} in all")
    ours_s = info.pts_s[list(frames)][: len(theirs.times_s)]
    apart = np.abs((ours_s - ours_s[:1]) - (theirs.times_s - theirs.times_s[:1])[: len(ours_s)])
    if len(apart) and apart.max() > 2e-3:
        found.append(f"frame {int(apart.argmax())} is shown {apart.max():.3f} s apart")
    return found
