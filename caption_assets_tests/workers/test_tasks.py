"""What a task makes of a clip: the same whether captions and previews come from one decode or from two."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest

from caption_assets.errors import ClipError, PreviewError
from caption_assets.media.files import Reading
from caption_assets.media.previews import PreviewSourceError
from caption_assets.models.engines.base import Request
from caption_assets.models.requests import caption_request
from caption_assets.records import FramePicks, Preview, VideoInfo, Window
from caption_assets.settings import PreviewSettings, WindowSettings
from caption_assets.workers.tasks import (
    CaptionTask,
    PlannedWindow,
    PlanTask,
    Prepared,
    PreviewTask,
    WantedFrames,
    caption_clip,
    caption_workers,
    plan_clip,
    preview_clip,
    preview_workers,
)
from caption_assets_tests.media.coded import CLIPS

SETTINGS = WindowSettings(window_size=15, remainder_threshold=8)
PREVIEWS = PreviewSettings(target_height=64, target_fps=4)
SIZES = [(56, 28), (84, 56), (84, 56), (28, 56)]


def planned(path: Path) -> tuple[VideoInfo, list[PlannedWindow]]:
    info, *windows = plan_clip(PlanTask(str(path), SETTINGS), Reading())
    assert isinstance(info, VideoInfo)
    return info, [window for window in windows if isinstance(window, PlannedWindow)]


def task(path: Path, info: VideoInfo, windows: list[PlannedWindow], **more: Any) -> CaptionTask:
    sizes = SIZES * len(windows)
    wanted = tuple(WantedFrames(w.window, w.picks, size) for w, size in zip(windows, sizes, strict=False))
    questions = {w.window: caption_request(str(w.window), f"What is in {w.window}?", None, 16) for w in windows}
    return CaptionTask(str(path), info.content_hash, wanted, questions, None, **more)


class Made:
    """All that a task makes, by kind, and the error that it ends with."""

    def __init__(self, results: Any) -> None:
        self.requests: dict[str, Request] = {}
        self.unasked: dict[str, str] = {}
        self.previews: dict[Window, Preview | PreviewError] = {}
        self.warnings: list[list[str]] = []
        self.order: list[str] = []
        self.error: ClipError | None = None
        try:
            for result in results:
                self._add(result)
        except ClipError as error:
            self.error = error

    def _add(self, result: Any) -> None:
        if isinstance(result, Prepared):
            assert result.decode_s > 0
            if isinstance(result.request, Request):
                self.requests[result.request_id] = result.request
            else:
                self.unasked[result.request_id] = str(result.request)
            self.order.append(f"request {result.request_id}")
        elif isinstance(result, list):
            self.warnings.append(result)
            self.order.append("warnings")
        else:
            window, self.previews[window] = result
            self.order.append(f"preview {window}")


def same_requests(one: dict[str, Request], other: dict[str, Request]) -> None:
    assert list(one) == list(other)
    for name, request in one.items():
        assert request.messages == other[name].messages
        assert request.frames is not None
        assert np.array_equal(request.frames.frames, other[name].frames.frames)
        assert request.frames.picks == other[name].frames.picks


@pytest.mark.parametrize("name", ["h264_open.mp4", "rotated_90.mp4", "uneven_vp9.webm", "h264.avi", "mjpeg.mov"])
def test_captions_and_previews_of_one_decode_are_those_of_two(name: str, tmp_path: Path) -> None:
    (coded,) = (clip for clip in CLIPS if clip.name == name)
    path = coded.make(tmp_path)
    info, windows = planned(path)
    shown = tuple(w.window for w in windows)
    apart = Made(caption_clip(task(path, info, windows), Reading()))
    previews = Made(preview_clip(PreviewTask(str(path), info.content_hash, shown, PREVIEWS), Reading()))
    assert (len(apart.requests), apart.warnings, apart.previews) == (len(windows), [], {})
    both = Made(caption_clip(task(path, info, windows, previews=shown, preview_settings=PREVIEWS), Reading()))
    assert both.error is None
    same_requests(both.requests, apart.requests)
    assert both.previews == previews.previews
    assert all(isinstance(preview, Preview) for preview in both.previews.values())
    assert both.warnings == previews.warnings
    assert both.order[0] == "warnings"


def test_only_what_is_asked_for_is_made(tmp_path: Path) -> None:
    path = next(clip for clip in CLIPS if clip.name == "h264_closed.mp4").make(tmp_path)
    info, windows = planned(path)
    whole = Made(caption_clip(task(path, info, windows), Reading()))
    shown = (windows[0].window, windows[3].window)
    made = Made(caption_clip(task(path, info, windows[1:], previews=shown, preview_settings=PREVIEWS), Reading()))
    assert list(made.requests) == list(whole.requests)[1:]
    assert tuple(made.previews) == shown
    alone = Made(caption_clip(task(path, info, [], previews=shown, preview_settings=PREVIEWS), Reading()))
    assert (alone.requests, alone.previews) == ({}, made.previews)


def slow_ffmpeg(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "ffmpeg"
    path.write_text(f'#!/bin/sh\n{script}\nexec "{imageio_ffmpeg.get_ffmpeg_exe()}" "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))


def test_requests_do_not_wait_for_previews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(clip for clip in CLIPS if clip.name == "h264_closed.mp4").make(tmp_path)
    info, windows = planned(path)
    shown = tuple(w.window for w in windows)
    # Encoders wait until all requests are here.
    wait = f'for _ in $(seq 1200); do test -e "{tmp_path}/go" && break; sleep 0.1; done'
    slow_ffmpeg(tmp_path, f'case "$*" in *-encoders*) ;; *) {wait};; esac', monkeypatch)

    def results() -> Iterator[Any]:
        requests = 0
        for result in caption_clip(task(path, info, windows, previews=shown, preview_settings=PREVIEWS), Reading()):
            requests += isinstance(result, Prepared)
            if requests == len(shown):
                (tmp_path / "go").touch()
            yield result

    made = Made(results())
    assert made.order == ["warnings", *(f"request {w}" for w in shown), *(f"preview {w}" for w in shown)]


def test_a_failing_encoder_costs_its_preview_and_is_not_logged_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = next(clip for clip in CLIPS if clip.name == "h264_closed.mp4").make(tmp_path)
    info, windows = planned(path)
    shown = tuple(w.window for w in windows)
    slow_ffmpeg(tmp_path, f'mkdir "{tmp_path}/once" 2> /dev/null && {{ echo broken >&2; exit 1; }}', monkeypatch)
    with caplog.at_level(logging.DEBUG):
        made = Made(caption_clip(task(path, info, windows, previews=shown, preview_settings=PREVIEWS), Reading()))
    assert len(made.requests) == 4
    assert sorted(type(preview).__name__ for preview in made.previews.values()) == ["FfmpegError", *["Preview"] * 3]
    assert not [record for record in caplog.records if record.name.startswith("caption_assets")]


@pytest.fixture
def motion_jpeg(tmp_path: Path) -> Path:
    return next(clip for clip in CLIPS if clip.name == "mjpeg.mov").make(tmp_path)


def spoil(path: Path, frame_id: int) -> None:
    """Make noise of one frame."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][frame_id]
        at, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[at : at + size] = np.random.default_rng(0).integers(0, 255, size, np.uint8).tobytes()
    path.write_bytes(data)


@pytest.mark.parametrize("needed_by", ["preview", "caption", "both", "neither"])
def test_a_broken_frame_costs_only_those_that_need_it(needed_by: str, motion_jpeg: Path) -> None:
    _, windows = planned(motion_jpeg)
    third = windows[2].window
    asked = set(windows[2].picks.frame_ids)
    preview = FramePicks((third.start_frame + 3, third.start_frame + 9), (0.0, 0.25))  # 4 a second of 15 at 25
    frames = {"preview": set(preview.frame_ids) - asked, "caption": asked - set(preview.frame_ids)}
    frames |= {"both": asked & set(preview.frame_ids), "neither": {third.start_frame + 1} - asked}
    if not frames[needed_by]:
        pytest.skip("no such frame")
    spoil(motion_jpeg, min(frames[needed_by]))
    info, windows = planned(motion_jpeg)
    shown = tuple(w.window for w in windows)
    apart = Made(caption_clip(task(motion_jpeg, info, windows), Reading()))
    previews = Made(preview_clip(PreviewTask(str(motion_jpeg), info.content_hash, shown, PREVIEWS), Reading()))
    both = Made(caption_clip(task(motion_jpeg, info, windows, previews=shown, preview_settings=PREVIEWS), Reading()))
    same_requests(both.requests, apart.requests)
    assert (both.error, apart.error, previews.error) == (None, None, None)
    assert both.unasked == apart.unasked
    assert list(both.unasked) == ([str(third)] if needed_by in ("caption", "both") else [])
    assert all(f"frame {min(frames[needed_by])} of 60" in why for why in both.unasked.values())
    assert {w: str(p) for w, p in both.previews.items()} == {w: str(p) for w, p in previews.previews.items()}
    broken = [w for w, p in both.previews.items() if isinstance(p, PreviewSourceError)]
    assert broken == ([third] if needed_by in ("preview", "both") else [])


def test_how_many_clips_at_once() -> None:
    assert [preview_workers(PreviewSettings(num_cpus_per_worker=4), n) for n in (1, 4, 7, 8, 17)] == [1, 1, 1, 2, 4]
    assert [preview_workers(PreviewSettings(num_cpus_per_worker=0.5), n) for n in (1, 2)] == [2, 4]
    assert [caption_workers(n) for n in (1, 8, 64)] == [1, 8, 8]
