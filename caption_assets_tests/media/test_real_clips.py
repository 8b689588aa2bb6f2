"""Real clips, read in place; skipped where they are not there."""

import io
import subprocess
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from caption_assets.media.decode import probe, read_windows
from caption_assets.media.previews import render_previews
from caption_assets.media.sampling import sample_window
from caption_assets.media.windows import compute_windows
from caption_assets.records import Preview
from caption_assets.settings import PreviewSettings

VIDEOS = Path(__file__).parents[3] / "shared" / "videos"
pytestmark = pytest.mark.skipif(not VIDEOS.is_dir(), reason=f"the real clips are not there ({VIDEOS})")

# frames, rate, size, codec, windows of 256 frames with threshold 128, picks at 2 frames a second
CLIPS = {
    "av1.mkv": (125, Fraction(25), (640, 360), "av1", 1, [10]),
    "bikes.mp4": (250, Fraction(25), (640, 272), "h264", 1, [20]),
    "bottles.mp4": (1189, Fraction(179, 6), (640, 360), "h264", 5, [18, 18, 18, 18, 12]),
    "cars.mp4": (377, Fraction(25, 2), (768, 432), "h264", 1, [60]),
    "city_10s.mp4": (240, Fraction(24), (854, 480), "h264", 1, [20]),
    "cosmos_30s.mp4": (720, Fraction(24), (854, 480), "h264", 3, [22, 22, 18]),
    "h264_10bit.mp4": (30, Fraction(30), (200, 200), "h264", 1, [4]),
    "hevc.mp4": (10, Fraction(10), (128, 128), "hevc", 1, [4]),
    "nasa.mp4": (325, Fraction(25), (320, 180), "h264", 1, [26]),
    "realshort.mp4": (36, Fraction(45000, 1499), (320, 240), "h264", 1, [4]),
}


@pytest.mark.parametrize("name", CLIPS)
def test_windows_picks_and_frames(name: str) -> None:
    frames, rate, size, codec, num_windows, counts = CLIPS[name]
    path = str(VIDEOS / name)
    info = probe(path)
    assert (info.num_frames, info.frame_rate, (info.width, info.height), info.codec) == (frames, rate, size, codec)
    assert info.problem == ""
    windows = compute_windows(info.num_frames, 256, 128)
    assert len(windows) == num_windows
    picks = [sample_window(w, info.pts_s, info.frame_rate, 2.0) for w in windows]
    assert [len(pick.frame_ids) for pick in picks] == counts
    read = list(read_windows(path, info, picks))
    assert [sampled.frames.shape[0] for sampled in read] == counts
    # ffmpeg itself, asked for some of the same frame numbers of the last window.
    every = max(1, counts[-1] // 4)
    numbers = picks[-1].frame_ids[::every]
    chosen = "+".join(f"eq(n\\,{k})" for k in numbers)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough"]
    command += ["-vf", f"select={chosen}", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    expected = np.frombuffer(raw, np.uint8).reshape(-1, *read[-1].frames.shape[1:])
    assert np.abs(read[-1].frames[::every].astype(np.int16) - expected).mean(axis=(1, 2, 3)).max() < 5


@pytest.mark.parametrize(
    ("name", "size", "counts"), [("cosmos_30s.mp4", (427, 240), [11, 11, 9]), ("bikes.mp4", (565, 240), [10])]
)
def test_previews_are_those_of_the_reference(name: str, size: tuple[int, int], counts: list[int]) -> None:
    path = str(VIDEOS / name)
    info = probe(path)
    windows = compute_windows(info.num_frames, 256, 128)
    made = [preview for _, preview in render_previews(path, info, windows, PreviewSettings())]
    assert all(isinstance(preview, Preview) for preview in made)
    images = [Image.open(io.BytesIO(preview.data)) for preview in made if isinstance(preview, Preview)]
    assert [image.n_frames for image in images] == counts
    assert {image.size for image in images} == {size}
    for image in images:
        image.load()
    assert {image.info["duration"] for image in images} == {1000}
