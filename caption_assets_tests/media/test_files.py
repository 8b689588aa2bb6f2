"""What is opened as a clip, what it is called where it is none, and what happens when it is changed meanwhile."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caption_assets.errors import ClipError
from caption_assets.media.decode import decode_frames, probe
from caption_assets.media.files import Reading, open_clip
from caption_assets.media.mp4 import cut_window_mp4
from caption_assets.media.packed import pack
from caption_assets.media.previews import PreviewSourceError
from caption_assets.models.requests import caption_request
from caption_assets.records import Preview, VideoInfo, Window
from caption_assets.settings import PreviewSettings, WindowSettings
from caption_assets.workers import tasks
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
from caption_assets_tests.media.coded import CLIPS, FRAMES, Coded, ffmpeg
from caption_assets_tests.media.shown import by_us

KEY = "00112233445566778899aabbccddeeff"
SETTINGS = WindowSettings(window_size=15, remainder_threshold=8, store_window_mp4=True)
SMALL = PreviewSettings(target_height=48, num_cpus_per_worker=0.5)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return next(clip for clip in CLIPS if clip.name == "h264_closed.mp4").make(tmp_path_factory.mktemp("sound"))


def fault_of(path: Path | str) -> ClipError:
    with pytest.raises(ClipError) as caught:
        probe(str(path))
    assert str(path) in str(caught.value)
    return caught.value


def test_a_pipe_is_no_clip_and_is_not_waited_for(tmp_path: Path) -> None:
    pipe, found = tmp_path / "pipe.mp4", list[str]()
    os.mkfifo(pipe)
    opening = threading.Thread(target=lambda: found.append(fault_of(pipe).kind), daemon=True)
    opening.start()
    opening.join(60)
    assert found == ["missing"]


def test_a_device_and_a_link_to_one_are_no_clips(tmp_path: Path) -> None:
    link = tmp_path / "endless.mp4"
    link.symlink_to("/dev/zero")
    for path in ("/dev/zero", link):
        assert "it is a pipe or a device, not a file" in str(fault_of(path))


def test_an_encrypted_clip_says_so_and_how_to_decrypt_it(sound: Path, tmp_path: Path) -> None:
    path, decrypted = tmp_path / "cenc.mp4", tmp_path / "decrypted.mp4"
    scheme = f"-encryption_scheme cenc-aes-ctr -encryption_key {KEY} -encryption_kid {KEY[::-1]}"
    ffmpeg(["-i", str(sound), "-c", "copy", *scheme.split(), str(path)])
    fault = fault_of(path)
    assert fault.kind == "encrypted"
    assert "ffmpeg -decryption_key KEY -i clip.mp4 -c copy decrypted.mp4" in str(fault)
    ffmpeg(["-decryption_key", KEY, "-i", str(path), "-c", "copy", str(decrypted)])
    assert probe(str(decrypted)).num_frames == FRAMES


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", "-f image2 -c:v png"),
        ("JPEG", "-f image2 -c:v mjpeg"),
        ("GIF", "-f gif"),
        ("WebP", "-f webp"),
        ("BMP", "-f image2 -c:v bmp"),
        ("TIFF", "-f image2 -c:v tiff"),
        ("AVIF", "-f avif -c:v libsvtav1"),
    ],
)
def test_a_renamed_picture_is_called_one(kind: str, options: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.mp4"
    ffmpeg(f"-f lavfi -i testsrc=s=320x240 -frames:v 1 {options} {path}".split())
    fault = fault_of(path)
    assert fault.kind == "not_video"
    assert f"it is {'an' if kind == 'AVIF' else 'a'} {kind} picture, not a video" in str(fault)


@pytest.mark.parametrize("container", ["nut", "mxf", "swf"])
def test_a_container_that_is_not_read_is_no_invalid_argument(container: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    codec = "flv" if container == "swf" else "mpeg2video"
    ffmpeg(f"-f lavfi -i testsrc=s=320x240:d=1:r=25 -c:v {codec} -f {container} {path}".split())
    fault = fault_of(path)
    assert fault.kind == "not_video"
    assert "its container is none of those that are read: mp4, mov" in str(fault)


def test_a_cover_is_not_called_a_video(tmp_path: Path) -> None:
    cover, song = tmp_path / "cover.png", tmp_path / "song.mp4"
    ffmpeg(f"-f lavfi -i color=red:s=64x64 -frames:v 1 {cover}".split())
    ffmpeg(
        f"-f lavfi -i sine=d=1 -i {cover} -map 0 -map 1 -c:v copy -c:a aac -disposition:v:0 attached_pic {song}".split()
    )
    assert "it has no video stream (audio, cover picture only)" in str(fault_of(song))


# A clip that is replaced or written to.


@pytest.fixture
def clip(sound: Path, tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(sound.read_bytes())
    return path


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A clip with as many frames, all the other way round, of the same size in bytes."""
    made = Coded("other.mp4", "-vf negate -c:v libx264 -pix_fmt yuv420p -preset veryfast -bf 3 -g 20")
    return made.make(tmp_path_factory.mktemp("other")).read_bytes()


def replace(path: Path, data: bytes) -> None:
    (path.parent / "new").write_bytes(data)
    os.replace(path.parent / "new", path)


def write_into(path: Path, data: bytes) -> None:
    """Write other bytes into the same file, and set its time back."""
    before = path.stat()
    path.write_bytes(data.ljust(before.st_size, b"\0")[: before.st_size])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def remove(path: Path, data: bytes) -> None:
    path.unlink()


def empty(path: Path, data: bytes) -> None:
    os.truncate(path, 0)


WAYS = pytest.mark.parametrize("change", [replace, write_into, remove, empty])


def planned(path: Path) -> tuple[VideoInfo, list[PlannedWindow]]:
    info, *windows = plan_clip(PlanTask(str(path), SETTINGS), Reading())
    assert isinstance(info, VideoInfo)
    return info, [window for window in windows if isinstance(window, PlannedWindow)]


def all_of(path: Path, kept: bool = False) -> dict[str, Callable[[], Iterator[Any]]]:
    """What reads a clip after it has been planned; what that found out is `kept`, or found out again."""
    info, windows = planned(path)
    probed = pack(info) if kept else None
    shown = tuple(window.window for window in windows)
    asked = CaptionTask(
        str(path),
        info.content_hash,
        tuple(WantedFrames(w.window, w.picks, (56, 28)) for w in windows),
        {window: caption_request(str(window), "What happens?", None, 16) for window in shown},
        None,
        previews=shown,
        preview_settings=SMALL,
        probed=probed,
    )
    return {
        "previews": lambda: preview_clip(PreviewTask(str(path), info.content_hash, shown, SMALL, probed), Reading()),
        "captions": lambda: caption_clip(asked, Reading()),
    }


def outcomes(results: Iterator[Any]) -> tuple[list[Any], set[str]]:
    """What was made of a clip, and the kinds of error of what was not."""
    good: list[Any] = []
    kinds: set[str] = set()
    try:
        for result in results:
            made = result[1] if isinstance(result, tuple) else result.request if isinstance(result, Prepared) else None
            if isinstance(made, ClipError | PreviewSourceError):
                kinds.add(made.kind)
            elif made is not None:
                good.append(made)
    except ClipError as error:
        kinds.add(error.kind)
    return good, kinds


KEPT = pytest.mark.parametrize("kept", [False, True], ids=["probed again", "kept"])


@KEPT
@pytest.mark.parametrize("reader", ["previews", "captions"])
@WAYS
def test_no_reader_takes_a_clip_that_is_changed_before_it_looks_for_the_planned_one(
    reader: str, change: Callable[[Path, bytes], None], clip: Path, other: bytes, kept: bool
) -> None:
    read = all_of(clip, kept)[reader]
    change(clip, other)
    good, kinds = outcomes(read())
    assert good == []
    assert kinds <= {"changed", "missing", "empty_file"}
    assert len(kinds) == 1


@KEPT
@pytest.mark.parametrize("reader", ["previews", "captions"])
@WAYS
def test_no_reader_takes_a_clip_that_is_changed_once_it_was_found_to_be_the_planned_one(
    reader: str,
    change: Callable[[Path, bytes], None],
    clip: Path,
    other: bytes,
    kept: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, found = all_of(clip, kept)[reader], tasks.planned_info
    monkeypatch.setattr(tasks, "planned_info", lambda opened, task: (found(opened, task), change(clip, other))[0])
    assert outcomes(read()) == ([], {"changed"})


@KEPT
@pytest.mark.parametrize("reader", ["previews", "captions"])
@WAYS
def test_what_is_left_of_a_clip_that_is_changed_while_it_is_read_fails_with_that_reason(
    reader: str, change: Callable[[Path, bytes], None], clip: Path, other: bytes, kept: bool
) -> None:
    read = all_of(clip, kept)[reader]
    whole, _ = outcomes(read())

    def changed_in_between() -> Iterator[Any]:
        results = 0
        for result in read():
            yield result
            results += not isinstance(result, list)
            if results == 1:
                change(clip, other)

    good, kinds = outcomes(changed_in_between())
    assert 1 <= len(good) < len(whole)
    assert kinds == {"changed"}
    previews = [made for made in good if isinstance(made, Preview)]
    assert previews == [made for made in whole if isinstance(made, Preview)][: len(previews)]


@WAYS
def test_window_files_are_of_the_clip_that_was_planned(
    change: Callable[[Path, bytes], None], clip: Path, other: bytes
) -> None:
    _, whole = planned(clip)
    results = plan_clip(PlanTask(str(clip), SETTINGS), Reading())
    made = [next(results), next(results)]
    change(clip, other)
    made += results
    files = [window.mp4 for window in made if isinstance(window, PlannedWindow)]
    assert files[0] == whole[0].mp4
    assert [getattr(file, "kind", "good") for file in files[1:]] == ["changed"] * 3


def test_a_clip_that_is_changed_while_it_is_probed_is_not_planned(
    clip: Path, other: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_clip(str(clip)) as opened:
        assert opened.content_hash
        replace(clip, other)
        with pytest.raises(ClipError, match="was changed or removed while it was read") as caught:
            probe(opened)
    assert caught.value.kind == "changed"


def test_another_name_or_permission_is_no_change(clip: Path) -> None:
    with open_clip(str(clip)) as opened:
        info = probe(opened)
        os.link(clip, clip.parent / "backup.mp4")
        clip.chmod(0o600)
        assert len(list(decode_frames(opened, info, range(FRAMES)))) == FRAMES
        assert cut_window_mp4(opened, info, Window(0, 19))
    assert len(by_us(clip)[1]) == FRAMES
