"""The WebP container: still pictures to an animation, and what an animation holds.

Format: RFC 9649. A file is RIFF chunks; an animation has VP8X, ANIM and one ANMF chunk a frame.

Why not leave it to others: ffmpeg's own muxer, as fast and with the same pixels, makes a lone frame a still without a
duration, says that there is alpha, and is a millisecond off at rates such as 23.976; its libwebp_anim and Pillow merge
equal frames and take ten times as long (2.0 and 1.9 s in place of 0.2 s for 11 frames of 427x240).
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAX_SIDE = 16383  # of a VP8 frame, in pixels


class WebpFormatError(ValueError):
    """Bytes that are not the WebP they should be."""


@dataclass(frozen=True, slots=True)
class WebpFrame:
    """One frame of an animation: its pixels' size and how long it is shown, in milliseconds."""

    width: int
    height: int
    duration_ms: int


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        name, (size,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        if at + 8 + size > len(data):
            raise WebpFormatError(f"chunk {name!r} is cut off")
        yield name, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    if at != len(data):
        raise WebpFormatError(f"{len(data) - at} bytes are left over")


def split_stills(data: bytes) -> list[bytes]:
    """Split WebP files that were written one after the other, as ffmpeg's image2pipe does."""
    stills, at = [], 0
    while at < len(data):
        if data[at : at + 4] != b"RIFF" or data[at + 8 : at + 12] != b"WEBP":
            raise WebpFormatError(f"no WebP file starts at byte {at}")
        size = 8 + struct.unpack_from("<I", data, at + 4)[0]
        if at + size > len(data):
            raise WebpFormatError(f"the WebP file at byte {at} is cut off")
        stills.append(data[at : at + size])
        at += size
    return stills


def _image(data: bytes) -> tuple[bytes, int, int]:
    """The image chunk of a still (with its header), and its width and height in pixels."""
    for name, body in _chunks(data):
        if name == b"VP8 " and len(body) >= 10 and body[3:6] == b"\x9d\x01\x2a":
            width, height = struct.unpack_from("<HH", body, 6)
            return _chunk(name, body), width & 0x3FFF, height & 0x3FFF
        if name == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
            bits = struct.unpack_from("<I", body, 1)[0]
            return _chunk(name, body), (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise WebpFormatError("it holds no picture")


def animate(stills: Sequence[bytes], durations_ms: Sequence[int]) -> bytes:
    """Put opaque stills of one size together as an animation that loops without end.

    Every still becomes one whole frame: equal neighbours stay apart. Raises WebpFormatError for stills that cannot
    be read or differ in size.
    """
    images = [_image(still[12:]) for still in stills]
    sizes = {(width, height) for _, width, height in images}
    if len(sizes) != 1:
        raise WebpFormatError(f"the frames have sizes {sorted(sizes)}")
    width, height = sizes.pop()
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = _chunk(b"VP8X", struct.pack("<I", 0x02) + size)  # the animation flag alone: no alpha
    body += _chunk(b"ANIM", struct.pack("<IH", 0xFFFFFFFF, 0))  # white behind, 0: loop without end
    for (image, _, _), duration in zip(images, durations_ms, strict=True):
        # At (0, 0), over the whole canvas, replacing what was there.
        body += _chunk(b"ANMF", bytes(6) + size + struct.pack("<I", duration)[:3] + b"\x02" + image)
    return _chunk(b"RIFF", b"WEBP" + body)


def read_animation(data: bytes) -> tuple[WebpFrame, ...]:
    """The frames of an animation, by its chunks and the headers of its pictures. Raises WebpFormatError."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or struct.unpack_from("<I", data, 4)[0] + 8 != len(data):
        raise WebpFormatError("it is no complete WebP file")
    frames = []
    for name, body in _chunks(data[12:]):
        if name == b"ANMF":
            if len(body) < 16:
                raise WebpFormatError("a frame is cut off")
            _, width, height = _image(body[16:])
            frames.append(WebpFrame(width, height, int.from_bytes(body[12:15], "little")))
    return tuple(frames)
