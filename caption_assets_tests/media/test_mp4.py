"""Window files: exactly the window's frames, at their true times, copied where that is possible."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from caption_assets.errors import ClipError
from caption_assets.media import mp4
from caption_assets.media.decode import probe, read_windows
from caption_assets.media.mp4 import cut_window_mp4, sampled_mp4, write_mp4
from caption_assets.records import FramePicks, SampledFrames, Window
from caption_assets_tests.media.coded import CLIPS, read

BY_NAME = {clip.name: clip for clip in CLIPS}


def codes(path: Path) -> list[int | None]:
    info = probe(str(path))
    (sampled,) = read_windows(str(path), info, [FramePicks(tuple(range(info.num_frames)), tuple(info.pts_s))])
    return [read(frame) for frame in sampled.frames]


def plays_in_browsers(data: bytes) -> None:
    with av.open(io.BytesIO(data)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.codec.canonical_name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(
    ("name", "window", "copied"),
    [
        ("h264_closed.mp4", Window(0, 59), True),
        ("h264_closed.mp4", Window(3, 59), False),
        ("h264_closed.mp4", Window(0, 30), False),
        ("h264_open.mp4", Window(20, 39), False),
        ("h264_open.mkv", Window(7, 31), False),
        ("uneven_h264.mp4", Window(10, 50), False),
        ("uneven_h264.mp4", Window(0, 19), False),
        ("uneven_h264.mp4", Window(20, 39), False),
        ("dropped.mp4", Window(5, 19), False),
        ("h264.avi", Window(10, 50), False),
        ("hevc.mp4", Window(0, 59), False),
        ("h264_10bit.mp4", Window(0, 59), False),
        ("cut_edit.mp4", Window(5, 30), False),
        ("late.mkv", Window(0, 59), True),
        ("rotated_90.mp4", Window(0, 30), False),
        ("odd_vp9.webm", Window(0, 30), False),
        ("two_videos.mkv", Window(0, 59), True),
        ("cover.mp4", Window(5, 15), False),
    ],
)
def test_the_frames_of_the_window_and_no_others(
    name: str, window: Window, copied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = BY_NAME[name]
    path = clip.make(tmp_path)
    info = probe(str(path))
    encoded = []
    encode = mp4._encode
    monkeypatch.setattr(mp4, "_encode", lambda *given: (encoded.append(1), encode(*given)))
    cut = tmp_path / "window.mp4"
    cut.write_bytes(cut_window_mp4(str(path), info, window))
    assert (not encoded) == copied
    plays_in_browsers(cut.read_bytes())
    if clip.rotation == 0:
        assert codes(cut) == [clip.numbers[k] for k in range(window.start_frame, window.end_frame + 1)]
    made = probe(str(cut))
    assert made.num_frames == window.num_frames
    assert (made.display_width, made.display_height) == (
        info.display_width + info.display_width % 2 * (not copied),
        info.display_height + info.display_height % 2 * (not copied),
    )
    times = info.pts_s[window.start_frame : window.end_frame + 1] - info.pts_s[window.start_frame]
    assert made.pts_s == pytest.approx(times, abs=1e-3)
    end_s = np.append(info.pts_s, info.pts_s[0] + info.duration_s)[window.end_frame + 1]
    with av.open(str(cut)) as container:
        seconds = [container.duration / 1e6, float(container.streams[0].duration * container.streams[0].time_base)]
    assert seconds == pytest.approx([end_s - info.pts_s[window.start_frame]] * 2, abs=2e-3)


def test_a_closed_group_in_the_middle_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_mp4(str(path), (np.full((48, 64, 3), k % 256, np.uint8) for k in range(600)), Fraction(25))
    info = probe(str(path))
    assert info.keyframe_ids is not None
    _, first, stop, *_ = info.keyframe_ids.tolist()
    data = cut_window_mp4(str(path), info, Window(first, stop - 1))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data)
    made = probe(str(cut))
    assert made.num_frames == stop - first
    assert made.pts_s[0] == 0.0
    with av.open(str(path)) as whole, av.open(str(cut)) as part:
        packets = [bytes(p) for p in whole.demux(video=0) if p.size][first:stop]
        assert [bytes(p) for p in part.demux(video=0) if p.size] == packets


def test_a_broken_clip_says_so(tmp_path: Path) -> None:
    path = BY_NAME["mjpeg.mov"].make(tmp_path)
    info = probe(str(path))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 8
    data[start : start + 20_000] = bytes(20_000)
    path.write_bytes(data)
    with pytest.raises(ClipError, match="cannot be decoded"):
        cut_window_mp4(str(path), info, Window(0, 20))


@pytest.mark.parametrize("shape", [(49, 65), (48, 64), (2, 2), (721, 1281)])
def test_rendered_clips_of_any_size(shape: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    colour = np.array([200, 60, 90], np.uint8)
    write_mp4(str(path), (np.broadcast_to(colour, (*shape, 3)) for _ in range(5)), Fraction(24000, 1001), crf=10)
    info = probe(str(path))
    assert (info.height, info.width) == (shape[0] + shape[0] % 2, shape[1] + shape[1] % 2)
    assert (info.num_frames, info.frame_rate) == (5, Fraction(24000, 1001))
    (sampled,) = read_windows(str(path), info, [FramePicks((2,), (0.0,))])
    assert np.abs(sampled.frames[0].astype(int) - colour).max() <= 3
    plays_in_browsers(path.read_bytes())


def test_sampled_frames_become_a_file_with_their_times() -> None:
    times = (0.0, 0.467, 0.967, 1.4, 2.033, 2.5)
    frames = np.stack([np.full((56, 84, 3), (40 * k, 90, 200 - 30 * k), np.uint8) for k in range(6)])
    data = sampled_mp4(SampledFrames(frames, FramePicks((3, 17, 32, 45, 64, 78), times)))
    with av.open(io.BytesIO(data)) as container:
        shown = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert [time for time, _ in shown] == pytest.approx(times, abs=1e-4)
    assert np.abs(np.stack([image for _, image in shown]).astype(int) - frames).max() <= 4
