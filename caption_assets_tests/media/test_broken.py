"""Broken clips: each ends as frames or as an error with its reason, and never takes more than itself along."""

import re
import subprocess
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import fsspec
import imageio_ffmpeg
import numpy as np
import pytest

from caption_assets.errors import ClipError
from caption_assets.media import files
from caption_assets.media.decode import DecodeLimits, decode_frames, probe, read_windows
from caption_assets.media.previews import PreviewSourceError, render_previews
from caption_assets.media.sampling import sample_window
from caption_assets.media.windows import compute_windows
from caption_assets.records import Preview, SampledFrames
from caption_assets.settings import PreviewSettings
from caption_assets.workers.local import Workers
from caption_assets_tests.media import fuzz
from caption_assets_tests.media.coded import CLIPS, FRAMES, RATE, Coded, ffmpeg, read

BY_NAME = {clip.name: clip for clip in CLIPS}
FUZZED = [
    "h264_open.mp4",
    "h264_open.mkv",
    "h264.avi",
    "hevc.mov",
    "av1.mkv",
    "vp9.webm",
    "mpeg4.avi",
    "mjpeg.mov",
    "uneven_h264.mp4",
    "cover.mp4",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("broken")


@pytest.fixture(scope="module")
def sound(folder: Path) -> Path:
    return Coded("sound.mp4", "-c:v libx264 -pix_fmt yuv420p -g 10 -bf 2 -movflags +faststart").make(folder)


def kind_of(path: object, limits: DecodeLimits | None = None) -> str:
    with pytest.raises(ClipError) as caught:
        probe(str(path), limits)
    assert str(path) in str(caught.value)
    return caught.value.kind


def test_files_that_are_no_video(folder: Path) -> None:
    text, empty, picture = folder / "text.mp4", folder / "empty.mp4", folder / "picture.mp4"
    text.write_text("this is no video\n" * 100)
    empty.touch()
    ffmpeg(["-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", "-f", "image2", "-c:v", "png", str(picture)])
    assert kind_of(folder / "nothing.mp4") == "missing"
    assert kind_of(folder) == "missing"
    assert kind_of(text) == "not_video"
    assert kind_of(picture) == "not_video"
    assert kind_of(empty) == "empty_file"


def test_sound_alone_has_no_video_even_with_a_cover(folder: Path) -> None:
    alone, covered = folder / "alone.mp4", folder / "covered.mp4"
    ffmpeg(["-f", "lavfi", "-i", "sine=d=1", str(alone)])
    cover = folder / "cover.png"
    ffmpeg(["-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", str(cover)])
    ffmpeg(["-i", str(alone), "-i", str(cover), "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0",
            "attached_pic", str(covered)])  # fmt: skip
    assert kind_of(alone) == "no_video_stream"
    assert kind_of(covered) == "no_video_stream"


def test_a_playlist_does_not_open_what_it_names(folder: Path, sound: Path) -> None:
    playlist = folder / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXTINF:2,\n{sound}\n#EXT-X-ENDLIST\n")
    assert kind_of(playlist) == "not_video"


def test_a_file_without_its_index_is_truncated(folder: Path) -> None:
    whole = BY_NAME["h264_closed.mp4"].make(folder).read_bytes()
    cut = folder / "cut.mp4"
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    assert kind_of(cut) == "truncated"


@pytest.mark.parametrize("name", ["h264_open.mkv", "vp9.webm", "mpeg4.avi", "sound.mp4"])
def test_a_file_that_is_cut_off_keeps_its_frames_and_says_so(name: str, folder: Path, sound: Path) -> None:
    whole = (sound if name == "sound.mp4" else BY_NAME[name].make(folder)).read_bytes()
    cut = folder / f"cut_{name}"
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    info = probe(str(cut))
    assert 20 < info.num_frames < FRAMES
    assert f"{len(whole) - len(whole) * 2 // 3} of {len(whole)} bytes are missing" in info.problem
    assert f"its last frame is {info.num_frames - 1}" in info.problem
    windows = compute_windows(info.num_frames, 16, 8)
    picks = [sample_window(w, info.pts_s, info.frame_rate, 5.0) for w in windows]
    # Frames are stored in another order than they are shown in: one before the last may be missing, too.
    numbers = [round((t - info.pts_s[0]) * RATE) for t in info.pts_s]
    for pick, sampled in zip(picks, read_windows(str(cut), info, picks), strict=True):
        assert [read(frame) for frame in sampled.frames] == [numbers[k] for k in pick.frame_ids]


@pytest.fixture(scope="module")
def torn(folder: Path) -> Path:
    """A clip whose frames from about number 30 on are noise."""
    whole = bytearray(BY_NAME["mjpeg.mov"].make(folder).read_bytes())
    rng = np.random.default_rng(0)
    start = whole.index(b"mdat") + (len(whole) - whole.index(b"mdat")) // 2
    end = whole.index(b"moov") - 8
    whole[start:end] = rng.integers(0, 255, end - start, np.uint8).tobytes()
    path = folder / "torn.mov"
    path.write_bytes(whole)
    return path


def test_windows_before_the_break_are_kept_and_the_break_is_named(torn: Path) -> None:
    info = probe(str(torn))
    windows = compute_windows(info.num_frames, 10, 4)
    picks = [sample_window(w, info.pts_s, info.frame_rate, 5.0) for w in windows]
    answers = list(read_windows(str(torn), info, picks))
    good = [sampled for sampled in answers if isinstance(sampled, SampledFrames)]
    assert 1 <= len(good) < len(windows) == len(answers)
    for pick, sampled in zip(picks, good, strict=False):
        assert tuple(read(frame) for frame in sampled.frames) == pick.frame_ids
    for pick, lost in zip(picks[len(good) :], answers[len(good) :], strict=True):
        named = re.search(r"frame (\d+) of 60 \(at \d\.\d\d s\) cannot be decoded", str(lost))
        assert named is not None
        assert int(named[1]) in pick.frame_ids


def test_previews_before_the_break_are_kept_and_the_others_say_why(torn: Path) -> None:
    info = probe(str(torn))
    windows = compute_windows(info.num_frames, 10, 4)
    made = dict(render_previews(str(torn), info, windows, PreviewSettings(target_height=64, target_fps=5)))
    assert list(made) == list(windows)
    good = [w for w in windows if isinstance(made[w], Preview)]
    assert good == list(windows[: len(good)])
    assert 1 <= len(good) < len(windows)
    assert all(
        isinstance(made[w], PreviewSourceError) and "cannot be decoded" in str(made[w]) for w in windows[len(good) :]
    )


@pytest.mark.parametrize(
    ("limits", "kind", "says"),
    [
        (DecodeLimits(max_frame_pixels=1000), "limit", "max_frame_pixels"),
        (DecodeLimits(max_clip_seconds=1.0), "limit", "max_clip_seconds"),
        (DecodeLimits(max_clip_frames=10), "limit", "max_clip_frames"),
        (DecodeLimits(max_decode_seconds=1e-9), "timeout", "max_decode_seconds"),
    ],
)
def test_limits_say_which_one_to_raise(sound: Path, limits: DecodeLimits, kind: str, says: str) -> None:
    with pytest.raises(ClipError, match=says) as caught:
        probe(str(sound), limits)
    assert caught.value.kind == kind


def test_reading_has_a_time_limit_too(sound: Path) -> None:
    with pytest.raises(ClipError) as caught:
        list(decode_frames(str(sound), probe(str(sound)), range(60), limits=DecodeLimits(max_decode_seconds=1e-9)))
    assert caught.value.kind == "timeout"


def test_time_that_the_consumer_takes_does_not_count(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0  # by a clock that only the consumer moves
    monkeypatch.setattr(files, "time", SimpleNamespace(monotonic=lambda: now))
    ids = []
    for frame_id, _ in decode_frames(
        str(sound), probe(str(sound)), range(0, 60, 6), limits=DecodeLimits(max_decode_seconds=5.0)
    ):
        ids.append(frame_id)
        now += 10.0
    assert ids == list(range(0, 60, 6))


def test_windows_that_would_fill_the_memory_are_refused(sound: Path) -> None:
    info = probe(str(sound))
    picks = sample_window(compute_windows(60, 256, 128)[0], info.pts_s, info.frame_rate, 25.0)
    with pytest.raises(ClipError, match="max_window_bytes"):
        next(read_windows(str(sound), info, [picks], size=(30_000, 20_000)))


def test_frames_that_the_clip_does_not_have_are_refused(sound: Path) -> None:
    with pytest.raises(ClipError, match="frame 60 was asked for, it has 60"):
        list(decode_frames(str(sound), probe(str(sound)), [60]))


def test_clips_in_object_stores(sound: Path) -> None:
    with fsspec.open("memory://bucket/clip.mp4", "wb") as file:
        file.write(sound.read_bytes())
    info = probe("memory://bucket/clip.mp4")
    assert info.content_hash == probe(str(sound)).content_hash
    picks = [sample_window(w, info.pts_s, info.frame_rate, 5.0) for w in compute_windows(info.num_frames, 256, 128)]
    (sampled,) = read_windows("memory://bucket/clip.mp4", info, picks)
    assert tuple(read(frame) for frame in sampled.frames) == picks[0].frame_ids
    assert kind_of("memory://bucket/nothing.mp4") == "missing"
    assert kind_of("nosuchprotocol://bucket/nothing.mp4") == "missing"


def test_a_header_that_lies_about_the_count_is_not_believed(folder: Path) -> None:
    data = bytearray(BY_NAME["mpeg4.avi"].make(folder).read_bytes())
    at = data.index(b"avih") + 8 + 16
    assert int.from_bytes(data[at : at + 4], "little") == FRAMES
    data[at : at + 4] = (7000).to_bytes(4, "little")
    at = data.index(b"strh") + 8 + 32
    data[at : at + 4] = (7000).to_bytes(4, "little")
    path = folder / "lies.avi"
    path.write_bytes(data)
    info = probe(str(path))
    assert (info.num_frames, info.duration_s, info.problem) == (FRAMES, FRAMES / RATE, "")


def test_an_edit_list_can_end_early(folder: Path) -> None:
    whole = BY_NAME["h264_closed.mp4"].make(folder)
    data = bytearray(whole.read_bytes())
    at = data.index(b"elst") + 12  # version, flags and count come first; then the duration in 1/1000 s
    assert int.from_bytes(data[at : at + 4], "big") == 2400
    data[at : at + 4] = (1000).to_bytes(4, "big")
    path = folder / "ends_early.mp4"
    path.write_bytes(data)
    shown = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, "-f", "framehash", "-"], capture_output=True
    ).stdout.splitlines()
    info = probe(str(path))
    assert info.num_frames == len([line for line in shown if not line.startswith(b"#")])
    assert info.problem == ""
    ids = range(info.num_frames)
    assert [k for k, _ in decode_frames(str(path), info, ids)] == list(ids)


def test_damaged_files_end_as_frames_or_with_a_reason(folder: Path) -> None:
    paths = [BY_NAME[name].make(folder) for name in FUZZED]
    outcomes: Counter[str] = Counter()
    compared = 0
    with Workers(2, memory_limit_bytes=4 << 30) as workers:
        for damage, found in workers.map_unordered(fuzz.examine, fuzz.damages(paths, 60), time_limit_s=120):
            assert isinstance(found, fuzz.Found), (damage, found)  # no crash, no hang
            assert found.bugs == [], damage
            outcomes.update(found.outcomes)
            compared += found.compared
    assert min(outcomes["request"], outcomes["preview"]) > 60
    assert outcomes["truncated"] > 0
    assert compared > 300
