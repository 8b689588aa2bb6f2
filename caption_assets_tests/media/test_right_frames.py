"""Every picked frame is the planned one, at its true time, upright: clips carry their frame number in their pixels."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from caption_assets.media.decode import decode_frames, probe, read_windows
from caption_assets.media.reader import FastReader
from caption_assets.media.sampling import sample_window
from caption_assets.media.windows import compute_windows
from caption_assets.records import FramePicks
from caption_assets_tests.media.coded import CLIPS, RATE, Coded, draw, ffmpeg, read

CASES = {clip.name: clip for clip in CLIPS}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("coded")


def made(clip: Coded, folder: Path) -> Path:
    path = folder / clip.name
    return path if path.exists() else clip.make(folder)


def stored(frame: np.ndarray, clip: Coded) -> np.ndarray:
    """The frame as it was before the player turned it clockwise."""
    return np.rot90(frame, clip.rotation // 90)


@pytest.mark.parametrize("name", CASES)
def test_probe_tells_every_frame_and_its_time(name: str, folder: Path) -> None:
    clip = CASES[name]
    info = probe(str(made(clip, folder)))
    assert info.codec == clip.codec
    assert info.num_frames == len(clip.numbers)
    assert (info.width, info.height) == clip.size
    assert (info.display_width, info.display_height) == (clip.display or clip.size)
    assert info.rotation == clip.rotation
    assert info.problem == ""
    times = clip.times_s or [k / RATE for k in range(len(clip.numbers))]
    assert info.pts_s - info.pts_s[0] == pytest.approx(np.array(times), abs=1.1e-3)
    if clip.times_s is None:
        assert info.frame_rate == Fraction(RATE)
        assert info.duration_s == pytest.approx(len(clip.numbers) / RATE)
    if clip.start_s is not None:
        assert info.pts_s[0] == pytest.approx(clip.start_s, abs=0.05)


@pytest.mark.parametrize("name", CASES)
def test_each_frame_that_is_read_is_the_planned_one(name: str, folder: Path) -> None:
    clip = CASES[name]
    path = str(made(clip, folder))
    info = probe(path)
    windows = compute_windows(info.num_frames, 20, 8)
    picks = [sample_window(w, info.pts_s, info.frame_rate, 5.0) for w in windows]
    for pick, sampled in zip(picks, read_windows(path, info, picks), strict=True):
        assert sampled.frames.shape == (len(pick.frame_ids), info.display_height, info.display_width, 3)
        assert [read(stored(frame, clip)) for frame in sampled.frames] == [clip.numbers[k] for k in pick.frame_ids]


@pytest.mark.parametrize("name", CASES)
def test_lone_frames_anywhere_are_the_planned_ones(name: str, folder: Path) -> None:
    # Every frame by itself and far ones together: jumps land on key frames, and leading frames are not mistaken.
    clip = CASES[name]
    path = str(made(clip, folder))
    info = probe(path)
    last = info.num_frames - 1
    for ids in [(k,) for k in range(0, last, 7)] + [(1, last), (last // 2, last // 2 + 1), (0, last - 1)]:
        picks = FramePicks(ids, tuple(info.pts_s[list(ids)]))
        (sampled,) = read_windows(path, info, [picks], size=(64, 80) if clip.rotation % 180 else (80, 64))
        assert [read(stored(frame, clip)) for frame in sampled.frames] == [clip.numbers[k] for k in ids], ids


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1000 frames with a key frame every 50."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    frames = b"".join(draw(k % 256, 64, 64).tobytes() for k in range(1000))
    source = "-f rawvideo -pix_fmt gray -s 64x64 -r 25 -i pipe:0"
    ffmpeg(f"{source} -c:v libx264 -preset veryfast -g 50 -pix_fmt yuv420p {path}".split(), frames)
    return path


@pytest.mark.parametrize("ids", [(0, 999), (700,), (10, 11, 500, 501, 502, 990), (49, 50, 449, 450, 850)])
def test_what_nobody_wants_is_jumped_over(ids: Sequence[int], long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packets = 0
    decode = FastReader._decode

    def counted(self: FastReader, packet: object) -> list:
        nonlocal packets
        packets += 1
        return decode(self, packet)  # type: ignore[arg-type]

    monkeypatch.setattr(FastReader, "_decode", counted)
    info = probe(str(long))
    found = {
        frame_id: read(frame.to_ndarray(format="rgb24")) for frame_id, frame in decode_frames(str(long), info, ids)
    }
    assert found == {k: k % 256 for k in ids}
    assert packets <= 70 * len(ids)


def test_of_intra_coded_clips_only_the_picks_are_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    decode = FastReader._decode
    monkeypatch.setattr(FastReader, "_decode", lambda self, packet: (seen.append(packet.pts), decode(self, packet))[1])
    path = str(made(CASES["mjpeg.mov"], folder))
    assert [k for k, _ in decode_frames(path, probe(path), [3, 30, 31])] == [3, 30, 31]
    assert len([pts for pts in seen if pts is not None]) == 3
