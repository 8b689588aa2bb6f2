"""A remote clip is fetched once a run, and a clip is opened and decoded no more often in a task than it must be."""

import builtins
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import pytest
from werkzeug.serving import WSGIRequestHandler

from caption_assets.errors import CaptionAssetsError
from caption_assets.media.files import ClipFile, Copies, Reading, open_clip
from caption_assets.media.packed import pack
from caption_assets.media.probe import probe
from caption_assets.media.reader import FastReader
from caption_assets.models.requests import caption_request
from caption_assets.records import VideoInfo
from caption_assets.settings import DecodeLimits, PreviewSettings, WindowSettings
from caption_assets.workers import tasks
from caption_assets.workers.base import ClipWorkers
from caption_assets.workers.local import Workers
from caption_assets.workers.tasks import (
    CaptionTask,
    PlannedWindow,
    PlanTask,
    Prepared,
    PreviewTask,
    WantedFrames,
    caption_clip,
    plan_clip,
    preview_clip,
)
from caption_assets_tests.media.coded import Coded
from caption_assets_tests.workers.tasks import fetch_and_die, kept_copy, packages

FOUR = WindowSettings(window_size=15, remainder_threshold=8, store_window_mp4=True)
SMALL = PreviewSettings(target_height=48)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 60 frames: four windows."""
    return Coded("four.mp4", "-c:v libx264 -pix_fmt yuv420p -g 20 -bf 2").make(tmp_path_factory.mktemp("served"))


@pytest.fixture
def requests() -> Counter[str]:
    """Requests that a server has had, by method."""
    return Counter()


@pytest.fixture
def http(clip: Path, requests: Counter[str]) -> Iterator[str]:
    """The clip's address at a server that counts."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            requests[self.command] += 1

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(clip.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/{clip.name}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def s3(clip: Path, requests: Counter[str], s3_options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The clip's address in a bucket of a server that counts."""
    import s3fs

    s3fs.S3FileSystem(**s3_options).put_file(str(clip), f"bucket/reading/{clip.name}")
    for name, value in s3_options.items():
        monkeypatch.setenv(f"FSSPEC_S3_{name.upper()}", value)
    monkeypatch.setattr(
        WSGIRequestHandler, "log_request", lambda self, *_: requests.update([self.command]), raising=False
    )
    return f"s3://bucket/reading/{clip.name}"


def planned(workers: ClipWorkers, location: str) -> tuple[VideoInfo, list[PlannedWindow]]:
    made = [result for _, result in workers.run(plan_clip, [PlanTask(location, FOUR)])]
    assert not isinstance(made[-1], CaptionAssetsError), made[-1]
    info, *windows = made
    assert all(isinstance(window.mp4, bytes) for window in windows)
    return info, windows


def caption_task(location: str, info: VideoInfo, windows: list[PlannedWindow], **more: Any) -> CaptionTask:
    """Asks about each window, in sizes that differ."""
    sizes = [(56, 28), (56, 28), (84, 56), (112, 84)]
    wanted = tuple(WantedFrames(w.window, w.picks, size) for w, size in zip(windows, sizes, strict=True))
    questions = {w.window: caption_request(str(w.window), "What happens?", None, 16) for w in windows}
    return CaptionTask(location, info.content_hash, wanted, questions, None, **more)


def go_over(workers: ClipWorkers, location: str) -> Counter[str]:
    """Plan, preview and caption a clip of four windows; what came, by kind."""
    info, windows = planned(workers, location)
    shown = tuple(w.window for w in windows)
    previews = workers.run(preview_clip, [PreviewTask(location, info.content_hash, shown, SMALL)])
    captions = workers.run(caption_clip, [caption_task(location, info, windows)])
    return Counter(type(result).__name__ for _, result in (*previews, *captions))


@pytest.mark.parametrize("place", ["http", "s3"])
def test_a_remote_clip_is_fetched_once_a_run(
    place: str, requests: Counter[str], request: pytest.FixtureRequest
) -> None:
    location = request.getfixturevalue(place)
    requests.clear()
    with Workers(2) as workers:
        assert go_over(workers, location) == {"list": 1, "tuple": 4, "Prepared": 4}
        assert requests == {"GET": 1}
        assert go_over(workers, location) == {"list": 1, "tuple": 4, "Prepared": 4}
        assert requests == {"GET": 2}  # what is planned again is new or has changed


def test_without_room_for_copies_each_task_fetches_once(http: str, requests: Counter[str]) -> None:
    with Workers(1, keep_bytes=0) as workers:
        go_over(workers, http)
        assert os.listdir(workers.reading.copies.folder) == [".lock"]
    assert requests == {"GET": 3}


def test_copies_stay_within_their_bound_and_are_not_evicted(clip: Path, http: str, tmp_path: Path) -> None:
    size = clip.stat().st_size
    reading = Reading(copies=Copies(str(tmp_path), 2 * size))
    for k in range(4):
        with open_clip(f"{http}?{k}", reading) as opened:
            assert probe(opened).num_frames == 60
        assert len(os.listdir(tmp_path)) == min(k + 1, 2)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 2 * size


def test_a_file_that_cannot_be_had_leaves_nothing(http: str, tmp_path: Path) -> None:
    reading = Reading(copies=Copies(str(tmp_path), 1 << 30))
    with pytest.raises(CaptionAssetsError, match="cannot be read") as caught, open_clip(f"{http}.gone", reading):
        pass
    assert (caught.value.kind, os.listdir(tmp_path)) == ("missing", [])


def test_two_that_fetch_the_same_clip_do_no_harm(clip: Path, http: str, tmp_path: Path) -> None:
    reading = Reading(copies=Copies(str(tmp_path), 1 << 30))
    with open_clip(http, reading) as first:
        (kept,) = tmp_path.iterdir()
        kept.unlink()  # as if it had not been there when the second looked
        with open_clip(http, reading) as second:
            assert first.content_hash == second.content_hash == probe(str(clip)).content_hash
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]


def test_what_a_killed_worker_leaves_goes_with_the_run(http: str) -> None:
    with Workers(1, keep_bytes=0) as workers:
        ((_, error),) = workers.run(fetch_and_die, [PlanTask(http, FOUR)])
        assert error.kind == "worker_died"
        folder = Path(workers.reading.copies.folder)
        assert len(list(folder.rglob("clip.mp4"))) == 2  # one of each try
    assert not folder.exists()


def test_a_worker_of_a_run_sees_one_version_of_a_clip(clip: Path, http: str, tmp_path: Path) -> None:
    with Workers(1) as workers:
        info, windows = planned(workers, http)
        whole = clip.read_bytes()
        try:
            clip.write_bytes(whole[:-1000])
            made = [made for _, made in workers.run(caption_clip, [caption_task(http, info, windows)])]
            assert [type(item) for item in made] == [Prepared] * 4
            ((_, copy),) = workers.run(kept_copy, [PlanTask(http, FOUR)])
            assert copy.startswith(workers.reading.copies.folder)
        finally:
            clip.write_bytes(whole)


def test_a_clip_that_is_planned_again_is_fetched_again(clip: Path, http: str) -> None:
    with Workers(1) as workers:
        before, _ = planned(workers, http)
        whole = clip.read_bytes()
        try:
            clip.write_bytes(whole + b"\0" * 8)
            info, windows = planned(workers, http)
            assert info.content_hash == probe(str(clip)).content_hash != before.content_hash
            made = [made for _, made in workers.run(caption_clip, [caption_task(http, info, windows)])]
            assert [type(item) for item in made] == [Prepared] * 4
        finally:
            clip.write_bytes(whole)


def test_a_worker_imports_the_decoder_and_little_else(clip: Path) -> None:
    needed = {"av", "cv2", "numpy", "pydantic", "imageio_ffmpeg"}
    needless = {"pyarrow", "pandas", "upath", "fsspec", "dagster", "huggingface_hub", "httpx", "httpx2"}
    heavy = {"torch", "transformers", "vllm", "PIL"}
    with Workers(1) as workers:
        go_over(workers, str(clip))
        ((_, imported),) = workers.map_unordered(packages, [None])
    assert needed <= imported
    assert not imported & (needless | heavy)


@pytest.fixture
def opened(clip: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the clip was opened as a file and as a container, and how often decoding began."""
    counts: Counter[str] = Counter()
    plain, container, reader = builtins.open, av.open, FastReader.__init__

    def is_clip(path: object) -> str:
        return str(clip) if os.path.realpath(str(path)) == str(clip) else str(path)

    def counted(name: str, path: object, function: Callable[..., Any], *given: Any, **more: Any) -> Any:
        counts[name] += path == str(clip)
        return function(*given, **more)

    monkeypatch.setattr(builtins, "open", lambda path, *a, **k: counted("file", path, plain, path, *a, **k))
    monkeypatch.setattr(av, "open", lambda path, *a, **k: counted("container", is_clip(path), container, path, *a, **k))
    monkeypatch.setattr(FastReader, "__init__", lambda self, *a: counted("pass", str(clip), reader, self, *a))
    return counts


def test_how_often_a_task_opens_and_decodes_its_clip(clip: Path, opened: Counter[str]) -> None:
    path, reading = str(clip), Reading()
    info, *windows = plan_clip(PlanTask(path, FOUR.model_copy(update={"store_window_mp4": False})), reading)
    assert opened == {"file": 1, "container": 1}
    opened.clear()
    list(plan_clip(PlanTask(path, FOUR), reading))
    assert opened == {"file": 1, "container": 1 + 4, "pass": 4}
    shown = tuple(w.window for w in windows)
    for function, task in (
        (preview_clip, PreviewTask(path, info.content_hash, shown, SMALL)),
        (caption_clip, caption_task(path, info, windows)),
        (caption_clip, caption_task(path, info, windows, previews=shown, preview_settings=SMALL)),
    ):
        for probed, containers in ((None, 2), (pack(info), 1)):
            opened.clear()
            made = list(function(replace(task, probed=probed), reading))  # type: ignore[operator, type-var]
            assert len(made) >= 4
            assert opened == {"file": 1, "container": containers, "pass": 1}, task


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a clip was read whole to work out its hash, and how often it was probed."""
    counts: Counter[str] = Counter()
    hash_of, probed = ClipFile._hash, tasks.probe
    monkeypatch.setattr(ClipFile, "_hash", lambda clip: (counts.update(hash=1), hash_of(clip))[1])
    monkeypatch.setattr(tasks, "probe", lambda clip: (counts.update(probe=1), probed(clip))[1])
    return counts


def test_what_planning_found_out_is_not_found_out_again(clip: Path, tmp_path: Path, hashed: Counter[str]) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip.read_bytes())
    info, *windows = plan_clip(PlanTask(str(path), FOUR), Reading())
    assert isinstance(info, VideoInfo)
    probed, shown = pack(info), tuple(w.window for w in windows if isinstance(w, PlannedWindow))

    def read(**limits: int) -> tuple[list[Any], Counter[str]]:
        hashed.clear()
        task = PreviewTask(str(path), info.content_hash, shown, SMALL, probed)
        return list(preview_clip(task, Reading(DecodeLimits(**limits)))), hashed.copy()

    made, found_out = read()
    assert found_out == {}
    os.utime(path, (1, 1))  # the same bytes
    assert read() == (made, {"hash": 1})
    whole, probed = probed, b"of another version"
    assert read() == (made, {"hash": 1, "probe": 1})
    probed = whole
    with pytest.raises(CaptionAssetsError, match="it has more than 59 frames"):
        read(max_clip_frames=59)


def test_what_was_found_out_about_another_file_at_the_same_place_is_not_taken_for_it(
    clip: Path, tmp_path: Path, hashed: Counter[str]
) -> None:
    """Not even where each file, looked at by itself, is as it always was."""
    other, link = tmp_path / "other.mp4", tmp_path / "link.mp4"
    other.write_bytes(clip.read_bytes() + b"\0" * 8)
    link.symlink_to(clip)
    info, *windows = plan_clip(PlanTask(str(link), FOUR), Reading())
    assert isinstance(info, VideoInfo)
    link.unlink()
    link.symlink_to(other)
    with pytest.raises(CaptionAssetsError, match="changed since its windows were planned"):
        list(
            preview_clip(PreviewTask(str(link), info.content_hash, (windows[0].window,), SMALL, pack(info)), Reading())
        )


def test_a_copy_that_is_kept_is_hashed_once(http: str, tmp_path: Path, hashed: Counter[str]) -> None:
    reading = Reading(copies=Copies(str(tmp_path), 1 << 30))
    info, *windows = plan_clip(PlanTask(http, FOUR), reading)
    assert isinstance(info, VideoInfo)
    task = PreviewTask(http, info.content_hash, (windows[0].window,), SMALL, pack(info))
    assert list(preview_clip(task, reading))
    assert hashed == {"hash": 1, "probe": 1}
    assert list(preview_clip(task, Reading()))  # another run
    assert hashed == {"hash": 2, "probe": 1}


def test_a_changed_clip_is_refused(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip.read_bytes())
    info, *windows = plan_clip(PlanTask(str(path), FOUR), Reading())
    path.write_bytes(clip.read_bytes() + b"\0" * 8)
    for function, task in (
        (preview_clip, PreviewTask(str(path), info.content_hash, (windows[0].window,), SMALL)),
        (caption_clip, caption_task(str(path), info, windows)),
    ):
        with pytest.raises(CaptionAssetsError, match="changed since its windows were planned"):
            list(function(task, Reading()))  # type: ignore[operator]


def test_what_a_killed_run_has_kept_goes_with_the_next_one() -> None:
    program = """
import sys, time
from caption_assets.workers.local import Workers
workers = Workers(1)
print(workers.reading.copies.folder, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        folder = Path(killed.stdout.readline().strip())
        (folder / "clip.mp4").write_bytes(b"kept")
        with Workers(1) as workers:
            assert workers.reading.copies is not None
            assert folder.exists()  # its process lives
        killed.kill()
    with Workers(1) as workers:
        assert workers.reading.copies is not None
        assert not folder.exists()
