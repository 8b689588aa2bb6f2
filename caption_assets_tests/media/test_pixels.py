"""Colour, orientation and size of decoded frames."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from caption_assets.media.decode import probe, read_windows
from caption_assets.records import FramePicks
from caption_assets_tests.media import coded
from caption_assets_tests.media.coded import ffmpeg

# Six patches, three by two.
PATCHES = np.array(
    [[[200, 40, 40], [40, 180, 60], [50, 60, 200]], [[230, 230, 230], [128, 128, 128], [20, 20, 20]]], np.uint8
)
H264 = "-c:v libx264 -crf 10 -pix_fmt yuv420p"
FORMATS = {
    "h264": (H264, "mp4"),
    "h264_10bit": ("-c:v libx264 -crf 10 -pix_fmt yuv420p10le", "mp4"),
    "h264_444": ("-c:v libx264 -crf 10 -pix_fmt yuv444p", "mkv"),
    "hevc_10bit": ("-c:v libx265 -crf 10 -pix_fmt yuv420p10le -x265-params log-level=error", "mp4"),
    "vp9": ("-c:v libvpx-vp9 -crf 10 -pix_fmt yuv420p -deadline realtime -cpu-used 8", "webm"),
}


def write(path: Path, image: np.ndarray, arguments: str, frames: int = 5) -> str:
    height, width, _ = image.shape
    source = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r 25 -i pipe:0".split()
    ffmpeg([*source, *arguments.split(), str(path)], image.tobytes() * frames)
    return str(path)


def first_frame(path: str, size: tuple[int, int] | None = None) -> np.ndarray:
    (sampled,) = read_windows(path, probe(path), [FramePicks((0,), (0.0,))], size=size)
    return sampled.frames[0]


def centres(frame: np.ndarray, rows: int, columns: int) -> np.ndarray:
    height, width, _ = frame.shape
    return np.array(
        [
            [frame[(2 * r + 1) * height // (2 * rows), (2 * c + 1) * width // (2 * columns)] for c in range(columns)]
            for r in range(rows)
        ]
    ).astype(int)


@pytest.mark.parametrize(("name", "matrix", "levels"), [*itertools.product(FORMATS, ("bt601", "bt709"), ("tv", "pc"))])
@pytest.mark.parametrize("size", [None, (60, 40), (300, 200)], ids=["as_it_is", "smaller", "larger"])
def test_colours_are_within_three_levels(
    name: str, matrix: str, levels: str, size: tuple[int, int] | None, tmp_path: Path
) -> None:
    encode, container = FORMATS[name]
    image = PATCHES.repeat(60, axis=0).repeat(60, axis=1)
    tag = {"bt601": "smpte170m", "bt709": "bt709"}[matrix]
    path = write(
        tmp_path / f"patches.{container}",
        image,
        f"-vf scale=out_color_matrix={matrix}:out_range={levels}:flags=accurate_rnd+full_chroma_int "
        f"-colorspace {tag} -color_range {levels} {encode}",
    )
    assert np.abs(centres(first_frame(path, size), 2, 3) - PATCHES).max() <= 3


@pytest.mark.parametrize(("size", "matrix"), [("640x360", "bt601"), ("1280x720", "bt709")])
def test_untagged_colours_are_those_that_players_show(size: str, matrix: str, tmp_path: Path) -> None:
    width, height = map(int, size.split("x"))
    image = PATCHES.repeat(height // 2, axis=0).repeat(width // 3 + 1, axis=1)[:, :width]
    path = write(tmp_path / "patches.mp4", image, f"-vf scale=out_color_matrix={matrix}:out_range=tv {H264}")
    assert np.abs(centres(first_frame(path), 2, 3) - PATCHES).max() <= 3


def test_motion_jpeg_is_full_range(tmp_path: Path) -> None:
    image = PATCHES.repeat(60, axis=0).repeat(60, axis=1)
    path = write(tmp_path / "patches.avi", image, "-vf scale=out_range=pc -c:v mjpeg -q:v 1 -pix_fmt yuvj444p")
    assert np.abs(centres(first_frame(path), 2, 3) - PATCHES).max() <= 3


@pytest.mark.parametrize("pixels", ["gray", "gbrp", "bgr24"])
def test_pixels_that_are_no_yuv(pixels: str, tmp_path: Path) -> None:
    patches = PATCHES if pixels != "gray" else PATCHES.mean(axis=2, keepdims=True).repeat(3, axis=2).astype(np.uint8)
    image = patches.repeat(60, axis=0).repeat(60, axis=1)
    codec = {"gray": "ffv1", "gbrp": "ffv1", "bgr24": "png"}[pixels]
    path = write(tmp_path / "patches.mkv", image, f"-c:v {codec} -pix_fmt {'rgb24' if codec == 'png' else pixels}")
    assert np.abs(centres(first_frame(path), 2, 3) - patches).max() <= 3


@pytest.mark.parametrize("turn", ["0", "90", "180", "270", "-hflip", "-vflip", "90 -hflip", "270 -vflip"])
def test_orientation_is_that_of_ffmpeg_itself(turn: str, tmp_path: Path) -> None:
    image = np.zeros((96, 160, 3), np.uint8)
    image[:30, :50], image[60:, 100:], image[:30, 100:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    whole, turned = tmp_path / "whole.mp4", tmp_path / "turned.mp4"
    write(whole, image, H264)
    degrees, _, flip = turn.partition(" ") if not turn.startswith("-") else ("0", "", turn)
    flips = [f"-display_{flip[1:]}:v:0"] if flip else []
    ffmpeg(["-display_rotation:v:0", degrees, *flips, "-i", str(whole), "-c", "copy", str(turned)])
    picture = tmp_path / "frame.rgb"
    ffmpeg(["-i", str(turned), "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", str(picture)])
    info = probe(str(turned))
    shown = np.fromfile(picture, np.uint8).reshape(info.display_height, info.display_width, 3)
    assert np.abs(first_frame(str(turned)).astype(int) - shown).mean() < 2


def test_frames_are_contiguous_uint8_of_the_size_asked_for(tmp_path: Path) -> None:
    clip = coded.Coded("clip.mp4", "-c:v libx264 -pix_fmt yuv420p").make(tmp_path)
    info = probe(str(clip))
    (sampled,) = read_windows(str(clip), info, [FramePicks((0, 9, 30), (0.0, 0.36, 1.2))], size=(83, 61))
    assert sampled.frames.shape == (3, 61, 83, 3)
    assert sampled.frames.dtype == np.uint8
    assert sampled.frames.flags.c_contiguous


def test_shrinking_averages_areas(tmp_path: Path) -> None:
    stripes = np.zeros((128, 256, 3), np.uint8)
    stripes[:, ::2] = 255  # as fine as pixels go: their mean is grey, a sample is black or white
    path = write(tmp_path / "stripes.mkv", stripes, "-c:v ffv1 -pix_fmt yuv444p")
    frame = first_frame(path, (64, 32))
    assert frame.mean() == pytest.approx(127.5, abs=2)
    assert frame.std() < 4
