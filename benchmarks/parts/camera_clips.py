"""Clips as cameras write them: of a real or a busy picture, under noise, at a camera's bit rate."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.parts.sides import ffmpeg
from caption_assets.media.probe import probe

SECONDS, RATE = 8, 30
_REAL = "city_10s.mp4"
_GENERATED = "mandelbrot=s=1280x720:r=30:start_scale=0.02:end_scale=0.004:end_pts=300:maxiter=400"
# A phone or an action camera refers back only, and has a key frame a second; an editor writes what x264 and x265 do of
# themselves, frames that none refers to among it. Neither may take the noise for cuts, with a key frame at each.
_KEYS = {"camera": (str(RATE), "0"), "edited": ("250", "3")}
_CODECS = {
    "h264": ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-sc_threshold", "0"),
    "hevc": ("-c:v", "libx265", "-preset", "veryfast", "-pix_fmt", "yuv420p10le", "-x265-params"),
}
_X265 = "log-level=error:scenecut=0:open-gop=0"


@dataclass(frozen=True)
class Size:
    """A size of pictures, with the bit rate at which cameras write it."""

    width: int
    height: int
    mbit: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


SIZES = {"720p": Size(1280, 720, 8), "1080p": Size(1920, 1080, 20), "4k": Size(3840, 2160, 60)}
KINDS, CODECS = tuple(_KEYS), tuple(_CODECS)


def camera_clip(work: Path, videos: Path, size: Size, codec: str, kind: str) -> Path:
    """A clip of 240 frames, kept in `work`. Raises RuntimeError where its bit rate or its key frames are not those that
    were wanted.
    """
    real = videos / _REAL
    made_of = "real" if real.exists() else "generated"
    path = work / f"{made_of}-{size}-{codec}-{kind}.mp4"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        source = ("-stream_loop", "-1", "-i", str(real)) if real.exists() else ("-f", "lavfi", "-i", _GENERATED)
        # The rate is the pictures' own, played at 30 a second: none is there twice.
        frames = f"setpts=N/{RATE}/TB,scale={size.width}:{size.height}:flags=lanczos,noise=alls=8:allf=t"
        rate = ("-b:v", f"{size.mbit}M", "-maxrate", f"{size.mbit}M", "-bufsize", f"{size.mbit / 2}M")
        distance, b_frames = _KEYS[kind]
        unfinished = path.with_suffix(".part")
        count = ("-r", str(RATE), "-frames:v", str(SECONDS * RATE), "-an", "-sn")
        ffmpeg(
            *source, "-map", "0:v:0", "-vf", frames, *_CODECS[codec], *([_X265] if codec == "hevc" else []),
            *rate, "-g", distance, "-keyint_min", distance, "-bf", b_frames, *count, "-f", "mp4", "-y", str(unfinished),
        )  # fmt: skip
        unfinished.rename(path)
    if not 0.85 < mbit(path) / size.mbit < 1.15:
        raise RuntimeError(f"{path} has {mbit(path):.1f} Mbit/s instead of {size.mbit}: remove it and try again")
    keys = probe(str(path)).keyframe_ids
    if keys is None or len(keys) != -(-SECONDS * RATE // int(_KEYS[kind][0])):
        raise RuntimeError(f"the key frames of {path} are {keys}: remove it and try again")
    return path


def mbit(path: Path) -> float:
    """Mbit a second of a clip of ours."""
    return path.stat().st_size * 8 / SECONDS / 1e6
