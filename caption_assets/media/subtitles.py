"""What a WebVTT file says, and when. Bytes in."""

import html
import io
import re
from dataclasses import dataclass

import av

_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True)
class Cue:
    """A text that is shown from `start_s` until `end_s`, in seconds of the clip; without tags, as plain lines."""

    start_s: float
    end_s: float
    text: str


def cues(data: bytes) -> list[Cue]:
    """The cues of a WebVTT file, in their order; none where it holds none. Raises ValueError for what is none."""
    try:
        with av.open(io.BytesIO(data), "r", format="webvtt") as container:
            (stream,) = container.streams
            found = [(packet.pts, packet.duration, bytes(packet)) for packet in container.demux(stream) if packet.size]
    except av.FFmpegError as error:
        raise ValueError(f"it is no WebVTT ({error})") from None
    base = float(stream.time_base or 1)
    return [
        Cue(pts * base, (pts + (duration or 0)) * base, _plain(text))
        for pts, duration, text in found
        if pts is not None
    ]


def _plain(text: bytes) -> str:
    return html.unescape(_TAG.sub("", text.decode("utf-8", "replace"))).strip()
