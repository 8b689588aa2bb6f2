"""What the outermost structure of a file tells: which kind it is, and how long it should be."""

import os
import struct
from typing import BinaryIO

_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"styp", b"moof", b"sidx", b"uuid", b"meta", b"mfra")
MOST_PARTS = 1_000_000
"""Parts of a file, one behind the other, that are looked at; a day of fragments has a fifth of it."""
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
# AVI that was written to a pipe has one of several sizes that no file has: all bits set, or nearly.
_UNKNOWN = 0xFFFFFF00


# What is found under a video's name, by its first bytes (at an offset).
_OTHERS = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (8, b"WEBP", "a WebP picture"),
    (0, b"BM", "a BMP picture"),
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftyphei", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIF picture"),
    (8, b"WAVE", "a WAV sound"),
    (0, b"ID3", "an MP3 sound"),
    (0, b"fLaC", "a FLAC sound"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"version https://git-lfs", "a Git LFS pointer"),
)


def is_boxes(head: bytes) -> bool:
    """Whether a file that starts so is an mp4 or mov."""
    return head[4:8] in _BOXES


def is_ebml(head: bytes) -> bool:
    """Whether a file that starts so is Matroska or WebM."""
    return head[:4] == b"\x1aE\xdf\xa3"


def looks_like_video(local: str) -> bool:
    """Whether the file starts like mp4, mov, Matroska, WebM or AVI."""
    head = _head(local)
    return is_boxes(head) or is_ebml(head) or (head[:4] == b"RIFF" and head[8:11] == b"AVI")


def other_format(local: str) -> str:
    """What the file is instead of a video, by its first bytes, as "a PNG picture"; empty where that is not known."""
    head = _head(local)
    return next((name for at, start, name in _OTHERS if head[at:].startswith(start)), "")


def _head(local: str) -> bytes:
    try:
        with open(local, "rb") as file:
            return file.read(32)
    except OSError:
        return b""


def missing_bytes(file: BinaryIO, size: int) -> int:
    """How many bytes a file of `size` bytes lacks of what its container says; 0 where it lacks none or does not say."""
    file.seek(0)
    head = file.read(12)
    if is_boxes(head):
        end = _boxes_end(file, size)
    elif is_ebml(head):
        end = _segment_end(file)
    elif head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        length = struct.unpack("<I", head[4:8])[0]
        end = 8 + length if length < _UNKNOWN else 0
    else:
        end = 0
    return max(0, end - size)


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last top-level box of an mp4 or mov ends."""
    at = 0
    for _ in range(MOST_PARTS):
        if at + 8 > size:
            return at
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        if name not in _BOXES:
            return 0  # something else follows the video; it is not ours to judge
        if length == 1:
            large = file.read(8)
            length = struct.unpack(">Q", large)[0] if len(large) == 8 else 16
        if length < 8:  # 0: up to the end of the file
            return 0
        at += length
    return 0


def _segment_end(file: BinaryIO) -> int:
    """Where the segment of a Matroska file ends; 0 where its size was left open, as in live recordings."""
    file.seek(0)
    if ebml_number(file, keep_marker=True)[0] != _EBML:
        return 0
    length, known = ebml_number(file)
    file.seek(length, os.SEEK_CUR)
    if not known or ebml_number(file, keep_marker=True)[0] != _SEGMENT:
        return 0
    length, known = ebml_number(file)
    return file.tell() + length if known else 0


def ebml_number(file: BinaryIO, keep_marker: bool = False) -> tuple[int, bool]:
    """An EBML number of variable length, and whether it is one (all ones mean unknown)."""
    first = file.read(1)
    if not first or first[0] == 0:
        return 0, False
    extra = 8 - first[0].bit_length()
    rest = file.read(extra)
    value = int.from_bytes(first + rest, "big")
    mask = (1 << 7 * (extra + 1)) - 1
    if keep_marker:
        return value, True
    return value & mask, value & mask != mask and len(rest) == extra
