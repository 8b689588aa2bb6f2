"""Bad input costs its own clip or window, is stored with its reason, and loses nothing else."""

import re
import shutil
import subprocess

import av
import fsspec
import imageio_ffmpeg
import pytest

from caption_assets.dataset import open_dataset
from caption_assets.errors import ConfigError, ShardError, StoreError
from caption_assets.save_export.files import read_document
from caption_assets.settings import CaptionModelSettings, CaptionSettings, PreviewSettings, WindowSettings
from caption_assets.steps import Progress, StepContext, caption_shards, model_session, preview_shard, window_shard
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, WINDOW_CAPTIONS, WINDOW_PREVIEWS
from caption_assets.workers.local import Workers
from caption_assets_tests.media.coded import CLIPS, joined

UUID = "551d3b9d-7328-5ca5-bd5a-4a3736c25b54"


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "out"))


def audio_only(path):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", "sine=duration=1", str(path)]
    subprocess.run(command, check=True)


class Counted(Progress):
    """How many items are left."""

    left = 0

    def start(self, asset, shard, total, reused=0, work=None):
        self.left += total - reused

    def advance(self, asset, shard, items=1, work=None):
        self.left -= items


def plan(store, root, workers, shard="s", progress=None, **settings):
    context = StepContext(store, workers, progress=progress or Progress())
    report = window_shard(context, open_dataset(str(root)), shard, WindowSettings(**settings))
    return report, {row.relative_path: row for row in store.read_rows(CLIP_WINDOWS, shard)}


def test_each_bad_clip_is_a_row_with_its_reason_and_the_good_one_is_planned(tmp_path, make_clip, store, workers):
    folder = tmp_path / "clips" / "s"
    good = make_clip(folder / "good.mp4", 48)
    (folder / "text.mp4").write_text("I am no video.")
    (folder / "zero.mp4").touch()
    (folder / "cut.mp4").write_bytes(good.read_bytes()[:400])
    audio_only(folder / "audio.mp4")
    make_clip(folder / "short.mp4", 3)
    make_clip(folder / "still.mp4", 1)
    make_clip(folder / "one" / f"{UUID}.mp4", 24)
    make_clip(folder / "two" / f"{UUID}.mp4", 24)
    progress = Counted()
    report, rows = plan(store, tmp_path / "clips", workers, progress=progress)

    assert (report.ok, report.failed, report.skipped) == (2, 5, 2)
    assert progress.left == 0
    assert rows["s/good.mp4"].status == "ok"
    kinds = {path.removeprefix("s/"): row.error_kind for path, row in rows.items() if row.status != "ok"}
    assert kinds == {
        "text.mp4": "not_video",
        "zero.mp4": "empty_file",
        "cut.mp4": kinds["cut.mp4"],
        "audio.mp4": "no_video_stream",
        "short.mp4": "too_short",
        "still.mp4": "too_short",
        f"two/{UUID}.mp4": "duplicate_id",
    }
    assert kinds["cut.mp4"] in {"truncated", "decode", "not_video"}
    assert all(row.error for row in rows.values() if row.status != "ok")
    assert "it has 3 frames" in rows["s/short.mp4"].error
    assert "it has 1 frame, and" in rows["s/still.mp4"].error
    assert f"s/one/{UUID}.mp4" in rows[f"s/two/{UUID}.mp4"].error
    assert sum(report.failures.values()) == 7
    assert any("text.mp4" in item for item in report.failed_items)


def test_a_file_that_breaks_off_keeps_its_good_windows_and_says_where(tmp_path, make_clip, store, workers):
    good = make_clip(tmp_path / "clips" / "s" / "good.mp4", 120)
    data = good.read_bytes()
    (tmp_path / "clips" / "s" / "cut.mp4").write_bytes(data[: len(data) * 3 // 4])
    window_shard(
        StepContext(store, workers), open_dataset(str(tmp_path / "clips")), "s", WindowSettings(window_size=40)
    )
    rows = [row for row in store.read_rows(CLIP_WINDOWS, "s") if row.relative_path == "s/cut.mp4"]
    (damaged,) = (row for row in rows if row.status != "ok")
    windows = [row for row in rows if row.status == "ok"]
    assert damaged.error_kind == "damaged"
    assert damaged.start_frame is None
    assert damaged.error
    assert 4 <= windows[-1].end_frame < 119
    assert preview_shard(StepContext(store, workers), "s", PreviewSettings()).failed == 0
    document = read_document(store, f"metas/v0/{damaged.clip_id}.json")
    assert document["errors"] == ["damaged"]
    assert document["error_details"]["damaged"] == damaged.error
    assert len(document["windows"]) == len(windows)


def test_windows_behind_a_damaged_stretch_are_kept_and_those_in_it_say_so(tmp_path, store, workers):
    folder = tmp_path / "clips" / "s"
    folder.mkdir(parents=True)
    path = next(clip for clip in CLIPS if clip.name == "mjpeg.mov").make(folder)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size][20:30]
    with path.open("r+b") as file:
        for packet in packets:
            file.seek(packet.pos)
            file.write(bytes(packet.size))
    plan(store, tmp_path / "clips", workers, window_size=10, remainder_threshold=5, store_window_mp4=True)
    windows = store.read_rows(CLIP_WINDOWS, "s")
    lost = [row.start_frame == 20 for row in windows]
    assert len(windows) == 6
    assert [row.error_kind for row in windows] == ["decode" if is_lost else "" for is_lost in lost]

    plan(store, tmp_path / "clips", workers, window_size=10, remainder_threshold=5)
    preview_shard(StepContext(store, workers), "s", PreviewSettings(target_height=48))
    with model_session(CaptionModelSettings(device="cpu")) as session:
        list(caption_shards(StepContext(store, workers), ["s"], session, CaptionSettings()))
    for rows in (store.read_rows(WINDOW_PREVIEWS, "s"), store.read_rows(WINDOW_CAPTIONS, "s", "demo")):
        assert [row.error_kind for row in rows] == ["decode" if is_lost else "" for is_lost in lost]
        assert re.search(r"frame 2\d of 60 \(at \d\.\d\d s\) cannot be decoded", rows[2].error)


def test_a_shard_with_no_usable_clip_fails_and_its_reasons_are_stored(tmp_path, store, workers):
    (tmp_path / "clips" / "s").mkdir(parents=True)
    (tmp_path / "clips" / "s" / "text.mp4").write_text("no")
    with pytest.raises(ShardError, match=r"not one of 1 items worked; first: s/text\.mp4"):
        plan(store, tmp_path / "clips", workers)
    assert store.read_rows(CLIP_WINDOWS, "s")[0].error_kind == "not_video"


def test_a_clip_that_is_gone_or_changed_before_its_preview_is_a_failed_row(tmp_path, make_clip, store, workers):
    folder = tmp_path / "clips" / "s"
    for name in ("stays", "goes"):
        make_clip(folder / f"{name}.mp4", 48)
    plan(store, tmp_path / "clips", workers)
    (folder / "goes.mp4").unlink()
    report = preview_shard(StepContext(store, workers), "s", PreviewSettings())
    assert (report.ok, report.failed) == (1, 1)
    assert report.failures == {"missing": 1}


def test_an_ffmpeg_that_fails_is_logged_with_its_command_and_skips_that_preview(
    tmp_path, make_clip, store, workers, monkeypatch, caplog
):
    make_clip(tmp_path / "clips" / "s" / "a.mp4", 48)
    plan(store, tmp_path / "clips", workers)
    real = imageio_ffmpeg.get_ffmpeg_exe()
    broken = tmp_path / "ffmpeg"
    broken.write_text(f'#!/bin/sh\ncase "$*" in *pipe:*) echo "no space left" >&2; exit 9;; esac\nexec {real} "$@"\n')
    broken.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    with Workers(1) as fresh, pytest.raises(ShardError, match="no space left"):
        preview_shard(StepContext(store, fresh), "s", PreviewSettings())
    assert "pipe:0" in caplog.text
    assert "no space left" in caplog.text
    (row,) = store.read_rows(WINDOW_PREVIEWS, "s")
    assert (row.status, row.error_kind) == ("failed", "ffmpeg")
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE")
    assert preview_shard(StepContext(store, workers), "s", PreviewSettings()).ok == 1


def test_an_ffmpeg_without_webp_is_told_before_any_work(tmp_path, make_clip, store, workers, monkeypatch):
    make_clip(tmp_path / "clips" / "s" / "a.mp4", 48)
    plan(store, tmp_path / "clips", workers)
    poor = tmp_path / "ffmpeg"
    poor.write_text("#!/bin/sh\necho ' V....D libx264  H.264'\n")
    poor.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(poor))
    with pytest.raises(ConfigError, match="libwebp"):
        preview_shard(StepContext(store, workers), "s", PreviewSettings())
    assert not (tmp_path / "out" / "tables" / "window_previews").exists()


def test_warnings_name_the_clip_that_is_slower_or_lower_than_its_preview(tmp_path, make_clip, store, workers, caplog):
    make_clip(tmp_path / "clips" / "s" / "a.mp4", 24, fps=2)
    plan(store, tmp_path / "clips", workers)
    preview_shard(StepContext(store, workers), "s", PreviewSettings(target_fps=5, target_height=360))
    assert "s/a.mp4: the clip has 2 frames a second, fewer than target_fps=5" in caplog.text
    assert "s/a.mp4: the clip is 120 pixels high, lower than target_height=360" in caplog.text


def test_a_warning_names_the_clip_whose_clock_starts_anew_and_its_windows_last_as_long_as_they_are(
    tmp_path, store, workers, caplog
):
    (tmp_path / "clips" / "s").mkdir(parents=True)
    joined(tmp_path / "clips" / "s" / "a.mp4", "-c:v libx264 -bf 0 -f mpegts", (20, 40))
    _, rows = plan(store, tmp_path / "clips", workers)
    row = rows["s/a.mp4"]
    assert (row.status, row.clip_frames, row.start_s, row.end_s) == ("ok", 60, 0.0, pytest.approx(60 / 25))
    assert "s/a.mp4: its clock starts anew at frame 20: what follows goes on" in caplog.text
    preview_shard(StepContext(store, workers), "s", PreviewSettings(target_fps=5))
    (preview,) = store.read_rows(WINDOW_PREVIEWS, "s")
    assert preview.num_frames == 12


def test_an_output_path_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file"):
        Store(str(tmp_path / "file" / "out")).check_writable()


def test_window_files_are_kept_on_request_and_removed_with_their_window(tmp_path, make_clip, store, workers):
    make_clip(tmp_path / "clips" / "s" / "a.mp4", 100)
    _, rows = plan(store, tmp_path / "clips", workers, window_size=64, remainder_threshold=32, store_window_mp4=True)
    stored = sorted((tmp_path / "out").rglob("*.mp4"))
    assert [p.name for p in stored] == ["0_63.mp4", "64_99.mp4"]
    plan(store, tmp_path / "clips", workers)
    assert not list((tmp_path / "out").rglob("*.mp4"))
    assert len(rows) == 1


def test_a_dataset_in_memory_and_an_output_in_memory_work_too(tmp_path, make_clip, workers):
    data = make_clip(tmp_path / "a.mp4", 48).read_bytes()
    fs = fsspec.filesystem("memory")
    fs.pipe("/mem-clips/s/a.mp4", data)
    store = Store("memory://mem-out")
    plan(store, "memory://mem-clips", workers)
    assert preview_shard(StepContext(store, workers), "s", PreviewSettings()).ok == 1
    assert [p for p in fs.find("/mem-out") if p.endswith("0_47.webp")]


def test_finished_previews_survive_a_crash(tmp_path, make_clip, store, workers, monkeypatch):
    for name in "ab":
        make_clip(tmp_path / "clips" / "s" / f"{name}.mp4", 48)
    plan(store, tmp_path / "clips", workers)
    written = []
    real = Store.write_bytes

    def fill_the_disk(self, rel, data):
        if written:
            raise OSError(28, "No space left on device")
        written.append(rel)
        real(self, rel, data)

    monkeypatch.setattr(Store, "write_bytes", fill_the_disk)
    with pytest.raises(OSError, match="No space"):
        preview_shard(StepContext(store, workers), "s", PreviewSettings())
    monkeypatch.undo()
    assert len(store.read_rows(WINDOW_PREVIEWS, "s")) == 1
    report = preview_shard(StepContext(store, workers), "s", PreviewSettings())
    assert (report.ok, report.reused) == (2, 1)
    shutil.rmtree(tmp_path / "out" / "previews")
    assert preview_shard(StepContext(store, workers), "s", PreviewSettings()).reused == 0
