"""What a WebVTT file says, and when. Bytes in."""

import html
import io
import re
from dataclasses import dataclass

import av

# By the standard (https://www.w3.org/TR/webvtt1/): a cue's spans, and times within it. Any other angle is a text's own.
_TAG = re.compile(r"</?(?:c|i|b|u|v|ruby|rt|lang)(?:\.[^\s<>]*)?(?:\s[^<>]*)?>|<(?:\d{2,}:)?\d{2}:\d{2}\.\d{3}>")
_FIRST_LINE = re.compile(r"WEBVTT([ \t].*)?")
# Times stand in the first line of a block, or in the second, below a name.
_CUE = re.compile(r"(?<=\n\n)(?:(?!.*-->).+\n)?.*-->")


@dataclass(frozen=True, slots=True)
class Cue:
    """A text that is shown from `start_s` until `end_s`, in seconds of the clip; without tags, as plain lines."""

    start_s: float
    end_s: float
    text: str


def cues(data: bytes) -> list[Cue]:
    """The cues of a WebVTT file, in their order; none where it holds none. Raises ValueError for what is none: no
    UTF-8, without the first line of one, or with times that are none."""
    lines = data.decode("utf-8-sig").splitlines()
    if not lines or not _FIRST_LINE.fullmatch(lines[0]):
        raise ValueError("it is no WebVTT: its first line is not WEBVTT")
    try:
        with av.open(io.BytesIO(data), "r", format="webvtt") as container:
            (stream,) = container.streams
            # Neither the stream nor its packets are there any more once the file is closed.
            base = float(stream.time_base or 1)
            packets = ((packet.pts, packet.duration or 0, bytes(packet)) for packet in container.demux(stream))
            found = [(pts * base, duration * base, text) for pts, duration, text in packets if pts is not None]
    except av.FFmpegError as error:
        raise ValueError(f"it is no WebVTT ({error})") from None
    if len(found) < len(_CUE.findall("\n".join(lines))) or any(lasts_s < 0 for _, lasts_s, _ in found):
        raise ValueError("it is no WebVTT: the times of a cue are none")
    return [Cue(start_s, start_s + lasts_s, _plain(text.decode())) for start_s, lasts_s, text in found if text]


def _plain(text: str) -> str:
    return html.unescape(_TAG.sub("", text)).strip()
