"""Clips that carry their frame number in their pixels, in every format that is claimed to work.

A frame is a grid of 4 by 4 black or white blocks: eight bits of the number, and the same eight inverted. Read in the
wrong orientation, or from a mixture of two frames, it gives another number or none.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import imageio_ffmpeg
import numpy as np

ODD = Path(__file__).parent / "odd"
"""Files that cannot be made here; see `test_odd_files`."""
WIDTH, HEIGHT, FRAMES = 160, 128, 60
RATE = 25
# Uneven times in milliseconds: every third frame stays half as long again, and there is one gap of a second.
UNEVEN_MS = [40 * k + 20 * (k // 3) + (1000 if k >= 40 else 0) for k in range(FRAMES)]


def draw(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Grey picture of a number, uint8 of shape (height, width)."""
    bits = [number >> k & 1 for k in range(8)]
    cells = np.array(bits + [1 - bit for bit in bits], np.uint8).reshape(4, 4) * 255
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    return cells[np.ix_(rows, columns)]


def read(image: np.ndarray) -> int | None:
    """The number in an (H, W, 3) picture; None where it is no sound code."""
    height, width, _ = image.shape
    centres = [
        image[int((r + 0.35) * height / 4) : int((r + 0.65) * height / 4) + 1, int((c + 0.35) * width / 4) :][
            :, : max(1, width // 12)
        ].mean()
        for r in range(4)
        for c in range(4)
    ]
    bits = [int(value > 127) for value in centres]
    if any(60 < value < 195 for value in centres) or any(a == b for a, b in zip(bits[:8], bits[8:], strict=True)):
        return None
    return sum(bit << k for k, bit in enumerate(bits[:8]))


@dataclass(frozen=True)
class Coded:
    """A generated clip: how it is made, and what must come out of it.

    `encode` are ffmpeg's arguments after the raw input, `remux` those of a second run that copies the result.
    `numbers` are the codes of the frames that are shown, `times_s` when, after the first (None: constant rate).
    """

    name: str
    encode: str
    remux: str = ""
    before_remux: str = ""
    size: tuple[int, int] = (WIDTH, HEIGHT)
    display: tuple[int, int] | None = None
    rotation: int = 0
    frames: int = FRAMES
    numbers: Sequence[int] = field(default_factory=lambda: range(FRAMES))
    times_s: Sequence[float] | None = None
    start_s: float | None = None
    codec: str = "h264"
    cover: bool = False

    def make(self, folder: Path) -> Path:
        """Write the clip below `folder`."""
        path = folder / self.name
        width, height = self.size
        first = path if not self.remux else folder / f"whole_{self.name}"
        raw = b"".join(draw(k, width, height).tobytes() for k in range(self.frames))
        source = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width}x{height}", "-r", str(RATE), "-i", "pipe:0"]
        ffmpeg([*source, *self.encode.split(), str(first)], raw)
        if self.cover:
            ffmpeg(["-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", str(folder / "cover.png")])
        if self.remux:
            ffmpeg(
                [
                    *self.before_remux.split(),
                    "-i",
                    str(first),
                    *self.remux.replace("COVER", str(folder / "cover.png")).split(),
                    str(path),
                ]
            )
        return path


def ffmpeg(arguments: Sequence[str], data: bytes = b"") -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-nostdin", *arguments]
    done = subprocess.run(command, input=data, capture_output=True)
    assert done.returncode == 0, (command, done.stderr.decode())


def joined(path: Path, coded: str, lengths: Sequence[int]) -> Path:
    """Write parts of so many frames, each encoded alone with a clock of its own, and joined byte by byte. HALF in
    `coded` is half a frame in seconds, and 0 for the first part."""
    source, at, data = f"-f rawvideo -pix_fmt gray -s {WIDTH}x{HEIGHT} -r {RATE} -i pipe:0 -pix_fmt yuv420p", 0, b""
    for length in lengths:
        raw = b"".join(draw(at + k).tobytes() for k in range(length))
        ffmpeg([*source.split(), *coded.replace("HALF", str(bool(at) * 0.5 / RATE)).split(), str(path)], raw)
        at, data = at + length, data + path.read_bytes()
    path.write_bytes(data)
    return path


_UNEVEN = "settb=1/1000,setpts=40*N+20*floor(N/3)+1000*gte(N\\,40)"
_VFR = f"-vf {_UNEVEN} -fps_mode passthrough -enc_time_base 1/1000"
_X264 = "-c:v libx264 -pix_fmt yuv420p -preset veryfast -bf 3 -g 20"
_OPEN = _X264 + " -x264-params open-gop=1:b-pyramid=normal:scenecut=0"
_X265 = "-c:v libx265 -pix_fmt yuv420p -preset veryfast -g 20 -x265-params log-level=error:open-gop=1:bframes=3"
_AV1 = "-c:v libsvtav1 -pix_fmt yuv420p -preset 12 -crf 30 -g 20 -svtav1-params tile-columns=0"
_VP9 = (
    "-c:v libvpx-vp9 -pix_fmt yuv420p -deadline realtime -cpu-used 8 -b:v 400k -g 20 -auto-alt-ref 1 -lag-in-frames 8"
)
_MPEG4 = "-c:v mpeg4 -q:v 3 -bf 2 -g 20"
_MJPEG = "-c:v mjpeg -q:v 3 -pix_fmt yuvj420p"
_TWO = "-filter_complex [0:v]split[a][b];[b]negate,scale=64:64[c] -map [a] -map [c]"
_UNEVEN_S = [ms / 1000 for ms in UNEVEN_MS]


def _rotated(degrees: int, container: str = "mp4") -> Coded:
    turned = degrees in (90, 270)
    return Coded(
        f"rotated_{degrees}.{container}",
        _X264,
        before_remux=f"-display_rotation:v:0 {-degrees}",
        remux="-c copy",
        display=(HEIGHT, WIDTH) if turned else None,
        rotation=degrees,
    )


CLIPS = [
    *(Coded(f"h264_open.{c}", _OPEN) for c in ("mp4", "mov", "mkv")),
    Coded("h264_closed.mp4", _X264),
    Coded("h264.avi", _X264),
    Coded("h264_interlaced.mp4", _X264 + " -flags +ildct+ilme"),
    Coded("h264_intra_refresh.mp4", _X264 + " -x264-params intra-refresh=1:bframes=0"),
    *(Coded(f"hevc.{c}", _X265, codec="hevc") for c in ("mp4", "mov", "mkv")),
    *(Coded(f"av1.{c}", _AV1, codec="av1") for c in ("mp4", "mkv", "webm")),
    *(Coded(f"vp9.{c}", _VP9, codec="vp9") for c in ("webm", "mkv", "mp4")),
    Coded("vp8.webm", "-c:v libvpx -b:v 400k -g 20 -auto-alt-ref 1 -lag-in-frames 8 -deadline good", codec="vp8"),
    *(Coded(f"mpeg4.{c}", _MPEG4, codec="mpeg4") for c in ("avi", "mp4", "mkv", "mov")),
    Coded("packed.avi", "-c:v libxvid -q:v 2 -bf 1 -g 20", codec="mpeg4", numbers=range(59)),
    *(Coded(f"mjpeg.{c}", _MJPEG, codec="mjpeg") for c in ("avi", "mov", "mkv")),
    # Variable rate.
    *(Coded(f"uneven_h264.{c}", f"{_VFR} {_OPEN}", times_s=_UNEVEN_S) for c in ("mp4", "mkv", "mov")),
    Coded("uneven_vp9.webm", f"{_VFR} {_VP9}", codec="vp9", times_s=_UNEVEN_S),
    Coded("uneven_av1.mkv", f"{_VFR} {_AV1}", codec="av1", times_s=_UNEVEN_S),
    Coded("uneven_hevc.mp4", f"{_VFR} {_X265}", codec="hevc", times_s=_UNEVEN_S),
    # Frames 20 to 29 dropped: the times have a gap. Frames repeated: one number is shown several times.
    Coded(
        "dropped.mp4",
        f"-vf select='not(between(n\\,20\\,29))' -fps_mode passthrough {_X264}",
        numbers=[*range(20), *range(30, 60)],
        times_s=[k / RATE for k in (*range(20), *range(30, 60))],
    ),
    Coded(
        "dropped.avi",
        f"-vf select='not(between(n\\,20\\,29))' -fps_mode passthrough {_MPEG4} -bf 0",
        numbers=[*range(20), *range(30, 60)],
        times_s=[k / RATE for k in (*range(20), *range(30, 60))],
        codec="mpeg4",
    ),
    Coded(
        "repeated.mp4",
        f"-vf fps=50 {_X264}",
        numbers=[k // 2 for k in range(120)],
        times_s=[k / 50 for k in range(120)],
    ),
    # Times that do not start at zero, and edit lists.
    Coded("late.mkv", _X264, before_remux="-itsoffset 1.5", remux="-c copy", start_s=1.5),
    Coded("late_edit.mp4", _X264, before_remux="-itsoffset 1.5", remux="-c copy", start_s=1.5),
    Coded("cut_edit.mp4", _X264, before_remux="-ss 1.0", remux="-c copy", numbers=range(25, 60)),
    Coded("cut_open.mkv", _OPEN, before_remux="-ss 1.0", remux="-c copy", numbers=range(20, 60)),
    # Orientation and shape.
    *(_rotated(degrees) for degrees in (0, 90, 180, 270)),
    _rotated(90, "mov"),
    Coded("odd_h264.mp4", "-c:v libx264 -pix_fmt yuv444p -bf 3", size=(161, 127)),
    Coded("odd_vp9.webm", _VP9, size=(161, 127), codec="vp9"),
    Coded("odd_mjpeg.avi", "-c:v mjpeg -q:v 3 -pix_fmt yuvj444p", size=(161, 127), codec="mjpeg"),
    Coded("wide_pixels.mp4", f"-vf setsar=4/3 {_X264}", display=(213, HEIGHT)),
    Coded("narrow_pixels.mkv", f"-vf setsar=3/4 {_X264}", display=(120, HEIGHT)),
    # Depth and range.
    Coded("h264_10bit.mp4", "-c:v libx264 -pix_fmt yuv420p10le -bf 3 -g 20"),
    Coded("hevc_10bit.mkv", _X265.replace("yuv420p", "yuv420p10le"), codec="hevc"),
    Coded("vp9_10bit.webm", _VP9.replace("yuv420p", "yuv420p10le") + " -profile:v 2", codec="vp9"),
    Coded("av1_10bit.mkv", _AV1.replace("yuv420p", "yuv420p10le"), codec="av1"),
    Coded("full_range.mp4", f"-vf scale=out_range=pc -color_range pc {_X264}"),
    # Several streams: the first video is the clip.
    Coded("two_videos.mp4", f"{_TWO} {_X264}"),
    Coded("two_videos.mkv", f"{_TWO} {_X264}"),
    Coded("cover.mp4", _X264, remux="-i COVER -map 1 -map 0 -c copy -disposition:v:0 attached_pic", cover=True),
    Coded("cover.mov", _X264, remux="-i COVER -map 0 -map 1 -c copy -disposition:v:1 attached_pic", cover=True),
    Coded("cover.mkv", _X264, remux="-attach COVER -metadata:s:t mimetype=image/png -c copy", cover=True),
]

# Codecs and containers in which packets and frames may differ.
SCREEN = [
    "msrle.avi",
    "msvideo1.avi",
    "cinepak.avi",
    "cinepak.mov",
    "zmbv.avi",
    "flashsv.avi",
    "flashsv.mkv",
    "qtrle.mov",
    "rpza.mov",
    "huffyuv.avi",
    "utvideo.mkv",
    "ffv1.mkv",
    "mpeg2video.mkv",
    "wmv2.avi",
    "h263p.mov",
    "libtheora.mkv",
    "png.mov",
]


def still(folder: Path, name: str) -> Path:
    """Makes a clip that is called as its codec and container are.

    Each number is shown four times: screen codecs write little or nothing for the last three.
    """
    raw = b"".join(draw(k - k % 4).tobytes() for k in range(FRAMES))
    source = "-f rawvideo -pix_fmt gray -s 160x128 -r 25 -i pipe:0"
    ffmpeg([*source.split(), "-c:v", Path(name).stem, "-q:v", "2", str(folder / name)], raw)
    return folder / name
