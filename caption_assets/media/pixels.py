"""Decoded frames to RGB arrays: colour, orientation, pixel aspect and size, in one conversion."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

_DISPLAY_MATRIX = "DISPLAYMATRIX"
# Without these, swscale rounds each step on the way to RGB and colours drift by several levels.
_EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
_SHRINK = Interpolation.AREA | _EXACT
_ENLARGE = Interpolation.BICUBIC | _EXACT

# AVColorSpace of a frame -> matrix that swscale is to use.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
_FULL_RANGE = 2


@dataclass(frozen=True, slots=True)
class Orientation:
    """How stored pixels become upright ones: first swap the axes, then mirror."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @property
    def rotation(self) -> int:
        """Degrees clockwise, 0/90/180/270; of a mirrored picture, the turn that is left beside the mirroring."""
        if self.transpose:
            return 90 if self.mirror_x else 270
        return 180 if self.mirror_y else 0

    def apply(self, image: np.ndarray) -> np.ndarray:
        """View of an (H, W, 3) image, upright."""
        if self.transpose:
            image = image.transpose(1, 0, 2)
        return image[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]


def frame_orientation(frame: VideoFrame) -> Orientation:
    """Orientation by the frame's display matrix, to the nearest quarter turn."""
    data: Any = frame.side_data.get(_DISPLAY_MATRIX)
    if data is None:
        return Orientation()
    # Rows of the matrix act on (x, y) as a row vector, in 16.16 fixed point: x' = ax + cy, y' = bx + dy.
    a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
    if abs(b) > abs(a):
        return Orientation(True, mirror_x=c < 0, mirror_y=b < 0)
    return Orientation(False, mirror_x=a < 0, mirror_y=d < 0)


def _matrix(frame: VideoFrame) -> Colorspace:
    known = _MATRICES.get(int(frame.colorspace))
    if known is not None:
        return known
    # Untagged: what players do, as cameras and encoders leave the tag out of HD video.
    return Colorspace.ITU709 if frame.width >= 1280 or frame.height > 576 else Colorspace.ITU601


def _range(frame: VideoFrame) -> ColorRange:
    full = int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith("yuvj")
    return ColorRange.JPEG if full else ColorRange.MPEG


class RgbConverter:
    """Converts the frames of one stream. Keeps swscale's tables between frames; not to be shared by threads."""

    def __init__(self, size: tuple[int, int]) -> None:
        """`size` is (width, height) of the upright result in square pixels."""
        self.size = size
        self._reformatter = VideoReformatter()

    def into(self, frame: VideoFrame, out: np.ndarray) -> None:
        """Write `frame` into `out`, uint8 RGB of shape (height, width, 3)."""
        orientation = frame_orientation(frame)
        width, height = self.size[::-1] if orientation.transpose else self.size
        shrinks = width <= frame.width and height <= frame.height
        is_rgb = frame.format.is_rgb
        rgb = self._reformatter.reformat(
            frame,
            width,
            height,
            "rgb24",
            interpolation=_SHRINK if shrinks else _ENLARGE,
            src_colorspace=None if is_rgb else _matrix(frame),
            src_color_range=None if is_rgb else _range(frame),
            dst_color_range=ColorRange.JPEG,
        )
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, : width * 3]
        out[:] = orientation.apply(rows.reshape(height, width, 3))
