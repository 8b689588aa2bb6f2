"""How long a file should be, by its outermost structure: tells a file that was cut off from one that is short."""

import os
import struct
from typing import BinaryIO

_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"styp", b"moof", b"sidx", b"uuid", b"meta", b"mfra")
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067


def looks_like_video(local: str) -> bool:
    """Whether the file starts like mp4, mov, Matroska, WebM or AVI."""
    try:
        with open(local, "rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return head[4:8] in _BOXES or head[:4] == b"\x1aE\xdf\xa3" or (head[:4] == b"RIFF" and head[8:11] == b"AVI")


def missing_bytes(file: BinaryIO, size: int) -> int:
    """How many bytes a file of `size` bytes lacks of what its container says; 0 where it lacks none or does not say."""
    file.seek(0)
    head = file.read(12)
    if head[4:8] in _BOXES:
        end = _boxes_end(file, size)
    elif head[:4] == b"\x1aE\xdf\xa3":
        end = _segment_end(file)
    elif head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        end = 8 + struct.unpack("<I", head[4:8])[0]
    else:
        end = 0
    return max(0, end - size)


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last top-level box of an mp4 or mov ends."""
    at = 0
    while at + 8 <= size:
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
    return at


def _segment_end(file: BinaryIO) -> int:
    """Where the segment of a Matroska file ends; 0 where its size was left open, as in live recordings."""
    file.seek(0)
    if _number(file, keep_marker=True)[0] != _EBML:
        return 0
    length, known = _number(file)
    file.seek(length, os.SEEK_CUR)
    if not known or _number(file, keep_marker=True)[0] != _SEGMENT:
        return 0
    length, known = _number(file)
    return file.tell() + length if known else 0


def _number(file: BinaryIO, keep_marker: bool = False) -> tuple[int, bool]:
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
