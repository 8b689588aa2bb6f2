"""The part of a stored frame that is shown: what mp4 (`clap`) and Matroska (`PixelCrop…`) say of its edges.

The demuxer hands it on as side data of the stream, which PyAV does not give away; the rules here are the demuxer's.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import BinaryIO

from caption_assets.media.containers import MOST_PARTS, ebml_number, is_boxes, is_ebml
from caption_assets.records import Crop

# Boxes with nothing but boxes in them, on the way to a sample entry.
_PATH = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
# What stands in a sample description before its first entry, and in a video's entry before its boxes.
_STSD_HEAD, _ENTRY_HEAD = 8, 78
_MOST_HEADER_BYTES = 256 << 20

_SEGMENT, _TRACKS, _TRACK, _KIND, _VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0x83, 0xE0
_IS_VIDEO = 1
_EDGES = {0x54AA: "bottom", 0x54BB: "top", 0x54CC: "left", 0x54DD: "right"}


@dataclass(frozen=True, slots=True)
class Track:
    """A video stream in its container: its id, and its place among the video streams."""

    track_id: int
    place: int


def container_crop(file: BinaryIO, width: int, height: int, track: Track) -> Crop:
    """What the container crops of stored frames of this size; nothing where it says nothing that makes sense."""
    file.seek(0)
    head = file.read(12)
    try:
        if is_boxes(head):
            crop = _clap(file, width, height, track.track_id)
        elif is_ebml(head):
            crop = _pixel_crop(file, track.place)
        else:
            return Crop()
    except (ValueError, IndexError, ZeroDivisionError):  # a damaged header
        return Crop()
    fits = crop.left + crop.right < width and crop.top + crop.bottom < height
    return crop if fits and min(crop.left, crop.top, crop.right, crop.bottom) >= 0 else Crop()


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    at = 0
    while at + 8 <= len(data):
        length, head = int.from_bytes(data[at : at + 4], "big"), 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if length == 0:
            length = len(data) - at
        if length < head:
            return
        yield bytes(data[at + 4 : at + 8]), data[at + head : at + length]
        at += length


def _moov(file: BinaryIO) -> bytes:
    """The boxes of the movie header, which may stand at the end of the file."""
    at, size = 0, os.fstat(file.fileno()).st_size
    for _ in range(MOST_PARTS):
        if at + 8 > size:
            break
        file.seek(at)
        head = file.read(16)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        start = 16 if length == 1 else 8
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if name == b"moov":
            file.seek(at + start)
            wanted = (length or size - at) - start
            return file.read(max(0, min(wanted, _MOST_HEADER_BYTES)))
        if length < start:
            break
        at += length
    return b""


def _clap(file: BinaryIO, width: int, height: int, track_id: int) -> Crop:
    moov = _moov(file)
    if b"clap" not in moov:
        return Crop()
    for trak in (body for name, body in _boxes(memoryview(moov)) if name == _PATH[1]):
        fields = dict(_boxes(trak))
        version = fields[b"tkhd"][0] if b"tkhd" in fields else 0
        at = 20 if version == 1 else 12
        if int.from_bytes(fields.get(b"tkhd", memoryview(b""))[at : at + 4], "big") != track_id:
            continue
        body = trak
        for name in _PATH[2:]:
            body = dict(_boxes(body)).get(name, memoryview(b""))
        for _, entry in _boxes(dict(_boxes(body)).get(b"stsd", memoryview(b""))[_STSD_HEAD:]):
            aperture = dict(_boxes(entry[_ENTRY_HEAD:])).get(b"clap")
            if aperture is not None:
                return _aperture(aperture, width, height)
            break
    return Crop()


def _aperture(data: memoryview, width: int, height: int) -> Crop:
    """The clean aperture (ISO/IEC 14496-12): a size, and how far its centre is from the frame's, as fractions."""
    numbers = [int.from_bytes(data[k : k + 4], "big", signed=True) for k in range(0, 32, 4)]
    shown_width, shown_height, right, down = (Fraction(n, d) for n, d in zip(numbers[::2], numbers[1::2], strict=True))
    first_x, last_x = (Fraction(width - 1, 2) + right + side * (shown_width - 1) / 2 for side in (-1, 1))
    first_y, last_y = (Fraction(height - 1, 2) + down + side * (shown_height - 1) / 2 for side in (-1, 1))
    return Crop(floor(first_x), floor(first_y), width - 1 - floor(last_x), height - 1 - floor(last_y))


def _elements(file: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """Id and end of each element up to `end`; the file stands at its content."""
    for _ in range(MOST_PARTS):
        if file.tell() >= end:
            return
        name, _ = ebml_number(file, keep_marker=True)
        length, known = ebml_number(file)
        if not name:
            return
        content = file.tell()
        until = min(end, content + length) if known else end
        yield name, until
        file.seek(until)


def _pixel_crop(file: BinaryIO, place: int) -> Crop:
    file.seek(0)
    size, video = os.fstat(file.fileno()).st_size, -1
    for name, segment_end in _elements(file, size):
        if name != _SEGMENT:
            continue
        for part, part_end in _elements(file, segment_end):
            if part != _TRACKS:
                continue
            for track, track_end in _elements(file, part_end):
                if track != _TRACK:
                    continue
                kind, edges = _video_track(file, track_end)
                video += kind == _IS_VIDEO
                if kind == _IS_VIDEO and video == place:
                    return Crop(**edges)
    return Crop()


def _video_track(file: BinaryIO, end: int) -> tuple[int, dict[str, int]]:
    kind, edges = 0, {}
    for name, until in _elements(file, end):
        if name == _KIND:
            kind = int.from_bytes(file.read(until - file.tell()), "big")
        elif name == _VIDEO:
            for field, field_end in _elements(file, until):
                if field in _EDGES:
                    edges[_EDGES[field]] = int.from_bytes(file.read(min(8, field_end - file.tell())), "big")
    return kind, edges
