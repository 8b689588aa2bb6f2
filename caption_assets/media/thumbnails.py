"""Small copies of previews, for where a picture must be part of a text."""

import io

from PIL import Image, ImageSequence

from caption_assets.media.webp import animate

_QUALITY = 40
_FRAME_MS = 1000


def thumbnail(webp: bytes, height: int, most_bytes: int) -> bytes | None:
    """An animated WebP at most `height` pixels high, of at most `most_bytes`; it lasts as long as the given one.

    Where all frames are too much, fewer of them stand for the whole of it. None for what is no WebP, or does not fit.
    """
    try:
        with Image.open(io.BytesIO(webp), formats=["WEBP"]) as picture:
            height = min(height, picture.height)
            size = (max(1, round(picture.width * height / picture.height)), height)
            stills, durations = [], []
            for frame in ImageSequence.Iterator(picture):
                stills.append(_still(frame.convert("RGB").resize(size, Image.Resampling.LANCZOS)))
                durations.append(frame.info.get("duration") or _FRAME_MS)
    except (OSError, ValueError, SyntaxError, EOFError):  # somebody has damaged the file since
        return None
    for every in range(1, len(stills) + 1):
        lasts = [sum(durations[at : at + every]) for at in range(0, len(stills), every)]
        made = animate(stills[::every], lasts)
        if len(made) <= most_bytes:
            return made
    return None


def _still(frame: Image.Image) -> bytes:
    """Every frame whole: Pillow's own animations leave out what differs little from the frame before, so that traces
    of what has moved away stay behind."""
    data = io.BytesIO()
    frame.save(data, "WEBP", quality=_QUALITY, method=4)
    return data.getvalue()
