"""What probing found out about a clip, as a few bytes to keep: some hundred, whatever its length, at a steady rate."""

import json
import zlib
from dataclasses import asdict, fields
from fractions import Fraction
from typing import Any

import numpy as np

from caption_assets.records import Crop, VideoInfo

_VERSION = 1
_INTEGERS = ("<i1", "<i2", "<i4", "<i8")
_ARRAYS = ("pts_s", "keyframe_ids")


def pack(info: VideoInfo) -> bytes | None:
    """What `unpack` makes the very same of; None where it could not, as times are no multiples of the time base."""
    named = {field.name: getattr(info, field.name) for field in fields(info) if field.name not in _ARRAYS}
    named |= {name: str(named[name]) for name in ("frame_rate", "time_base")} | {
        "crop": list(asdict(info.crop).values())
    }
    ticks = np.rint(info.pts_s / float(info.time_base)).astype(np.int64)
    if not np.array_equal(_seconds(ticks, info.time_base), info.pts_s):
        return None
    times = _steps(ticks)
    keys = None if info.keyframe_ids is None else _steps(info.keyframe_ids)
    head = {"version": _VERSION, "times": times.dtype.str, "keys": keys is not None and keys.dtype.str, "info": named}
    lines = [
        json.dumps({**head, "frames": len(times)}).encode(),
        times.tobytes() + (b"" if keys is None else keys.tobytes()),
    ]
    return zlib.compress(b"\n".join(lines), 9)


def unpack(data: bytes) -> VideoInfo | None:
    """What was packed; None where this version cannot read it."""
    try:
        head, _, arrays = zlib.decompress(data).partition(b"\n")
        known: dict[str, Any] = json.loads(head)
        if known["version"] != _VERSION:
            return None
        named = known["info"]
        named |= {name: Fraction(named[name]) for name in ("frame_rate", "time_base")} | {"crop": Crop(*named["crop"])}
        times = np.frombuffer(arrays, known["times"], known["frames"])
        keys = np.frombuffer(arrays, known["keys"], offset=times.nbytes).cumsum() if known["keys"] else None
        ticks = times.cumsum(dtype=np.int64)
        return VideoInfo(**named, pts_s=_seconds(ticks, named["time_base"]), keyframe_ids=keys)
    except (ValueError, KeyError, TypeError, zlib.error):
        return None


def _steps(numbers: np.ndarray) -> np.ndarray:
    """The first number, and from each to the next, in as few bytes as they fit into."""
    steps = np.diff(numbers, prepend=0)
    fits = (np.dtype(kind) for kind in _INTEGERS if np.iinfo(kind).max >= np.abs(steps).max(initial=0))
    return steps.astype(next(fits))


def _seconds(ticks: np.ndarray, time_base: Fraction) -> np.ndarray:
    return ticks * time_base.numerator / time_base.denominator
