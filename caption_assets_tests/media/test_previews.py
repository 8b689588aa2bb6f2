"""Previews: looping WebP of the planned frames, size and durations, or a recorded failure."""

import io
import logging
import os
import pickle
import stat
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from caption_assets.errors import ConfigError, PreviewError
from caption_assets.media import webp
from caption_assets.media.decode import probe
from caption_assets.media.previews import (
    FfmpegError,
    check_ffmpeg,
    encode_webp,
    frame_durations,
    plan_previews,
    preview_size,
    preview_warnings,
    render_previews,
)
from caption_assets.media.windows import compute_windows
from caption_assets.records import Preview, VideoInfo, Window
from caption_assets.settings import PreviewSettings
from caption_assets_tests.media.coded import CLIPS, FRAMES, Coded, draw, ffmpeg, read

BY_NAME = {clip.name: clip for clip in CLIPS}


def decoded(preview: Preview) -> tuple[list[np.ndarray], list[int]]:
    """Frames of a preview, and how long each is shown in milliseconds, by another decoder."""
    image = Image.open(io.BytesIO(preview.data))
    assert image.info["loop"] == 0
    assert image.size == (preview.width, preview.height)
    frames, durations = [], []
    for k in range(image.n_frames):
        image.seek(k)
        frames.append(np.array(image.convert("RGB")))
        durations.append(image.info["duration"])
    return frames, durations


def noise(count: int, height: int = 40, width: int = 61) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def test_level_0_is_lossless() -> None:
    frames = noise(5)
    preview = encode_webp(frames, 2.0, PreviewSettings(compression_level=0, quality=0))
    shown, durations = decoded(preview)
    assert np.array_equal(np.stack(shown), frames)
    assert durations == [500] * 5
    assert (preview.num_frames, preview.frame_ms) == (5, 500)


def test_levels_are_effort_and_quality_is_quality() -> None:
    frames = np.stack([draw(k, 128, 96) for k in range(3)])[..., None].repeat(3, axis=3)
    frames = (frames // 2 + noise(3, 96, 128) // 4).astype(np.uint8)

    def size(**options: int) -> int:
        preview = encode_webp(frames, 1.0, PreviewSettings(**options))
        assert np.abs(np.stack(decoded(preview)[0]).astype(int) - frames).mean() < 30
        return len(preview.data)

    qualities = [size(quality=quality) for quality in (0, 10, 50, 90, 100)]
    assert qualities == sorted(qualities)
    assert qualities[0] * 2 < qualities[-1]
    assert size(compression_level=6) < size(compression_level=1)


@pytest.mark.parametrize("level", [0, 6])
def test_equal_neighbours_stay_frames_of_their_own(level: int) -> None:
    frames = np.repeat(noise(2), [3, 2], axis=0)
    shown, durations = decoded(encode_webp(frames, 4.0, PreviewSettings(compression_level=level)))
    assert len(shown) == 5
    assert durations == [250] * 5


@pytest.mark.parametrize(("fps", "total_ms"), [(3.0, 3333), (7.5, 1333), (60.0, 167), (0.5, 20000)])
def test_durations_add_up_to_the_true_time(fps: float, total_ms: int) -> None:
    durations = decoded(encode_webp(noise(10, 8, 8), fps, PreviewSettings()))[1]
    assert sum(durations) == pytest.approx(total_ms, abs=1)
    assert max(durations) - min(durations) <= 1
    assert durations == frame_durations(10, fps)


@pytest.mark.parametrize("name", ["h264_open.mp4", "rotated_90.mp4", "wide_pixels.mp4", "odd_vp9.webm", "late.mkv"])
def test_previews_show_the_planned_frames_upright(name: str, tmp_path: Path) -> None:
    clip = BY_NAME[name]
    path = str(clip.make(tmp_path))
    info = probe(path)
    windows = compute_windows(info.num_frames, 30, 10)
    settings = PreviewSettings(target_fps=4.0, target_height=96)
    plan = plan_previews(info, windows, settings)
    made = list(render_previews(path, info, windows, settings))
    assert [window for window, _ in made] == list(windows)
    for planned, (_, preview) in zip(plan, made, strict=True):
        assert isinstance(preview, Preview)
        assert preview.height == 96
        assert preview.width == round(96 * info.display_width / info.display_height)
        shown = [np.rot90(frame, clip.rotation // 90) for frame in decoded(preview)[0]]
        assert [read(frame) for frame in shown] == [clip.numbers[k] for k in planned.picks.frame_ids]


def test_the_number_of_cores_changes_nothing(tmp_path: Path) -> None:
    path = str(BY_NAME["h264_closed.mp4"].make(tmp_path))
    info = probe(path)
    windows = compute_windows(info.num_frames, 20, 10)
    made = [
        list(render_previews(path, info, windows, PreviewSettings(num_cpus_per_worker=cores))) for cores in (0.5, 1, 4)
    ]
    assert made[0] == made[1] == made[2]


def test_sizes_round_half_up_and_keep_the_aspect() -> None:
    info = probe_like(854, 480)
    assert preview_size(info, 240) == (427, 240)
    assert preview_size(probe_like(640, 272), 240) == (565, 240)
    assert preview_size(probe_like(2, 2000), 16) == (1, 16)


def probe_like(width: int, height: int, rate: int = 25) -> VideoInfo:
    return VideoInfo(
        width, height, width, height, 0, Fraction(rate), 1.0, "h264", "yuv420p", None, 0, "", np.arange(rate) / rate
    )


def test_warnings_for_slow_and_low_clips() -> None:
    whole = [Window(0, 0)]
    assert preview_warnings(probe_like(640, 480), whole, PreviewSettings()) == []
    slow, low = preview_warnings(probe_like(64, 48, rate=1), whole, PreviewSettings(target_fps=2))
    assert "fewer than target_fps=2" in slow
    assert "lower than target_height=240" in low


def test_frames_that_cannot_be_shown_are_refused() -> None:
    with pytest.raises(PreviewError, match="cannot be shown"):
        encode_webp(np.zeros((0, 4, 4, 3), np.uint8), 1.0, PreviewSettings())
    with pytest.raises(PreviewError, match="16383"):
        encode_webp(np.zeros((1, 4, 16384, 3), np.uint8), 1.0, PreviewSettings())


# --- an ffmpeg that is not what it should be ---


def stub(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a shell script in ffmpeg's place; $REAL in it is the real one."""
    real = imageio_ffmpeg.get_ffmpeg_exe()
    path = folder / "ffmpeg"
    path.write_text(f'#!/bin/sh\nREAL="{real}"\n{script}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))
    return path


def test_the_real_ffmpeg_is_good() -> None:
    check_ffmpeg()


def test_a_missing_ffmpeg_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="Install imageio-ffmpeg"):
        check_ffmpeg()


def test_an_ffmpeg_without_libwebp_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(tmp_path, 'echo " V....D libx264  H.264"', monkeypatch)
    with pytest.raises(ConfigError, match=r"libwebp is missing.*--enable-libwebp"):
        check_ffmpeg()


def test_an_ffmpeg_that_does_not_run_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(tmp_path, "exit 3", monkeypatch)
    with pytest.raises(ConfigError, match="status 3"):
        check_ffmpeg()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ('echo "out of luck" >&2; exit 7', "status 7 .out of luck."),
        ("cat > /dev/null", "0 frames came back"),
        ("echo nonsense", "no WebP file starts"),
        ('"$REAL" "$@" | head -c 500', "cut off"),
        ('"$REAL" $(echo "$@" | sed "s/-c:v libwebp/-frames:v 2 -c:v libwebp/")', "2 frames came back, 4 were sent"),
    ],
)
def test_a_failing_ffmpeg_leaves_its_command_and_output(
    script: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(tmp_path, script, monkeypatch)
    with pytest.raises(FfmpegError, match=says) as caught:
        encode_webp(noise(4), 1.0, PreviewSettings(), "preview 0_3 of clip.mp4")
    error = caught.value
    assert error.kind == "ffmpeg"
    assert "preview 0_3 of clip.mp4" in str(error)
    assert "-c:v libwebp" in error.command
    if "luck" in script:
        assert error.output == "out of luck"
    again = pickle.loads(pickle.dumps(error))
    assert (again.command, again.output, str(again)) == (error.command, error.output, str(error))


def test_frames_of_another_size_than_planned_are_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(tmp_path, '"$REAL" $(echo "$@" | sed "s/-c:v libwebp/-vf scale=20:20 -c:v libwebp/")', monkeypatch)
    with pytest.raises(FfmpegError, match=r"planned were .*width=61, height=40"):
        encode_webp(noise(4), 1.0, PreviewSettings())


def test_one_failing_window_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(Coded("clip.mp4", "-c:v libx264 -pix_fmt yuv420p").make(tmp_path))
    info = probe(path)
    windows = compute_windows(FRAMES, 20, 10)
    # mkdir is atomic: the first of the encoders that run at once fails, and no other.
    stub(
        tmp_path,
        f'mkdir "{tmp_path}/once" 2> /dev/null && {{ echo broken >&2; exit 1; }}; exec "$REAL" "$@"',
        monkeypatch,
    )
    with caplog.at_level(logging.WARNING):
        made = dict(render_previews(path, info, windows, PreviewSettings()))
    assert sorted(type(preview).__name__ for preview in made.values()) == ["FfmpegError", "Preview", "Preview"]
    (error,) = (preview for preview in made.values() if isinstance(preview, FfmpegError))
    assert "-c:v libwebp" in error.command
    assert error.output == "broken"
    assert caplog.text == ""  # whoever asked for it says so, once


def test_verbose_logs_the_command(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        encode_webp(noise(2), 1.0, PreviewSettings(verbose=True))
    assert "libwebp" in caplog.text


def test_reading_animations_refuses_what_is_none() -> None:
    good = encode_webp(noise(2), 1.0, PreviewSettings()).data
    assert len(webp.read_animation(good)) == 2
    for bad in (b"", b"RIFF", good[:-1], good + b"x", os.urandom(100)):
        with pytest.raises(webp.WebpFormatError):
            webp.read_animation(bad)


@pytest.fixture(scope="module")
def gap(tmp_path_factory: pytest.TempPathFactory) -> str:
    """60 frames, with a pause of an hour in the middle."""
    path = tmp_path_factory.mktemp("gap") / "gap.mkv"
    frames = b"".join(draw(k, 64, 64).tobytes() for k in range(60))
    source = "-f rawvideo -pix_fmt gray -s 64x64 -r 25 -i pipe:0"
    pause = "-vf settb=1/1000,setpts=40*N+3600000*gte(N\\,30) -fps_mode passthrough -enc_time_base 1/1000"
    ffmpeg([*source.split(), *pause.split(), "-c:v", "libx264", "-pix_fmt", "yuv420p", str(path)], frames)
    return str(path)


def test_a_preview_has_no_more_frames_than_it_may_and_lasts_as_long(gap: str) -> None:
    info, settings = probe(gap), PreviewSettings(target_height=64, max_frames=50)
    windows = [Window(0, 59), Window(0, 24)]
    (long, short), whole = plan_previews(info, windows, settings), info.duration_s
    assert (len(long.picks.frame_ids), long.fps) == (50, pytest.approx(50 / whole))
    assert (len(short.picks.frame_ids), short.fps) == (1, 1.0)
    (_, made), _ = render_previews(gap, info, windows, settings)
    assert isinstance(made, Preview)
    images, durations = decoded(made)
    assert made.num_frames == len(images) == 50
    assert sum(durations) == pytest.approx(1000 * whole, abs=1)
    assert [read(image) for image in images] == list(long.picks.frame_ids)
    assert read(images[0]) == 29  # the last one before the pause is shown for almost an hour


def test_a_preview_that_is_bounded_says_so(gap: str) -> None:
    info = probe(gap)
    (said, *_) = preview_warnings(info, [Window(0, 59)], PreviewSettings(target_height=16, max_frames=50))
    assert "max_frames=50" in said
    assert "one every 72 s" in said
    assert preview_warnings(info, [Window(0, 24)], PreviewSettings(target_height=16, target_fps=0.01)) == []
    usual = PreviewSettings()
    assert len(plan_previews(info, [Window(0, 59)], usual)[0].picks.frame_ids) == usual.max_frames


def test_a_bound_that_a_window_just_keeps_changes_nothing(tmp_path: Path) -> None:
    info = probe(str(BY_NAME["h264_closed.mp4"].make(tmp_path)))  # 2.4 s: 5 frames at 2 a second
    for bound, count, fps in ((6, 5, 2.0), (5, 5, 2.0), (4, 4, 4 / 2.4), (1, 1, 1 / 2.4)):
        (plan,) = plan_previews(info, [Window(0, 59)], PreviewSettings(target_fps=2.0, max_frames=bound))
        assert (len(plan.picks.frame_ids), plan.fps) == (count, pytest.approx(fps)), bound
